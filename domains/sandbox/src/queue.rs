//! Whose job is next.
//!
//! Each consumer's jobs wait in a line of their own, first come, first served. When a place is free, the turn is that
//! of the consumer who holds the fewest places; among those, of the one whose jobs have used the least time; among
//! those, of the one who has waited longest. Whoever has many jobs waiting, or long ones, takes turns with the others
//! all the same. Time that was used counts for as long as a consumer is about; one who comes back starts level with
//! whoever was served last, so that nobody saves up turns, and behind nobody who is about and has used less.
//!
//! Nobody's running job is stopped for another's sake, so the last free place is kept: a consumer who holds one does
//! not get it while another was about not long ago who holds none and may come back any moment.

use decores_types::ConsumerId;
use std::collections::{HashMap, VecDeque};

/// What one consumer's jobs may take of the places.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// Most places that one consumer's jobs hold at a time.
    pub places: usize,
    /// For how long, in milliseconds, the last place is kept for a consumer who was about.
    pub keep_ms: u64,
}

/// Names what waits, to take it out again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What waits for a place, in one line for each consumer. Times are of one clock that never goes back.
#[derive(Debug)]
pub struct FairQueue<T> {
    turns: Turns,
    lines: HashMap<ConsumerId, Line<T>>,
    tickets: u64,
    /// The most that a consumer who was served had used then.
    level: u64,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<(Ticket, T)>,
    running: u64,
    /// Sum of the times at which the running jobs began.
    began: u64,
    /// Milliseconds that ended jobs held places, at least one each.
    used: u64,
    /// When it was last about.
    seen: u64,
}

impl<T> Line<T> {
    fn is_idle(&self) -> bool {
        self.running == 0 && self.waiting.is_empty()
    }

    fn used(&self, now: u64) -> u64 {
        self.used.saturating_add(self.running.saturating_mul(now).saturating_sub(self.began))
    }
}

impl<T> FairQueue<T> {
    /// An empty queue.
    pub fn new(turns: Turns) -> Self {
        Self { turns, lines: HashMap::new(), tickets: 0, level: 0 }
    }

    /// Adds something at the end of its consumer's line.
    pub fn join(&mut self, consumer: ConsumerId, item: T, now: u64) -> Ticket {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let busy = self.lines.values().filter(|line| !line.is_idle());
        // Who was served need not have used the least: whoever holds fewer places comes first.
        let level = busy.map(|line| line.used(now)).fold(self.level, u64::min);
        let empty = || Line { waiting: VecDeque::new(), running: 0, began: 0, used: 0, seen: now };
        let line = self.lines.entry(consumer).or_insert_with(empty);
        if line.is_idle() {
            line.used = line.used.max(level);
        }
        line.seen = now;
        line.waiting.push_back((ticket, item));
        ticket
    }

    /// Takes something out that waits no longer; `None` if its turn has come already.
    pub fn leave(&mut self, consumer: ConsumerId, ticket: Ticket) -> Option<T> {
        let waiting = &mut self.lines.get_mut(&consumer)?.waiting;
        let at = waiting.binary_search_by_key(&ticket, |(ticket, _)| *ticket).ok()?;
        waiting.remove(at).map(|(_, item)| item)
    }

    /// What begins now, where this many places are free; `None` if nothing may.
    pub fn next(&mut self, free: usize, now: u64) -> Option<(ConsumerId, T)> {
        let ready = self.lines.iter().filter(|(_, line)| line.running < self.turns.places as u64);
        let ready = ready.filter_map(|(consumer, line)| {
            let (first, _) = line.waiting.front()?;
            Some(((line.running, line.used(now), *first), *consumer))
        });
        let ((running, used, _), consumer) = ready.min()?;
        if free == 0 || (free == 1 && running > 0 && self.is_kept(now)) {
            return None;
        }
        self.level = self.level.max(used);
        let line = self.lines.get_mut(&consumer)?;
        let (_, item) = line.waiting.pop_front()?;
        line.running += 1;
        line.began += now;
        Some((consumer, item))
    }

    /// Whether somebody who holds no place was about not long ago. Who waits and holds none comes before all others,
    /// so it is asked only where there is nobody like that.
    fn is_kept(&self, now: u64) -> bool {
        self.lines.values().any(|line| line.is_idle() && now.saturating_sub(line.seen) < self.turns.keep_ms)
    }

    /// Takes in that a job has given its place back which it had since `began`; forgets who was not about for long.
    pub fn ended(&mut self, consumer: ConsumerId, began: u64, now: u64) {
        if let Some(line) = self.lines.get_mut(&consumer) {
            line.running = line.running.saturating_sub(1);
            line.began = line.began.saturating_sub(began);
            line.used = line.used.saturating_add(now.saturating_sub(began).max(1));
            line.seen = now;
        }
        let keep = self.turns.keep_ms;
        self.lines.retain(|_, line| !line.is_idle() || now.saturating_sub(line.seen) < keep);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;

    const ALL: Turns = Turns { places: usize::MAX, keep_ms: 0 };

    fn who(n: u8) -> ConsumerId {
        ConsumerId::from_bytes([n; 16])
    }

    /// A machine with places: takes in jobs of a length, and says who held a place when.
    struct Machine {
        queue: FairQueue<u64>,
        places: usize,
        now: u64,
        /// When it ends, whose it is, when it began.
        running: Vec<(u64, ConsumerId, u64)>,
        began: Vec<(u64, ConsumerId)>,
    }

    impl Machine {
        fn new(turns: Turns, places: usize) -> Self {
            Self { queue: FairQueue::new(turns), places, now: 0, running: Vec::new(), began: Vec::new() }
        }

        fn submit(&mut self, consumer: ConsumerId, length: u64) {
            self.queue.join(consumer, length, self.now);
        }

        fn fill(&mut self) {
            while let Some((consumer, length)) = self.queue.next(self.places - self.running.len(), self.now) {
                self.running.push((self.now + length, consumer, self.now));
                self.began.push((self.now, consumer));
            }
        }

        /// Goes on to this time.
        fn until(&mut self, end: u64) {
            loop {
                self.fill();
                let Some(next) = self.running.iter().map(|(at, ..)| *at).min().filter(|at| *at <= end) else { break };
                self.now = next;
                let at = self.running.iter().position(|(at, ..)| *at == next).unwrap();
                let (_, consumer, began) = self.running.remove(at);
                self.queue.ended(consumer, began, self.now);
            }
            self.now = end;
            self.fill();
        }

        /// How long each one's jobs have held places.
        fn held(&self, consumer: ConsumerId, length: u64) -> u64 {
            self.began.iter().filter(|(_, who)| *who == consumer).map(|(at, _)| length.min(self.now - at)).sum()
        }
    }

    #[test]
    fn one_consumers_jobs_begin_in_the_order_they_came_in() {
        let mut queue = FairQueue::new(ALL);
        for n in 0..10 {
            queue.join(who(1), n, 0);
        }
        let order: Vec<i32> = std::iter::from_fn(|| queue.next(10, 0).map(|(_, n)| n)).collect();
        assert_eq!(order, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn a_job_behind_another_consumers_thousand_is_next() {
        let mut machine = Machine::new(ALL, 2);
        for _ in 0..1000 {
            machine.submit(who(1), 10);
        }
        machine.until(25);
        machine.submit(who(2), 10);
        machine.until(60);
        assert_eq!(machine.began.iter().find(|(_, consumer)| *consumer == who(2)), Some(&(30, who(2))));
    }

    #[test]
    fn long_jobs_take_no_more_time_than_short_ones() {
        let mut machine = Machine::new(ALL, 1);
        for _ in 0..10_000 {
            machine.submit(who(1), 1000);
            machine.submit(who(2), 10);
        }
        machine.until(50_000);
        let (long, short) = (machine.held(who(1), 1000), machine.held(who(2), 10));
        assert!(long.abs_diff(short) <= 1010, "{long} and {short} ms");
    }

    #[test]
    fn long_jobs_do_not_hold_every_place_while_others_wait() {
        let mut machine = Machine::new(ALL, 3);
        for _ in 0..1000 {
            machine.submit(who(1), 3_600_000);
        }
        for _ in 0..1000 {
            machine.submit(who(2), 5);
        }
        machine.until(2000);
        let long = machine.began.iter().filter(|(_, consumer)| *consumer == who(1)).count();
        assert_eq!((long, machine.began.len()), (2, 2 + 401), "each holds one, and whoever came first the third");
    }

    #[test]
    fn who_comes_back_starts_level_and_has_saved_no_turns() {
        let mut machine = Machine::new(Turns { keep_ms: 100_000, ..ALL }, 1);
        machine.submit(who(2), 1);
        machine.until(10);
        for _ in 0..1000 {
            machine.submit(who(1), 10);
        }
        machine.until(5000);
        for _ in 0..1000 {
            machine.submit(who(2), 10);
        }
        let before = machine.began.len();
        machine.until(6000);
        let theirs = machine.began[before..].iter().filter(|(_, consumer)| *consumer == who(2)).count();
        assert!((49..=52).contains(&theirs), "{theirs} of 100");
    }

    #[test]
    fn a_newcomer_does_not_wait_until_another_has_used_what_a_third_has() {
        let mut machine = Machine::new(Turns { places: 1, keep_ms: 0 }, 2);
        machine.submit(who(1), 1_000_000);
        machine.submit(who(1), 1_000_000);
        machine.until(990_000);
        for _ in 0..100_000 {
            machine.submit(who(3), 10);
        }
        machine.until(1_000_000);
        machine.submit(who(2), 10);
        machine.until(1_001_000);
        let begun = machine.began.iter().find(|(_, consumer)| *consumer == who(2)).map(|(at, _)| *at);
        assert_eq!(begun, Some(1_000_010), "as soon as a place is free");
    }

    #[test]
    fn a_consumer_holds_no_more_places_than_it_may() {
        let mut queue = FairQueue::new(Turns { places: 2, ..ALL });
        for n in 0..5 {
            queue.join(who(1), n, 0);
        }
        assert!(queue.next(8, 0).is_some() && queue.next(7, 0).is_some());
        assert!(queue.next(6, 0).is_none());
        queue.ended(who(1), 0, 1);
        assert!(queue.next(7, 1).is_some());
    }

    #[test]
    fn the_last_place_is_kept_for_who_was_about_and_no_longer() {
        let mut queue = FairQueue::new(Turns { keep_ms: 100, ..ALL });
        queue.join(who(2), 0, 0);
        queue.next(2, 0).unwrap();
        for n in 1..5 {
            queue.join(who(1), n, 0);
        }
        assert_eq!(queue.next(1, 0).unwrap().0, who(1), "a place is taken by who holds none");
        queue.ended(who(2), 0, 50);
        assert!(queue.next(1, 50).is_none(), "the first consumer holds one, the second was here");
        assert_eq!(queue.next(2, 50).unwrap().0, who(1), "of two, one is left");
        queue.join(who(3), 9, 60);
        assert_eq!(queue.next(1, 60).unwrap().0, who(3), "a third holds none");
        queue.ended(who(3), 60, 70);
        assert!(queue.next(1, 169).is_none());
        assert!(queue.next(1, 170).is_some(), "nobody was about for long");
    }

    #[test]
    fn what_left_is_not_begun_and_blocks_nothing() {
        let mut queue = FairQueue::new(ALL);
        let tickets: Vec<Ticket> = (0..5).map(|n| queue.join(who(1), n, 0)).collect();
        assert_eq!(queue.leave(who(1), tickets[0]), Some(0));
        assert_eq!(queue.leave(who(1), tickets[3]), Some(3));
        assert_eq!(queue.leave(who(1), tickets[3]), None);
        assert_eq!(queue.next(1, 0), Some((who(1), 1)));
        assert_eq!(queue.leave(who(1), tickets[1]), None, "its turn has come");
        assert_eq!(queue.next(0, 0), None, "where no place is free, nothing begins");
        let rest: Vec<i32> = std::iter::from_fn(|| queue.next(1, 0).map(|(_, n)| n)).collect();
        assert_eq!(rest, [2, 4]);
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let mut queue = FairQueue::new(Turns { keep_ms: 10, ..ALL });
        for n in 0..100 {
            queue.join(who(n), (), u64::from(n));
            queue.next(1, u64::from(n)).unwrap();
            queue.ended(who(n), u64::from(n), u64::from(n));
        }
        assert_eq!(queue.lines.len(), 10);
    }

    /// Any mix of lengths, arrivals and departures: every job begins or left, and nobody waits through more turns of
    /// one other consumer than time and places allow.
    #[test]
    fn nobody_starves_whatever_the_others_do() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for round in 0..50 {
            let places = 1 + usize::try_from(random(4)).unwrap();
            let mut machine = Machine::new(Turns { keep_ms: random(500), ..ALL }, places);
            let patient = who(0);
            let (mut joined, mut left) = (0, 0);
            for _ in 0..300 {
                let consumer = who(1 + u8::try_from(random(5)).unwrap());
                for _ in 0..random(8) {
                    let length = 1 + random(200);
                    let ticket = machine.queue.join(consumer, length, machine.now);
                    joined += 1;
                    if random(10) == 0 && machine.queue.leave(consumer, ticket).is_some() {
                        left += 1;
                    }
                }
                machine.until(machine.now + random(50));
            }
            machine.submit(patient, 1);
            let asked = machine.now;
            // Each of the five others may be served before, and every place may just have been taken.
            machine.until(asked + 6 * 200);
            let begun = machine.began.iter().any(|(_, consumer)| *consumer == patient);
            assert!(begun, "round {round}: it waits for more than everybody's turn");
            machine.until(u64::from(u32::MAX));
            assert_eq!(machine.began.len(), joined + 1 - left, "round {round}");
        }
    }
}
