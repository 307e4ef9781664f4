//! What the node and the launcher, which has more rights, say to each other.

use crate::documents::host;
use decores_launcher::{LauncherConfig, fuzzing};
use decores_sandbox::{IsolationPlan, UserPlan};
use decores_types::Limits;
use decores_types::job::EngineKind;

const SLOTS: u32 = 4;
const FIRST_UID: u32 = 100_000;

fn config() -> LauncherConfig {
    LauncherConfig {
        engines: vec![(EngineKind::Wasm, "/usr/bin/true".into())],
        jails: "/nowhere/jails".into(),
        scratch: "/nowhere/scratch".into(),
        first_uid: FIRST_UID,
        slots: SLOTS,
        max_limits: Limits::default(),
        max_deadline_ms: 1_000_000,
        io_bytes: 1 << 30,
        owner: true,
        holes: Vec::new(),
        containers: Err("not needed here".to_owned()),
    }
}

pub(crate) fn launcher_messages(data: &[u8]) {
    if let Some((again, plan)) = fuzzing::request(data) {
        assert_eq!(fuzzing::request(&again).expect("what is sent is read").0, again);
        plan.iter().for_each(admitted);
    }
    if let Some(again) = fuzzing::message(data) {
        assert_eq!(fuzzing::message(&again).expect("what is sent is read"), again);
    }
    if let Ok(name) = std::str::from_utf8(data)
        && fuzzing::is_trace_name(name)
    {
        assert!(!name.contains(['/', '.', '\0']), "a name of ours is never a path: {name:?}");
    }
}

/// No plan with these faults is carried out, whoever sent it.
fn admitted(plan: &IsolationPlan) {
    assert!(fuzzing::is_trace_name(&fuzzing::trace_name(plan)), "what it leaves is found again");
    let (host, config) = (host(), config());
    if !fuzzing::admits(plan, &host, &config) {
        return;
    }
    assert!(!plan.network && plan.namespaces == host.namespaces);
    assert!(plan.limits.exceeds(&config.max_limits).is_none());
    assert!((1..=config.max_deadline_ms).contains(&plan.deadline_ms));
    match plan.user {
        UserPlan::Own { uid } => assert!((FIRST_UID..FIRST_UID + SLOTS).contains(&uid)),
        UserPlan::Shared => panic!("a launcher that can give users gives them"),
    }
}
