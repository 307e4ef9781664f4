//! What one consumer may have here at a time, so that room is left for others.

use decores_types::ConsumerId;
use std::collections::HashMap;

/// The limits. A consumer's jobs count from the first byte of a submission to their end.
#[derive(Clone, Copy, Debug)]
pub struct ShareLimits {
    /// Jobs of all consumers: those that run, wait and arrive.
    pub jobs: usize,
    /// Jobs of one consumer that wait or arrive; and never more than there is room for others.
    pub waiting: usize,
    /// Submissions of one consumer that arrive.
    pub arriving: usize,
    /// Bytes of one consumer's sealed payloads.
    pub payload_bytes: u64,
}

/// How far a job has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its payload arrives.
    Arriving,
    /// It waits for its turn.
    Waiting,
    /// It has, or had, a place to run in.
    Running,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoom {
    /// For anybody.
    #[error("the queue is full")]
    Queue,
    /// For this consumer: as many wait as may.
    #[error("{0} of your jobs wait already; the other places in the queue are kept for others")]
    Waiting(usize),
    /// For this consumer: as many arrive as may.
    #[error("{0} of your submissions are arriving already, and no more are taken in at a time")]
    Arriving(usize),
    /// For this consumer: its payloads take all the bytes that they may.
    #[error("your jobs' payloads would take more than the {0} bytes that one consumer's may")]
    Bytes(u64),
}

/// Who has how much.
#[derive(Debug)]
pub struct Shares {
    limits: ShareLimits,
    jobs: usize,
    of: HashMap<ConsumerId, Share>,
}

#[derive(Debug, Default)]
struct Share {
    arriving: usize,
    waiting: usize,
    running: usize,
    bytes: u64,
}

impl Share {
    fn of(&mut self, stage: Stage) -> &mut usize {
        match stage {
            Stage::Arriving => &mut self.arriving,
            Stage::Waiting => &mut self.waiting,
            Stage::Running => &mut self.running,
        }
    }
}

impl Shares {
    /// Nobody has anything.
    pub fn new(limits: ShareLimits) -> Self {
        Self { limits, jobs: 0, of: HashMap::new() }
    }

    /// Whether there is room for one more job of this consumer.
    ///
    /// # Errors
    /// If not: what is full.
    pub fn check(&self, consumer: ConsumerId) -> Result<(), NoRoom> {
        let free = self.limits.jobs.saturating_sub(self.jobs);
        if free == 0 {
            return Err(NoRoom::Queue);
        }
        let Some(share) = self.of.get(&consumer) else { return Ok(()) };
        let waiting = share.arriving + share.waiting;
        // Among many who want all they can get, everybody ends with as much as is left for the next.
        if waiting >= self.limits.waiting || waiting > free {
            return Err(NoRoom::Waiting(waiting));
        }
        if share.arriving >= self.limits.arriving {
            return Err(NoRoom::Arriving(share.arriving));
        }
        Ok(())
    }

    /// Makes room for a job that begins to arrive; [`Self::end`] takes it back.
    ///
    /// # Errors
    /// If there is none.
    pub fn begin(&mut self, consumer: ConsumerId) -> Result<(), NoRoom> {
        self.check(consumer)?;
        self.jobs += 1;
        self.of.entry(consumer).or_default().arriving += 1;
        Ok(())
    }

    /// Counts bytes of a payload.
    ///
    /// # Errors
    /// If they are too many; they are not counted then.
    pub fn grow(&mut self, consumer: ConsumerId, bytes: u64) -> Result<(), NoRoom> {
        let share = self.of.entry(consumer).or_default();
        let grown = share.bytes.saturating_add(bytes);
        if grown > self.limits.payload_bytes {
            return Err(NoRoom::Bytes(self.limits.payload_bytes));
        }
        share.bytes = grown;
        Ok(())
    }

    /// Takes in that a job has come further.
    pub fn advance(&mut self, consumer: ConsumerId, from: Stage, to: Stage) {
        let share = self.of.entry(consumer).or_default();
        *share.of(from) = share.of(from).saturating_sub(1);
        *share.of(to) += 1;
    }

    /// Takes back what a job had.
    pub fn end(&mut self, consumer: ConsumerId, stage: Stage, bytes: u64) {
        self.jobs = self.jobs.saturating_sub(1);
        let Some(share) = self.of.get_mut(&consumer) else { return };
        *share.of(stage) = share.of(stage).saturating_sub(1);
        share.bytes = share.bytes.saturating_sub(bytes);
        if share.arriving + share.waiting + share.running == 0 {
            self.of.remove(&consumer);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const LIMITS: ShareLimits = ShareLimits { jobs: 102, waiting: 1000, arriving: 1000, payload_bytes: 100 };

    fn who(n: u8) -> ConsumerId {
        ConsumerId::from_bytes([n; 16])
    }

    /// Takes all that a consumer can get, and lets it wait.
    fn flood(shares: &mut Shares, consumer: ConsumerId) -> usize {
        let mut taken = 0;
        while shares.begin(consumer).is_ok() {
            shares.advance(consumer, Stage::Arriving, Stage::Waiting);
            taken += 1;
        }
        taken
    }

    #[test]
    fn a_flood_takes_half_and_each_further_one_leaves_room_for_the_next() {
        let mut shares = Shares::new(LIMITS);
        let taken: Vec<usize> = (1..6).map(|n| flood(&mut shares, who(n))).collect();
        assert_eq!(taken, [52, 26, 13, 6, 3]);
        assert_eq!(shares.begin(who(1)), Err(NoRoom::Waiting(52)));
        shares.begin(who(9)).unwrap();
    }

    #[test]
    fn what_runs_is_not_counted_as_waiting_but_takes_its_place() {
        let mut shares = Shares::new(ShareLimits { jobs: 3, ..LIMITS });
        for _ in 0..2 {
            shares.begin(who(1)).unwrap();
            shares.advance(who(1), Stage::Arriving, Stage::Running);
        }
        shares.begin(who(1)).unwrap();
        assert_eq!(shares.begin(who(1)), Err(NoRoom::Queue));
        assert_eq!(shares.begin(who(2)), Err(NoRoom::Queue));
        shares.end(who(1), Stage::Running, 0);
        shares.begin(who(2)).unwrap();
    }

    #[test]
    fn more_than_may_wait_or_arrive_is_refused_by_name() {
        let mut shares = Shares::new(ShareLimits { waiting: 3, arriving: 2, ..LIMITS });
        shares.begin(who(1)).unwrap();
        shares.begin(who(1)).unwrap();
        assert_eq!(shares.begin(who(1)), Err(NoRoom::Arriving(2)));
        shares.advance(who(1), Stage::Arriving, Stage::Waiting);
        shares.begin(who(1)).unwrap();
        assert_eq!(shares.begin(who(1)), Err(NoRoom::Waiting(3)));
        shares.begin(who(2)).unwrap();
    }

    #[test]
    fn a_payload_that_is_too_much_for_its_consumer_is_refused_and_given_back() {
        let mut shares = Shares::new(LIMITS);
        shares.begin(who(1)).unwrap();
        shares.begin(who(1)).unwrap();
        shares.grow(who(1), 60).unwrap();
        assert_eq!(shares.grow(who(1), 41), Err(NoRoom::Bytes(100)));
        shares.grow(who(1), 40).unwrap();
        shares.end(who(1), Stage::Arriving, 60);
        shares.grow(who(1), 60).unwrap();
    }

    #[test]
    fn who_has_nothing_is_forgotten() {
        let mut shares = Shares::new(LIMITS);
        shares.begin(who(1)).unwrap();
        shares.grow(who(1), 7).unwrap();
        shares.end(who(1), Stage::Arriving, 7);
        assert!(shares.of.is_empty() && shares.jobs == 0);
    }
}
