//! Documents without a signature: JSON itself, specs, trust files, bundles.

use crate::words::assert_stays;
use decores_audit::Trust;
use decores_audit::trust::MAX_TRUST;
use decores_sandbox::plan::plan;
use decores_sandbox::{ContainerHost, HostCapabilities, IsolationPlan, Namespace, Runtime, SandboxConfig};
use decores_types::bundle::{InputManifest, MAX_FILES, MAX_MANIFEST, Manifest, OutputManifest, PRELUDE, manifest_len};
use decores_types::canonical::{self, MAX_DEPTH};
use decores_types::job::MAX_SPEC_BYTES;
use decores_types::{Attempt, JobId, JobSpec, Swap};
use serde_json::Value;
use std::fmt::Debug;

/// Far more than any document of ours has.
const MAX_JSON: usize = 1 << 20;

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

pub(crate) fn canonical_json(data: &[u8]) {
    if let Ok(value) = canonical::from_json::<Value>(data, MAX_JSON) {
        assert!(depth(&value) <= MAX_DEPTH);
        let written = canonical::to_vec(&value).unwrap();
        let read: Value = canonical::from_slice(&written, MAX_JSON * 8).expect("what is written is canonical");
        assert_eq!(canonical::to_vec(&read).unwrap(), written);
        assert!(canonical::from_json::<Value>(data, data.len().saturating_sub(1)).is_err(), "the limit holds");
    }
    if let Ok(value) = canonical::from_slice::<Value>(data, MAX_JSON) {
        assert_eq!(canonical::to_vec(&value).unwrap(), data);
    }
}

/// Reads canonical bytes as `T`; whatever is read is written as the same bytes.
pub(crate) fn one_form<T>(data: &[u8], max: usize) -> Option<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + Debug,
{
    let value: T = canonical::from_slice(data, max).ok()?;
    assert_eq!(canonical::to_vec(&value).unwrap(), data);
    assert_eq!(canonical::from_json::<T>(data, max).unwrap(), value);
    Some(value)
}

pub(crate) fn host() -> HostCapabilities {
    HostCapabilities {
        own_users: true,
        namespaces: vec![Namespace::Ipc, Namespace::Mount, Namespace::Net, Namespace::Pid],
        cgroup: vec!["memory".to_owned(), "pids".to_owned()],
        landlock_abi: 6,
        seccomp: true,
        tmpfs_noswap: true,
        encrypted_scratch: true,
        swap: Swap::None,
        container: Some(ContainerHost { runtime: Runtime::Libcontainer, version: "1".to_owned() }),
        no_container: None,
        slots: 2,
    }
}

/// The plan of a spec that a node takes.
pub(crate) fn a_plan(spec: &JobSpec) -> IsolationPlan {
    plan(JobId::from_bytes([1; 16]), Attempt(1), spec, &host(), &SandboxConfig::default(), 0).unwrap()
}

pub(crate) fn spec(data: &[u8]) {
    let canonical = one_form::<JobSpec>(data, MAX_SPEC_BYTES);
    let Ok(spec) = canonical::from_json::<JobSpec>(data, MAX_SPEC_BYTES) else {
        assert_eq!(canonical, None);
        return;
    };
    let written = canonical::to_vec(&spec).unwrap();
    assert!(canonical.is_none() || written == data);
    let config = SandboxConfig::default();
    let Ok(plan) = plan(JobId::from_bytes([1; 16]), Attempt(1), &spec, &host(), &config, 0) else { return };
    assert_eq!(spec.limits.exceeds(&config.max_limits), None);
    assert_eq!((plan.limits, plan.network, spec.version), (spec.limits, false, 1));
    assert!(plan.protection >= spec.protection);
    let read: IsolationPlan = canonical::from_slice(&canonical::to_vec(&plan).unwrap(), MAX_JSON).unwrap();
    assert_eq!(read, plan);
    // What a node plans for is signed and bound to: it has one form only, and reads back.
    assert_eq!(canonical::from_slice::<JobSpec>(&written, MAX_JSON).unwrap(), spec);
}

pub(crate) fn trust_file(data: &[u8]) {
    let Ok(trust) = Trust::parse(data) else { return };
    assert!(data.len() <= MAX_TRUST && trust.version == 1);
    let written = trust.to_bytes().unwrap();
    // Written without spaces and with its escapes undone, it is no longer than what was read.
    assert_eq!(Trust::parse(&written).unwrap(), trust);
    for node in &trust.nodes {
        let key = node.log_key().expect("every pinned log has a key");
        assert_eq!((key.to_string().as_str(), key.name()), (node.log.key.as_str(), node.log.origin.as_str()));
        assert_eq!(trust.node(&node.identity.id), Some(node));
    }
}

fn manifest<T: Manifest + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let manifest = T::parse(data).ok()?;
    assert_eq!(manifest.to_bytes().unwrap(), data);
    let prelude = manifest.prelude().unwrap();
    let (head, rest) = prelude.split_first_chunk::<PRELUDE>().unwrap();
    assert_eq!(manifest_len(head).unwrap(), rest.len());
    assert_eq!(rest, data);
    Some(manifest)
}

pub(crate) fn bundles(data: &[u8]) {
    if let Some(head) = data.first_chunk::<PRELUDE>()
        && let Ok(length) = manifest_len(head)
    {
        assert!(length <= MAX_MANIFEST && data.starts_with(b"DCBN\x01\0\0\0"));
        let body = &data[PRELUDE..];
        assert_eq!(manifest::<InputManifest>(body).is_some(), InputManifest::parse(body).is_ok());
    }
    let input = manifest::<InputManifest>(data);
    let output = manifest::<OutputManifest>(data);
    assert!(input.is_none() || output.is_none(), "nothing is both");
    let files = input.map(|m| m.files).or(output.map(|m| m.files)).unwrap_or_default();
    assert!(files.len() <= MAX_FILES);
    files.iter().for_each(|file| assert_stays(&file.path));
    for pair in files.windows(2) {
        assert!(pair[0].path.as_str() < pair[1].path.as_str());
        assert!(!pair[1].path.as_str().starts_with(&format!("{}/", pair[0].path)));
    }
}
