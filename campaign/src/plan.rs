//! What each run does: a pure function of seed and index, so that any run can be had again.

use std::fmt;

/// Runs of a chain share one home, one after the other, so that histories get longer.
pub const CHAIN: u64 = 5;
/// Of so many chains, one is of a node that is no root's and has its engines started by a service.
const SERVED: u64 = 4;

/// The kinds of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Processes are killed.
    Kill,
    /// The power goes.
    Power,
    /// The disk is full.
    Disk,
    /// System calls fail.
    Inject,
    /// Processes stand still.
    Stop,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Kill, Self::Power, Self::Disk, Self::Inject, Self::Stop];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
            Self::Disk => "disk",
            Self::Inject => "inject",
            Self::Stop => "stop",
        }
    }
}

/// Of every fifteen runs, nine kill, two cut the power, two inject, one fills the disk and one stops.
const SHARES: [Kind; 15] = {
    use Kind::{Disk, Inject, Kill, Power, Stop};
    [Kill, Power, Kill, Inject, Kill, Disk, Kill, Kill, Power, Kill, Stop, Kill, Inject, Kill, Kill]
};

/// When the damage is done: when the job is first seen in a state, or at an instant after its submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// It waits for a place.
    Queued,
    /// Its engine starts and compiles.
    Starting,
    /// It runs.
    Running,
    /// Its output is being sealed.
    Sealing,
    /// What it held is being destroyed.
    Wiping,
    /// It has ended.
    Done,
    /// Whatever it does then.
    Instant,
}

/// Who is killed or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// `decoresd`.
    Node,
    /// The process that runs the job.
    Engine,
    /// The process that compiles its program.
    Compile,
    /// The process that starts engines.
    Launcher,
    /// The process that encrypts a scratch.
    Server,
    /// The process that runs a container.
    Helper,
    /// The program in a container.
    Contained,
    /// Node and launcher, and nobody else.
    Supervisors,
    /// The service that starts engines for a node that is not root.
    Service,
    /// All of them.
    All,
}

/// What is left after the power went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// All that reached the disk.
    Image,
    /// Less: of what was not synced, any part may be missing.
    Tail,
}

/// What happens while the disk is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The node lives through it.
    Ridden,
    /// It is killed, and started on the full disk.
    Killed,
}

/// A system call that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its names, as `strace` takes them.
    pub calls: &'static str,
    /// What it fails with.
    pub error: &'static str,
    /// Whether it fails for the launcher and the engines, not for the node.
    pub launcher: bool,
}

/// What is done to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// `SIGKILL`.
    Kill(Victim),
    /// A power cut.
    Power(Cut),
    /// A full disk.
    Disk(Full),
    /// Failing system calls.
    Inject(Fault),
    /// `SIGSTOP`, for longer than any limit of time.
    Stop(Victim),
}

/// What the job's program is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// Copies its input and ends.
    Quick,
    /// Holds its input in memory for a while.
    Patient,
    /// Has its input and output on the scratch for a while.
    Files,
    /// The same, with more scratch than memory.
    LargeScratch,
    /// Takes long to compile.
    Heavy,
    /// Has a large output.
    Large,
    /// In a container: copies a large input and ends.
    Contained,
    /// In a container: has its input and output on the scratch for a while.
    ContainedPatient,
}

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Seed of the campaign.
    pub seed: u64,
    /// Place in it.
    pub index: u64,
    /// What is done.
    pub damage: Damage,
    /// When.
    pub moment: Moment,
    /// To which job.
    pub program: Program,
    /// Milliseconds from the submission to [`Moment::Instant`], and other delays.
    pub instant_ms: u64,
    /// Whether another job of the run is cancelled before the damage.
    pub cancels: bool,
    /// Whether the node is a user's, and a service of root's starts its engines.
    pub served: bool,
    /// For choices during the run.
    pub dice: u64,
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, and the same everywhere.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same way for a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

/// Every combination of moment and damage of a kind that can happen.
pub fn combinations(kind: Kind) -> Vec<(Moment, Damage)> {
    use Moment::{Done, Instant, Queued, Running, Sealing, Starting, Wiping};
    const ALL: [Moment; 7] = [Queued, Starting, Running, Sealing, Wiping, Done, Instant];
    let fault = |calls, error, launcher| Damage::Inject(Fault { calls, error, launcher });
    let node = |calls, error| fault(calls, error, false);
    let each = |moments: &[Moment], damages: &[Damage]| {
        damages.iter().flat_map(|damage| moments.iter().map(|moment| (*moment, *damage))).collect::<Vec<_>>()
    };
    match kind {
        Kind::Kill => {
            let kill = Damage::Kill;
            let mut found = each(&ALL, &[kill(Victim::Node), kill(Victim::Launcher), kill(Victim::All)]);
            found.extend(each(&[Starting, Running, Sealing, Instant], &[kill(Victim::Engine)]));
            found.extend(each(&[Starting, Instant], &[kill(Victim::Compile)]));
            found.extend(each(&[Running], &[kill(Victim::Server)]));
            found.extend(each(&[Starting, Running, Instant], &[kill(Victim::Helper)]));
            found.extend(each(&[Running], &[kill(Victim::Contained), kill(Victim::Supervisors)]));
            found
        }
        Kind::Power => each(&ALL, &[Damage::Power(Cut::Image), Damage::Power(Cut::Tail)]),
        Kind::Disk => each(&ALL, &[Damage::Disk(Full::Ridden), Damage::Disk(Full::Killed)]),
        Kind::Inject => {
            let faults = [
                node("write", "EIO"),
                node("write", "ENOSPC"),
                node("pwrite64", "EIO"),
                node("pwrite64", "ENOSPC"),
                // Of names for one thing, whichever a library calls, today or tomorrow.
                node("fsync,fdatasync", "EIO"),
                node("fsync,fdatasync", "ENOSPC"),
                node("rename,renameat,renameat2", "EIO"),
                node("unlink,unlinkat", "EIO"),
            ];
            let mut found = each(&[Queued, Running, Sealing, Instant], &faults);
            found.extend(each(&[Queued], &[fault("mount", "EIO", true), fault("umount2", "EIO", true)]));
            found
        }
        Kind::Stop => {
            let stop = Damage::Stop;
            let mut found =
                each(&[Queued, Starting, Running, Sealing, Instant], &[stop(Victim::Node), stop(Victim::Launcher)]);
            found.extend(each(&[Starting, Running, Instant], &[stop(Victim::Engine)]));
            found.extend(each(&[Running], &[stop(Victim::Helper)]));
            found
        }
    }
}

/// The run at an index of a campaign.
pub fn run(seed: u64, index: u64) -> Run {
    let kind = kind(index);
    let place = usize::try_from(index % SHARES.len() as u64).unwrap();
    let (round, share) = (index / SHARES.len() as u64, SHARES.iter().filter(|k| **k == kind).count() as u64);
    let before = SHARES[..place].iter().filter(|k| **k == kind).count() as u64;
    // The combinations of a kind come one after the other, from a place that the seed decides.
    let combinations = combinations(kind);
    let first = Dice::new(seed).roll();
    let at = first.wrapping_add(round * share + before) % combinations.len() as u64;
    let (moment, damage) = combinations[usize::try_from(at).unwrap()];
    let mut dice = Dice::new(seed ^ index.wrapping_mul(0xd129_0d3a_9c5e_4d27));
    let served = (index / CHAIN) % SERVED == 1;
    let damage = if served { served_damage(damage, &mut dice) } else { damage };
    let program = program(moment, damage, &mut dice);
    let instant_ms = dice.below(2500);
    Run { seed, index, damage, moment, program, instant_ms, cancels: dice.below(4) == 0, served, dice: dice.roll() }
}

/// The kind of the run at an index.
pub fn kind(index: u64) -> Kind {
    SHARES[usize::try_from(index % SHARES.len() as u64).unwrap()]
}

/// Where there is a service, it takes the place of every other one that a whole node can lose.
const fn served_damage(damage: Damage, dice: &mut Dice) -> Damage {
    match damage {
        Damage::Kill(Victim::Node | Victim::Launcher | Victim::All) if dice.below(2) == 0 => {
            Damage::Kill(Victim::Service)
        }
        damage => damage,
    }
}

/// A program that stays long enough in the state that is waited for.
fn program(moment: Moment, damage: Damage, dice: &mut Dice) -> Program {
    use Program::{Contained, ContainedPatient, Files, Heavy, Large, LargeScratch, Patient, Quick};
    let of: &[Program] = match (moment, damage) {
        (_, Damage::Kill(Victim::Server)) => &[LargeScratch],
        (_, Damage::Kill(Victim::Compile)) => &[Heavy],
        (Moment::Starting, Damage::Kill(Victim::Helper)) => &[Contained],
        (_, Damage::Kill(Victim::Helper | Victim::Contained | Victim::Supervisors) | Damage::Stop(Victim::Helper)) => {
            &[ContainedPatient]
        }
        (Moment::Starting, _) => &[Heavy, Contained],
        (Moment::Running, _) => &[Patient, Files, LargeScratch, ContainedPatient, ContainedPatient],
        (Moment::Sealing, _) => &[Large, Files, Contained],
        (Moment::Instant, _) => {
            &[Quick, Patient, Files, LargeScratch, Heavy, Large, Contained, ContainedPatient, ContainedPatient]
        }
        (Moment::Queued | Moment::Wiping | Moment::Done, _) => &[Quick, Files, Large, Contained, Contained],
    };
    of[usize::try_from(dice.below(of.len() as u64)).unwrap()]
}

impl Run {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self.damage {
            Damage::Kill(_) => Kind::Kill,
            Damage::Power(_) => Kind::Power,
            Damage::Disk(_) => Kind::Disk,
            Damage::Inject(_) => Kind::Inject,
            Damage::Stop(_) => Kind::Stop,
        }
    }

    /// Why this machine, or whoever is asking, cannot do it.
    pub fn obstacle(&self, root: bool) -> Option<&'static str> {
        match self.damage {
            _ if root => None,
            _ if self.served => Some("a service of root's needs root"),
            Damage::Power(_) | Damage::Disk(_) => Some("mounting an image needs root"),
            Damage::Inject(_) => Some("tracing a node that hides its memory needs root"),
            Damage::Kill(_) | Damage::Stop(_) => None,
        }
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, moment, program, .. } = self;
        let damage = match self.damage {
            Damage::Kill(victim) => format!("kill {victim:?}"),
            Damage::Power(cut) => format!("power {cut:?}"),
            Damage::Disk(full) => format!("disk {full:?}"),
            Damage::Inject(Fault { calls, error, .. }) => format!("inject {error} in {calls}"),
            Damage::Stop(victim) => format!("stop {victim:?}"),
        };
        let served = if self.served { ", served" } else { "" };
        write!(f, "run {index}: {damage} at {moment:?}, {program:?}{served}")?;
        if *moment == Moment::Instant { write!(f, " after {} ms", self.instant_ms) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_an_index_are_always_the_same_run() {
        for index in 0..300 {
            assert_eq!(run(7, index), run(7, index));
        }
        assert!((0..300).any(|index| run(7, index) != run(8, index)));
    }

    #[test]
    fn the_dice_are_those_of_the_paper() {
        let mut dice = Dice::new(1_234_567);
        let rolled = [dice.roll(), dice.roll(), dice.roll()];
        assert_eq!(rolled, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn a_full_plan_covers_every_moment_and_victim() {
        for seed in 0..20 {
            let runs: Vec<Run> = (0..300).map(|index| run(seed, index)).collect();
            for kind in Kind::ALL {
                for wanted in combinations(kind) {
                    assert!(runs.iter().any(|r| (r.moment, r.damage) == wanted), "{wanted:?} with seed {seed}");
                }
            }
            assert!(runs.iter().filter(|r| r.damage == Damage::Kill(Victim::Service)).count() > 5);
            assert!(runs.iter().all(|r| r.served || r.damage != Damage::Kill(Victim::Service)));
        }
    }

    #[test]
    fn the_shares_of_a_full_plan_are_those_that_are_told() {
        let count = |kind| (0..300).filter(|index| super::kind(*index) == kind).count();
        assert_eq!(Kind::ALL.map(count), [180, 40, 20, 40, 20]);
    }

    #[test]
    fn without_root_nothing_is_done_that_needs_it() {
        for kind in Kind::ALL {
            for (_, damage) in combinations(kind) {
                let run = Run { damage, ..run(1, 0) };
                assert_eq!(run.obstacle(false).is_some(), matches!(kind, Kind::Power | Kind::Disk | Kind::Inject));
                assert_eq!(run.obstacle(true), None);
                assert!(Run { served: true, ..run }.obstacle(false).is_some());
            }
        }
    }
}
