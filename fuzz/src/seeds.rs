//! Where fuzzing starts: good inputs of every target, from the conformance vectors and from fixtures.

use crate::fixtures::conformance;
use crate::{api, client, documents, images, log, offers, sealed};
use decores_audit::receipt::{Opening, Receipt, ReceiptFile};
use decores_sandbox::protocol::EngineJob;
use decores_types::bundle::{InputManifest, Item, Manifest as _};
use decores_types::{Attempt, ConsumerId, Digest, JobId, JobSpec, KeyId, canonical};
use serde_json::Value;
use std::collections::BTreeMap;

/// Inputs of one target.
type Inputs = Vec<Vec<u8>>;

fn json(name: &str) -> Value {
    serde_json::from_slice(&conformance(name)).unwrap()
}

/// The texts of a member, in each case of a list.
fn texts(list: &Value, member: &str) -> Inputs {
    let cases = list.as_array().unwrap();
    cases.iter().filter_map(|case| case[member].as_str()).map(|text| text.as_bytes().to_vec()).collect()
}

/// The input with a first byte that says how it is taken.
fn marked(mark: u8, bytes: &[u8]) -> Vec<u8> {
    [&[mark], bytes].concat()
}

fn receipts() -> Inputs {
    texts(&json("receipt/index.json"), "file")
        .iter()
        .map(|name| conformance(&format!("receipt/{}", std::str::from_utf8(name).unwrap())))
        .collect()
}

/// A receipt whose commitments are opened.
fn opened() -> (Receipt, Opening) {
    let receipt = Receipt::parse(&conformance("receipt/good-opened.json")).unwrap();
    let opening = receipt.file.opening.clone().unwrap();
    (receipt, opening)
}

fn spec() -> JobSpec {
    opened().0.predicate().spec.clone()
}

fn receipt() -> Inputs {
    let files = receipts();
    let readable = files.iter().filter_map(|bytes| ReceiptFile::parse(bytes).ok());
    let payloads = readable.map(|file| {
        let opening = file.opening.as_ref().map(|opening| canonical::to_vec(opening).unwrap()).unwrap_or_default();
        marked(0, &[file.envelope.payload.0.as_slice(), b"\n", &opening].concat())
    });
    let payloads: Inputs = payloads.collect();
    files.into_iter().chain(payloads).collect()
}

fn offer() -> Inputs {
    let good = offers::Good::get();
    let [document, certificate] = good.parts();
    let vectors = json("keys/offers.json");
    let (good_ones, bad_ones) = (texts(&vectors["good"], "envelope"), texts(&vectors["bad"], "envelope"));
    let own = [good.bytes().to_vec(), marked(0, &document), marked(1, &document), marked(2, &certificate)];
    own.into_iter().chain(good_ones).chain(bad_ones).collect()
}

fn checkpoint() -> Inputs {
    let vectors = json("tlog/vectors.json");
    let notes = texts(&vectors["checkpoints"], "note");
    let bodies = notes.iter().map(|note| {
        let end = note.windows(2).position(|pair| pair == b"\n\n").map_or(note.len(), |at| at + 1);
        marked(0, &note[..end])
    });
    let bodies: Inputs = bodies.collect();
    let key = vectors["vkey"].as_str().unwrap().as_bytes().to_vec();
    notes.into_iter().chain(bodies).chain([key, log::good().0]).collect()
}

fn proof() -> Inputs {
    let altered =
        [marked(0, &[0, 3, 0, 3]), marked(0, &[0, 3, 0, 3, 0, 0, 30, 0, 0, 1]), marked(1, &[1, 0, 0, 99, 0, 5])];
    texts(&json("tlog/vectors.json")["proofs"], "proof").into_iter().chain(altered).chain([log::good().1]).collect()
}

fn log_entries() -> Inputs {
    let vectors = json("events/vectors.json");
    let good: Inputs =
        vectors["good"].as_array().unwrap().iter().map(|entry| entry.as_str().unwrap().as_bytes().to_vec()).collect();
    let mut bundle = vec![3];
    for entry in good.iter().take(3) {
        bundle.extend((entry.len() as u16).to_be_bytes());
        bundle.extend(entry);
    }
    good.into_iter().chain(texts(&vectors["bad"], "entry")).chain([bundle]).collect()
}

fn bundles() -> Inputs {
    let (_, opening) = opened();
    let output = opening.output.unwrap();
    let item = Item { sha256: Digest::of(b"").into(), size: 0 };
    let input = InputManifest {
        args: vec!["--all".to_owned()],
        env: BTreeMap::from([("NAME".to_owned(), "value".to_owned())]),
        files: output.files.clone(),
        stdin: item,
    };
    vec![output.to_bytes().unwrap(), output.prelude().unwrap(), input.to_bytes().unwrap(), input.prelude().unwrap()]
}

fn engine_job() -> Inputs {
    let job = EngineJob {
        version: 1,
        job: JobId::from_bytes([1; 16]),
        attempt: Attempt(1),
        consumer: ConsumerId::from_bytes([2; 16]),
        offer: Digest::of(b"offer"),
        offer_key: KeyId::from_bytes([3; 16]),
        offer_epoch: 4,
        spec: spec(),
        scratch: Some("/scratch".to_owned()),
        compile_address_space: 4 << 30,
        module: None,
    };
    let bare = EngineJob { scratch: None, ..job.clone() };
    [job, bare].iter().map(|job| [job.to_bytes().unwrap(), vec![9; 32]].concat()).collect()
}

fn engine_events() -> Inputs {
    let commitment = "ab".repeat(32);
    let locked = r#"{"event":"locked","engine":"wasm 1","seccomp":true,"landlockAbi":7,"secrets":"mlock"}"#;
    let finished = format!(
        r#"{{"event":"finished","reason":"completed","exit":0,"program":"{commitment}","input":"{commitment}","output":"{commitment}","logs":null,"wallMs":1,"compileMs":2,"memoryBytes":65536}}"#
    );
    let all = [locked, r#"{"event":"compiling"}"#, r#"{"event":"started","compileMs":1}"#, r#"{"event":"sealing"}"#];
    vec![format!("{}\n{finished}\n", all.join("\n")).into_bytes(), finished.into_bytes()]
}

fn words() -> Inputs {
    let digits = "0123456789abcdef0123456789abcdef";
    let ids = ["job_", "off_", "con_", "ak_", "alr_", "key_"].map(|prefix| format!("{prefix}{digits}"));
    let others = [
        format!("sha256:{digits}{digits}"),
        format!("{digits}{digits}"),
        "aGVsbG8=".to_owned(),
        "wipe-incomplete".to_owned(),
        "0.1.0".to_owned(),
        "protection=vm".to_owned(),
        "a/b.c/d".to_owned(),
        "2026-01-01T00:00:00.000Z".to_owned(),
        "9999-12-30T22:00:00.000Z".to_owned(),
    ];
    ids.into_iter().chain(others).map(String::into_bytes).collect()
}

fn sealed_payload() -> Inputs {
    let small = sealed::vectors().iter().filter(|payload| payload.len() < 4096).cloned();
    let altered = [vec![0, 0], vec![0, 5, 1, 0xff, 0xff, 0, 0], vec![0, 1, 0, 0, 4, 0, 0, 1]];
    let plain = [&b"\x01\x00\x00\x00plain"[..], b"\x01\x05\x80\x00plain", b"\x01\x02\x00\x00"].map(<[u8]>::to_vec);
    small.chain(altered).chain(plain).collect()
}

/// Every operation once, with a key, and some without.
fn requests() -> Inputs {
    let (job, key) = ("job_".to_owned() + &"ab".repeat(16), api::api_key());
    let plan = format!("{{\"spec\":{}}}", String::from_utf8(canonical::to_vec(&spec()).unwrap()).unwrap());
    let reads = [
        "/healthz",
        "/v1/openapi.json",
        "/v1/node",
        "/metrics",
        "/v1/status",
        "/v1/jobs?limit=3&cursor=a",
        "/v1/jobs/JOB?after=1&wait=2",
        "/v1/jobs/JOB/result",
        "/v1/jobs/JOB/logs",
        "/v1/jobs/JOB/receipt",
        "/v1/log/checkpoint",
        "/v1/log/tile/0/000.p/5",
        "/v1/log/tile/entries/000",
        "/v1/log/proofs/7",
        "/v1/log/entries?from=1&limit=2",
        "/v1/keys",
        "/v1/alerts",
        "/v1/apikeys",
    ]
    .map(|path| (format!("GET {path}"), String::new()));
    let acts = [
        ("POST /v1/offers", r#"{"protection":"process"}"#),
        ("POST /v1/plans", &plan),
        ("POST /v1/jobs/JOB/cancel", ""),
        ("DELETE /v1/jobs/JOB/result", ""),
        ("POST /v1/alerts/alr_abababababababababababababababab/ack", ""),
        ("POST /v1/mend", ""),
        ("POST /v1/apikeys", r#"{"expiresSeconds":60,"name":"a","role":"consumer"}"#),
        ("DELETE /v1/apikeys/ak_abababababababababababababababab", ""),
    ]
    .map(|(line, body)| (line.to_owned(), body.to_owned()));
    let all = reads.into_iter().chain(acts).map(|(line, body)| {
        let line = line.replace("JOB", &job);
        format!("{line}\nauthorization: Bearer {key}\ncontent-type: application/json\n\n{body}").into_bytes()
    });
    all.chain([b"GET /v1/jobs\n\n".to_vec(), b"PUT /v1/jobs/%ff\n\n".to_vec()]).collect()
}

fn submissions() -> Inputs {
    let head = format!(
        "{{\"offer\":\"off_{}\",\"spec\":{}}}",
        "ab".repeat(16),
        String::from_utf8(canonical::to_vec(&spec()).unwrap()).unwrap()
    );
    let length = (head.len() as u32).to_be_bytes();
    [1, 4, 255].map(|pieces| [&[pieces], length.as_slice(), head.as_bytes(), b"payload"].concat()).to_vec()
}

/// What the launcher is asked and answers.
fn packets() -> Inputs {
    let plan = documents::a_plan(&spec());
    let plan = String::from_utf8(serde_json::to_vec(&plan).unwrap()).unwrap();
    let of = format!(r#""job":"job_{}","attempt":1"#, "ab".repeat(16));
    [
        r#"{"id":1,"ask":"probe"}"#.to_owned(),
        format!(r#"{{"id":2,"ask":{{"launch":{plan}}}}}"#),
        format!(r#"{{"id":3,"ask":{{"remove":{plan}}}}}"#),
        format!(r#"{{"id":4,"ask":{{"kill":{{{of}}}}}}}"#),
        format!(r#"{{"id":5,"ask":{{"inspect":{{{of}}}}}}}"#),
        r#"{"reply":{"id":5,"answer":{"inspected":{"processes":false,"cgroup":true,"mounts":false,"scratch":false}}}}"#.to_owned(),
        r#"{"reply":{"id":2,"answer":{"launched":{"pid":7,"given":{"namespaces":["mount"],"ownUser":true,"cgroup":["memory"],"scratch":"tmpfs","swap":"none"}}}}}"#.to_owned(),
        r#"{"reply":{"id":2,"answer":{"refused":"why"}}}"#.to_owned(),
        format!(r#"{{"exited":{{{of},"exit":{{"code":0,"signal":null,"deadline":false,"outOfMemory":false,"cpuMs":1,"memoryBytes":2}}}}}}"#),
        format!("job_{}-1", "ab".repeat(16)),
    ]
    .map(String::into_bytes)
    .to_vec()
}

fn keystores() -> Inputs {
    let good = json("keys/keystore.json")["good"].as_str().unwrap().as_bytes().to_vec();
    let rooted = marked(0, &good);
    vec![good, rooted]
}

fn answers() -> Inputs {
    let of = format!(r#""job":"job_{}","consumer":"con_{}","attempt":1"#, "ab".repeat(16), "cd".repeat(16));
    let step = r#""attempt":1,"state":"queued","reason":"accepted""#;
    let job = format!(
        r#"{{{of},"state":"queued","reason":"accepted","explanation":"","steps":[{{{step},"time":"2026-01-01T00:00:00.000Z"}}],"result":false,"logs":false,"receipt":false,"resubmit":false}}"#
    );
    let offer = String::from_utf8(offers::Good::get().bytes().to_vec()).unwrap();
    [
        format!(r#"{{"items":[{job}],"next":"a"}}"#),
        job,
        format!(r#"{{"envelope":{offer}}}"#),
        r#"{"entries":[{"index":1,"entry":"aGVsbG8="}],"size":2}"#.to_owned(),
        r#"{"type":"https://decores.dev/problems/gone","title":"No longer kept","status":410,"code":"gone","detail":"d","hint":"h"}"#.to_owned(),
        "https://node.example:7443".to_owned(),
    ]
    .map(String::into_bytes)
    .into_iter()
    .chain([marked(0, &client::good_statement())])
    .collect()
}

/// Every target's inputs.
pub fn seeds() -> Vec<(&'static str, Inputs)> {
    let (receipt_file, _) = opened();
    let spec = canonical::to_vec(&spec()).unwrap();
    let loose = serde_json::to_vec_pretty(&serde_json::from_slice::<Value>(&spec).unwrap()).unwrap();
    vec![
        (
            "canonical_json",
            vec![receipt_file.file.to_bytes().unwrap(), loose.clone(), b"[1e21,-0.5,\"\\u00e9\"]".to_vec()],
        ),
        ("texts", words()),
        ("spec", vec![spec, loose]),
        ("trust_file", vec![conformance("receipt/trust.json")]),
        ("bundles", bundles()),
        ("sealed_payload", sealed_payload()),
        ("offer", offer()),
        ("receipt", receipt()),
        ("checkpoint", checkpoint()),
        ("proof", proof()),
        ("log_entries", log_entries()),
        ("log_tiles", vec![vec![0, 0], vec![1, 1], vec![2, 2, 0, 0, 1, 0, 0, 1], vec![3, 2, 1, 0, 9]]),
        ("engine_job", engine_job()),
        ("engine_events", engine_events()),
        ("launcher_messages", packets()),
        ("keystore_document", keystores()),
        ("api_bodies", requests()),
        ("submission", submissions()),
        ("client_answers", answers()),
        ("client_output", vec![client::good_output(), vec![0], vec![0, 0, 0, 20, 0, 0, 1]]),
        ("image", images::seeds()),
    ]
}
