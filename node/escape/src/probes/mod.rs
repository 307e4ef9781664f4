//! The probes, by what they are after.

mod bombs;
mod devices;
mod files;
mod ipc;
mod kernel;
mod mounts;
mod network;
mod privileges;
mod processes;
pub(crate) mod results;

use crate::probe::Probe;

/// All of them, in the order of the table.
pub(crate) fn all() -> impl Iterator<Item = &'static Probe> {
    let groups = [
        mounts::PROBES,
        processes::PROBES,
        kernel::PROBES,
        privileges::PROBES,
        devices::PROBES,
        files::PROBES,
        network::PROBES,
        ipc::PROBES,
        results::PROBES,
        bombs::PROBES,
    ];
    groups.into_iter().flatten()
}

/// The probe of this name.
pub(crate) fn named(name: &str) -> Option<&'static Probe> {
    all().find(|probe| probe.name == name)
}

/// A row that is run in the usual way.
const fn plain(
    name: &'static str,
    tries: &'static str,
    stops: crate::probe::Stops,
    run: fn(&crate::probe::World) -> crate::probe::Tried,
) -> Probe {
    Probe { name, tries, stops, kind: crate::probe::Kind::Plain, run }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decores_sandbox::Hole;

    #[test]
    fn every_name_is_there_once() {
        let mut names: Vec<_> = all().map(|probe| probe.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_engine_has_at_least_44_probes_and_every_one_a_mechanism() {
        let wasm = all().filter(|probe| !probe.stops.wasm.is_empty()).count();
        let container = all().filter(|probe| !probe.stops.container.is_empty()).count();
        assert!(wasm >= 44 && container >= 44, "{wasm} {container}");
    }

    #[test]
    fn every_mechanism_stops_a_probe() {
        let stops = |hole: &Hole| all().any(|p| p.stops.wasm.contains(hole) || p.stops.container.contains(hole));
        let idle: Vec<_> = Hole::ALL.iter().filter(|hole| !stops(hole)).collect();
        assert_eq!(idle, Vec::<&Hole>::new());
    }
}
