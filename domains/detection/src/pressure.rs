//! What a node runs out of: from readings of the machine to the causes for which it takes nothing new.
//!
//! A cause holds at once, and is over only after [`CALM`] looks in a row that leave a margin: a node at the edge does
//! not answer now one thing, now another.

use std::collections::BTreeMap;

/// Looks in a row that must be good before a cause is over.
pub const CALM: u32 = 3;
/// A cause is over when this part of the reserve is free beyond it.
const MARGIN: u64 = 4;

/// Why a node takes nothing new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The clock jumped a moment ago.
    Clock,
    /// Few descriptors are left.
    Descriptors,
    /// Little space, or few files, are left where the node keeps its state.
    Disk,
    /// The launcher is gone.
    Launcher,
    /// The log cannot be extended.
    Log,
    /// Little memory is left.
    Memory,
    /// Every place is blocked by a wipe that failed.
    Places,
    /// The store does not take what is written.
    Store,
}

impl Cause {
    /// All of them, sorted by their names.
    pub const ALL: [Self; 8] = [
        Self::Clock,
        Self::Descriptors,
        Self::Disk,
        Self::Launcher,
        Self::Log,
        Self::Memory,
        Self::Places,
        Self::Store,
    ];

    /// The name in the log, at the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Descriptors => "descriptors",
            Self::Disk => "disk",
            Self::Launcher => "launcher",
            Self::Log => "log",
            Self::Memory => "memory",
            Self::Places => "places",
            Self::Store => "store",
        }
    }

    /// What it means, for people.
    pub const fn explain(self) -> &'static str {
        match self {
            Self::Clock => "its clock jumped a moment ago",
            Self::Descriptors => "it has few descriptors left",
            Self::Disk => "its disk is nearly full",
            Self::Launcher => "its launcher is gone, and it stops; the operator must start it again",
            Self::Log => "its log cannot be extended",
            Self::Memory => "its memory is nearly used up",
            Self::Places => "every place is blocked by a wipe that failed",
            Self::Store => "its store does not take what is written",
        }
    }
}

/// What must stay free, so that what was acknowledged can still be ended, wiped and logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reserve {
    /// Bytes of the file system that holds the state.
    pub disk_bytes: u64,
    /// Files that can still be made there.
    pub disk_files: u64,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Descriptors.
    pub descriptors: u64,
}

/// One look at the machine and the node. What could not be read is absent, and counts as used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Bytes free on the disk.
    pub disk_bytes: Option<u64>,
    /// Files that can still be made there.
    pub disk_files: Option<u64>,
    /// Bytes of memory that can still be had.
    pub memory_bytes: Option<u64>,
    /// Descriptors that can still be had.
    pub descriptors: Option<u64>,
    /// Causes that are there or not.
    pub faults: Faults,
}

/// What is in order or not, without a measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// The clock jumped a moment ago.
    pub clock: bool,
    /// The launcher is gone.
    pub launcher: bool,
    /// The log could not be extended.
    pub log: bool,
    /// Every place is blocked.
    pub places: bool,
    /// A commit failed since the last look, or the last one did.
    pub store: bool,
}

/// How much of something there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Supply {
    Short,
    Near,
    Enough,
}

impl Supply {
    const fn of(free: Option<u64>, reserve: u64) -> Self {
        match free {
            Some(free) if free >= reserve.saturating_add(reserve / MARGIN) => Self::Enough,
            Some(free) if free >= reserve => Self::Near,
            _ => Self::Short,
        }
    }

    const fn unless(fault: bool) -> Self {
        if fault { Self::Short } else { Self::Enough }
    }
}

/// The causes that hold.
#[derive(Clone, Debug)]
pub struct Pressure {
    reserve: Reserve,
    /// Each with the good looks in a row since.
    held: BTreeMap<Cause, u32>,
}

impl Pressure {
    /// Before the first look nothing holds.
    pub const fn new(reserve: Reserve) -> Self {
        Self { reserve, held: BTreeMap::new() }
    }

    /// Takes in one look.
    pub fn look(&mut self, reading: &Reading) {
        for cause in Cause::ALL {
            match (self.supply(cause, reading), self.held.get_mut(&cause)) {
                (Supply::Short, _) => {
                    self.held.insert(cause, 0);
                }
                (Supply::Near, Some(calm)) => *calm = 0,
                (Supply::Enough, Some(calm)) if *calm + 1 < CALM => *calm += 1,
                (Supply::Enough, Some(_)) => {
                    self.held.remove(&cause);
                }
                (_, None) => {}
            }
        }
    }

    /// The causes that hold, sorted.
    pub fn causes(&self) -> impl Iterator<Item = Cause> + '_ {
        self.held.keys().copied()
    }

    /// Whether this much can be written without touching the reserve.
    pub fn fits(&self, bytes: u64, reading: &Reading) -> bool {
        reading.disk_bytes.is_some_and(|free| free.saturating_sub(self.reserve.disk_bytes) >= bytes)
    }

    fn supply(&self, cause: Cause, reading: &Reading) -> Supply {
        let Reserve { disk_bytes, disk_files, memory_bytes, descriptors } = self.reserve;
        let Faults { clock, launcher, log, places, store } = reading.faults;
        match cause {
            Cause::Disk => Supply::of(reading.disk_bytes, disk_bytes).min(Supply::of(reading.disk_files, disk_files)),
            Cause::Memory => Supply::of(reading.memory_bytes, memory_bytes),
            Cause::Descriptors => Supply::of(reading.descriptors, descriptors),
            Cause::Clock => Supply::unless(clock),
            Cause::Launcher => Supply::unless(launcher),
            Cause::Log => Supply::unless(log),
            Cause::Places => Supply::unless(places),
            Cause::Store => Supply::unless(store),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: Reserve = Reserve { disk_bytes: 1000, disk_files: 10, memory_bytes: 1000, descriptors: 100 };
    const GOOD: Reading = Reading {
        disk_bytes: Some(5000),
        disk_files: Some(500),
        memory_bytes: Some(5000),
        descriptors: Some(500),
        faults: Faults { clock: false, launcher: false, log: false, places: false, store: false },
    };

    fn after(looks: &[Reading]) -> Vec<Cause> {
        let mut pressure = Pressure::new(RESERVE);
        looks.iter().for_each(|reading| pressure.look(reading));
        pressure.causes().collect()
    }

    #[test]
    fn what_is_short_holds_at_once_and_by_its_own_name() {
        let faults = |faults| Reading { faults, ..GOOD };
        let none = Faults::default();
        let cases = [
            (Cause::Disk, Reading { disk_bytes: Some(999), ..GOOD }),
            (Cause::Disk, Reading { disk_files: Some(9), ..GOOD }),
            (Cause::Memory, Reading { memory_bytes: Some(999), ..GOOD }),
            (Cause::Descriptors, Reading { descriptors: Some(99), ..GOOD }),
            (Cause::Clock, faults(Faults { clock: true, ..none })),
            (Cause::Launcher, faults(Faults { launcher: true, ..none })),
            (Cause::Log, faults(Faults { log: true, ..none })),
            (Cause::Places, faults(Faults { places: true, ..none })),
            (Cause::Store, faults(Faults { store: true, ..none })),
        ];
        for (cause, reading) in cases {
            assert_eq!(after(&[GOOD, reading]), [cause]);
        }
        assert_eq!(after(&[GOOD]), []);
        assert_eq!(after(&[Reading { disk_bytes: Some(1000), descriptors: Some(100), ..GOOD }]), []);
    }

    #[test]
    fn what_cannot_be_read_counts_as_used_up() {
        assert_eq!(after(&[Reading::default()]), [Cause::Descriptors, Cause::Disk, Cause::Memory]);
    }

    #[test]
    fn a_cause_is_over_after_calm_looks_with_a_margin_only() {
        let (short, near) = (Reading { disk_bytes: Some(1), ..GOOD }, Reading { disk_bytes: Some(1100), ..GOOD });
        assert_eq!(after(&[short, GOOD, GOOD]), [Cause::Disk]);
        assert_eq!(after(&[short, GOOD, GOOD, GOOD]), []);
        assert_eq!(after(&[short, near, near, near, near]), [Cause::Disk]);
        assert_eq!(after(&[short, GOOD, GOOD, near, GOOD, GOOD]), [Cause::Disk]);
        assert_eq!(after(&[short, GOOD, GOOD, short, GOOD, GOOD]), [Cause::Disk]);
        assert_eq!(after(&[near, near]), []);
    }

    #[test]
    fn causes_do_not_end_each_other() {
        let disk = Reading { disk_bytes: Some(1), ..GOOD };
        let both = Reading { memory_bytes: Some(1), ..disk };
        assert_eq!(after(&[both, disk, disk, disk]), [Cause::Disk]);
    }

    #[test]
    fn a_reserve_beyond_every_machine_is_never_met() {
        let mut pressure = Pressure::new(Reserve { memory_bytes: u64::MAX, ..RESERVE });
        for _ in 0..10 {
            pressure.look(&GOOD);
        }
        assert!(pressure.causes().eq([Cause::Memory]));
    }

    #[test]
    fn what_is_announced_must_fit_beside_the_reserve() {
        let pressure = Pressure::new(RESERVE);
        assert!(pressure.fits(4000, &GOOD));
        assert!(!pressure.fits(4001, &GOOD));
        assert!(!pressure.fits(1, &Reading { disk_bytes: Some(900), ..GOOD }));
        assert!(!pressure.fits(0, &Reading { disk_bytes: None, ..GOOD }));
    }

    #[test]
    fn names_are_sorted_as_the_status_shows_them() {
        assert!(Cause::ALL.is_sorted_by_key(|cause| cause.as_str()));
        assert!(Cause::ALL.is_sorted());
    }
}
