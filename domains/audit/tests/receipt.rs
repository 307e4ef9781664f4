//! Receipts: what is accepted, what is refused, and that no single bit can be changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::*;
use decores_audit::receipt::predicate::Predicate;
use decores_audit::receipt::{Opening, Receipt, ReceiptFile};
use decores_audit::trust::{Policy, Trust};
use decores_audit::verify::{Claim, NotJson, Report, Require, Status, Verdict, verify};
use decores_keys::RootSource;
use decores_types::{Digest, JobState, Protection, Reason};

fn judged(file: &ReceiptFile) -> Report {
    verify(&file.to_bytes().unwrap(), &trust(), None, &[]).unwrap()
}

fn require(text: &str) -> Require {
    Require::parse(text).unwrap()
}

#[tokio::test]
async fn a_good_receipt_is_accepted() {
    let bytes = opened().await.to_bytes().unwrap();
    let output = evidence(b"hello", b"a file");
    let report = verify(&bytes, &trust(), Some(&output), &[require("output"), require("protection=process")]).unwrap();
    assert_eq!(report.verdict, Verdict::Accepted);
    for result in &report.claims {
        let expected = match result.claim {
            Claim::Image | Claim::Evidence | Claim::Witnesses | Claim::Anchor => Status::NotClaimed,
            _ => Status::Holds,
        };
        assert_eq!(result.status, expected, "{}: {}", result.claim, result.detail);
    }
    let summary = report.receipt.unwrap();
    assert_eq!((summary.job, summary.node.as_str()), (predicate().job, "example"));
}

#[tokio::test]
async fn without_the_file_the_output_is_signed_but_not_compared() {
    for file in [opened().await, receipt_of(predicate()).await] {
        let report = judged(&file);
        assert!(report.is_accepted());
        let output = report.claims.iter().find(|r| r.claim == Claim::Output).unwrap();
        assert_eq!((output.status, output.detail.as_str()), (Status::NotChecked, "signed, file not compared"));
        let demanded = verify(&file.to_bytes().unwrap(), &trust(), None, &[require("output")]).unwrap();
        assert!(!demanded.is_accepted());
    }
    let closed = receipt_of(predicate()).await.to_bytes().unwrap();
    let output = evidence(b"hello", b"a file");
    assert!(!verify(&closed, &trust(), Some(&output), &[]).unwrap().is_accepted(), "given, but not comparable");
}

#[tokio::test]
async fn an_unknown_issuer_is_refused_and_nothing_else_is_judged() {
    let bytes = opened().await.to_bytes().unwrap();
    let report = verify(&bytes, &Trust::default(), None, &[]).unwrap();
    assert!(!report.is_accepted());
    assert_eq!(report.status(Claim::Issuer), Status::DoesNotHold);
    assert!(report.claims.iter().skip(1).all(|r| r.status == Status::NotChecked));
    assert!(report.receipt.is_none());
}

#[tokio::test]
async fn demands_that_nothing_meets_are_refused() {
    let bytes = opened().await.to_bytes().unwrap();
    for demand in ["protection=enclave", "protection=container", "evidence", "anchor", "witnesses"] {
        let report = verify(&bytes, &trust(), None, &[require(demand)]).unwrap();
        assert!(!report.is_accepted(), "{demand}");
        let trust = Trust { policy: Policy { require: vec![require(demand)], ..Policy::default() }, ..trust() };
        assert!(!verify(&bytes, &trust, None, &[]).unwrap().is_accepted(), "{demand} in the trust file");
    }
    let trust = Trust { policy: Policy { witnesses: 1, ..Policy::default() }, ..trust() };
    assert_eq!(verify(&bytes, &trust, None, &[]).unwrap().status(Claim::Witnesses), Status::DoesNotHold);
    for bad in ["protection=best", "protection", "", "wip", "protection=", "image=sha256:00", "image="] {
        assert_eq!(Require::parse(bad).is_ok(), bad == "protection", "{bad}");
    }
}

#[tokio::test]
async fn a_containers_receipt_names_its_image_and_what_held_it() {
    let bytes = contained_opened().await.to_bytes().unwrap();
    let demand = format!("image={}", image());
    assert_eq!(require(&demand).to_string(), demand);
    let demands = [require(&demand), require("protection=container"), require("isolation")];
    let report = verify(&bytes, &trust(), None, &demands).unwrap();
    assert_eq!(report.verdict, Verdict::Accepted);
    let found = |claim| report.claims.iter().find(|r| r.claim == claim).unwrap();
    assert_eq!(found(Claim::Image).status, Status::Holds);
    assert!(found(Claim::Image).detail.starts_with(&image().to_string()));
    assert!(found(Claim::Isolation).detail.contains("container by libcontainer"), "{}", found(Claim::Isolation).detail);

    let other = require(&format!("image={}", Digest::of(b"other")));
    let report = verify(&bytes, &trust(), None, &[require(&demand), other]).unwrap();
    assert_eq!(report.status(Claim::Image), Status::DoesNotHold, "another image is demanded");
    let closed = receipt_of(contained()).await.to_bytes().unwrap();
    let report = verify(&closed, &trust(), None, &[require(&demand)]).unwrap();
    assert_eq!(report.status(Claim::Image), Status::NotChecked, "nobody opened it");
    assert!(!report.is_accepted());
}

#[tokio::test]
async fn only_kata_is_a_virtual_machine() {
    let mut told = contained();
    told.protection = Some(Protection::Vm);
    assert_eq!(judged(&receipt_of(told.clone()).await).status(Claim::Protection), Status::DoesNotHold);
    told.isolation.as_mut().unwrap().container.as_mut().unwrap().runtime = code("kata");
    assert_eq!(judged(&receipt_of(told).await).status(Claim::Protection), Status::Holds);
}

#[tokio::test]
async fn a_container_that_was_lost_is_no_claim_and_one_that_never_began_no_lie() {
    let mut told = contained();
    (told.result.state, told.result.reason, told.result.exit) = (JobState::Failed, Reason::EngineLost, None);
    (told.program, told.image, told.input, told.output) = (None, None, None, None);
    told.isolation.as_mut().unwrap().container = None;
    assert_eq!(judged(&receipt_of(told.clone()).await).status(Claim::Protection), Status::NotClaimed);
    (told.result.reason, told.times.started) = (Reason::ProgramInvalid, None);
    let report = judged(&receipt_of(told).await);
    assert_eq!((report.status(Claim::Protection), report.status(Claim::Image)), (Status::Holds, Status::NotClaimed));
    assert!(report.is_accepted());
}

/// What a lying or broken node could sign and log, and the claim that finds it.
#[tokio::test]
async fn what_the_node_says_is_held_against_itself_and_the_spec() {
    type Lie = (&'static str, Claim, fn(&mut Predicate));
    let lies: [Lie; 23] = [
        ("another program", Claim::Program, |p| p.program = p.output),
        ("no program", Claim::Program, |p| p.program = None),
        ("another input", Claim::Input, |p| p.input = p.output),
        ("done without output", Claim::Output, |p| p.output = None),
        ("no protection", Claim::Protection, |p| p.protection = None),
        ("less protection", Claim::Protection, |p| p.spec.protection = Protection::Vm),
        ("enclave without evidence", Claim::Evidence, |p| p.protection = Some(Protection::Enclave)),
        ("stronger words", Claim::Evidence, |p| {
            p.strength.insert("wipe".to_owned(), decores_types::Strength::Proved);
        }),
        ("no isolation", Claim::Isolation, |p| p.isolation = None),
        ("no seccomp", Claim::Isolation, |p| p.isolation.as_mut().unwrap().seccomp = false),
        ("other limits", Claim::Limits, |p| p.limits.as_mut().unwrap().memory_bytes += 1),
        ("done with exit 1", Claim::Result, |p| p.result.exit = Some(1)),
        ("exit-nonzero with 0", Claim::Result, |p| {
            (p.result.state, p.result.reason) = (JobState::Failed, Reason::ExitNonzero);
        }),
        ("ended before it began", Claim::Times, |p| p.times.ended = NOW),
        ("never started", Claim::Times, |p| p.times.started = None),
        ("an incomplete wipe", Claim::Wipe, |p| p.wipe.complete = false),
        ("a failed check", Claim::Wipe, |p| p.wipe.checks[1].passed = false),
        ("a better category", Claim::Wipe, |p| p.wipe.category = Some(p.wipe.checks[5].category)),
        ("one check of six", Claim::Wipe, |p| p.wipe.checks.truncate(1)),
        ("no look at the sealed input", Claim::Wipe, |p| p.wipe.checks.truncate(5)),
        ("an exit, but no program", Claim::Program, |p| {
            (p.result.state, p.result.reason, p.result.exit) = (JobState::Failed, Reason::ExitNonzero, Some(3));
            p.program = None;
        }),
        ("another key in the spec", Claim::Spec, |p| p.spec.output_key.public.0[0] ^= 1),
        ("another log", Claim::Log, |p| p.node.log = "other.example/log".to_owned()),
    ];
    for (what, claim, lie) in lies {
        let mut told = predicate();
        lie(&mut told);
        let report = judged(&receipt_of(told).await);
        assert_eq!(report.status(claim), Status::DoesNotHold, "{what}");
        assert!(!report.is_accepted(), "{what}");
    }
}

#[tokio::test]
async fn an_attempt_that_never_ran_has_a_receipt_too() {
    let report = judged(&receipt_of(never_ran()).await);
    assert_eq!(report.verdict, Verdict::Accepted);
    for claim in [Claim::Program, Claim::Output, Claim::Protection, Claim::Limits] {
        assert_eq!(report.status(claim), Status::NotClaimed, "{claim}");
    }
    assert_eq!(report.status(Claim::Wipe), Status::Holds);
}

#[tokio::test]
async fn an_attempt_without_engine_still_held_a_key_and_an_input() {
    for left_out in 0..2 {
        let mut told = never_ran();
        told.wipe.checks.remove(left_out);
        told.wipe.category = told.wipe.checks.iter().map(|c| c.category).min();
        assert_eq!(judged(&receipt_of(told).await).status(Claim::Wipe), Status::DoesNotHold, "{left_out}");
    }
}

#[test]
fn a_payload_that_would_not_read_back_is_not_made() {
    let changes: [(&str, fn(&mut Predicate)); 4] = [
        ("a number beyond 2^53", |p| p.spec.limits.memory_bytes = (1 << 53) + 1),
        ("the largest number", |p| p.result.usage.as_mut().unwrap().cpu_ms = u64::MAX),
        ("a list out of order", |p| p.isolation.as_mut().unwrap().namespaces.reverse()),
        ("a short log key", |p| p.log_key.0.truncate(31)),
    ];
    for (what, change) in changes {
        let mut told = predicate();
        change(&mut told);
        assert!(decores_audit::receipt::build::payload(told).is_err(), "{what}");
    }
}

#[test]
fn usage_that_nobody_vouches_for_is_left_out() {
    let mut told = predicate();
    let usage = told.result.usage.as_mut().unwrap();
    (usage.wall_ms, usage.compile_ms) = (None, None);
    let payload = String::from_utf8(decores_audit::receipt::build::payload(told).unwrap()).unwrap();
    assert!(payload.contains(r#""usage":{"cpuMs":40,"memoryBytes":1048576}"#), "{payload}");
}

#[tokio::test]
async fn weakened_settings_are_said_and_can_be_refused() {
    let mut told = predicate();
    (told.insecure, told.root_source) = (vec![code("insecure_http")], RootSource::BesideData);
    let bytes = receipt_of(told).await.to_bytes().unwrap();
    let report = verify(&bytes, &trust(), None, &[]).unwrap();
    assert!(report.is_accepted());
    let settings = report.claims.iter().find(|r| r.claim == Claim::Settings).unwrap();
    assert_eq!(settings.status, Status::NotClaimed);
    assert!(settings.detail.contains("insecure_http") && settings.detail.contains("beside the data"));
    assert!(!verify(&bytes, &trust(), None, &[require("settings")]).unwrap().is_accepted());
}

#[tokio::test]
async fn an_output_that_was_changed_is_refused() {
    let bytes = opened().await.to_bytes().unwrap();
    for (stdout, file) in [("hello!", "a file"), ("hello", "a fill"), ("", "a file")] {
        let output = evidence(stdout.as_bytes(), file.as_bytes());
        let report = verify(&bytes, &trust(), Some(&output), &[]).unwrap();
        assert_eq!(report.status(Claim::Output), Status::DoesNotHold);
        assert!(!report.is_accepted());
    }
    let mut incomplete = evidence(b"hello", b"a file");
    incomplete.files.clear();
    assert!(!verify(&bytes, &trust(), Some(&incomplete), &[]).unwrap().is_accepted());
}

#[tokio::test]
async fn no_bit_of_the_output_can_be_changed() {
    let bytes = opened().await.to_bytes().unwrap();
    for (at, bit) in (0..b"hello".len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut changed = *b"hello";
        changed[at] ^= 1 << bit;
        let output = evidence(&changed, b"a file");
        assert!(!verify(&bytes, &trust(), Some(&output), &[]).unwrap().is_accepted(), "bit {bit} of byte {at}");
    }
}

#[tokio::test]
async fn no_bit_of_the_receipt_can_be_changed() {
    let mut bytes = opened().await.to_bytes().unwrap();
    let (trust, output) = (trust(), evidence(b"hello", b"a file"));
    assert!(verify(&bytes, &trust, Some(&output), &[]).unwrap().is_accepted());
    let mut not_json = 0;
    for at in 0..bytes.len() {
        for bit in 0..8 {
            bytes[at] ^= 1 << bit;
            // Without the file too: it must not be the comparison alone that finds it.
            match verify(&bytes, &trust, None, &[]) {
                Ok(report) => assert!(!report.is_accepted(), "bit {bit} of byte {at} went unseen"),
                Err(NotJson) => not_json += 1,
            }
            bytes[at] ^= 1 << bit;
        }
    }
    assert!(not_json > 0);
}

#[tokio::test]
async fn what_is_no_json_is_told_apart() {
    for bytes in [b"".as_slice(), b"receipt", b"{", b"\xff\xfe", b"{}x"] {
        assert_eq!(verify(bytes, &trust(), None, &[]), Err(NotJson));
    }
    for bytes in [b"{}".as_slice(), b"[]", b"null", b"1"] {
        assert!(!verify(bytes, &trust(), None, &[]).unwrap().is_accepted());
    }
    let deep = ["[".repeat(40), "]".repeat(40)].concat();
    assert!(!verify(deep.as_bytes(), &trust(), None, &[]).unwrap().is_accepted());
    let large = vec![b' '; (1 << 20) + 1];
    assert!(!verify(&large, &trust(), None, &[]).unwrap().is_accepted());
}

#[tokio::test]
async fn an_opening_of_another_job_is_refused() {
    let other = decores_types::CommitmentKey::from_bytes([8; 32]);
    let wrong_key = Opening::new(&other, Digest::of(b"program"), Digest::of(b"input"), Some(manifest()));
    let wrong_program = Opening::new(&commitment_key(), Digest::of(b"other"), Digest::of(b"input"), Some(manifest()));
    for (opening, claim) in [(wrong_key, Claim::Spec), (wrong_program, Claim::Program)] {
        let report = judged(&ReceiptFile { opening: Some(opening), ..opened().await });
        assert_eq!(report.status(claim), Status::DoesNotHold);
        assert!(!report.is_accepted());
    }
}

#[tokio::test]
async fn a_second_receipt_for_one_attempt_does_not_fit_its_entry() {
    let log = TestLog::new();
    let honest = receipt_in(&log, &identity(), predicate()).await;
    let mut told = predicate();
    told.times.ended = told.times.ended.plus_ms(1);
    let payload = decores_audit::receipt::build::payload(told).unwrap();
    let second = ReceiptFile { envelope: identity().envelope(payload), ..honest };
    let report = judged(&second);
    assert_eq!(report.status(Claim::Issuer), Status::Holds, "the node did sign it");
    assert_eq!(report.status(Claim::Commitment), Status::DoesNotHold, "which proves the lie");
}

#[test]
fn a_trust_file_whose_parts_do_not_fit_is_refused() {
    let good = trust();
    assert_eq!(Trust::parse(&good.to_bytes().unwrap()).unwrap(), good);
    let changes: [fn(&mut Trust); 7] = [
        |t| t.version = 2,
        |t| t.nodes[0].identity.id = TestKey::new(3).id(),
        |t| t.nodes[0].identity.algorithm = "rsa".to_owned(),
        |t| t.nodes[0].log.origin = "other.example/log".to_owned(),
        |t| t.nodes[0].log.key.insert(3, 'x'),
        |t| t.nodes[0].name.clear(),
        |t| t.nodes.push(t.nodes[0].clone()),
    ];
    for change in changes {
        let mut bad = good.clone();
        change(&mut bad);
        assert!(Trust::parse(&bad.to_bytes().unwrap()).is_err());
    }
    let text = String::from_utf8(good.to_bytes().unwrap()).unwrap();
    assert!(Trust::parse(text.replace("\"nodes\"", "\"more\":1,\"nodes\"").as_bytes()).is_err());
    assert!(Trust::parse(text.replace("\"require\":[]", "\"require\":[\"best\"]").as_bytes()).is_err());
    assert!(Trust::parse(text.replace("{\"nodes\"", "{ \"nodes\"").as_bytes()).is_ok(), "people edit it");
}

#[tokio::test]
async fn what_is_written_reads_back() {
    let file = opened().await;
    let receipt = Receipt::parse(&file.to_bytes().unwrap()).unwrap();
    assert_eq!(receipt.file, file);
    assert_eq!(*receipt.predicate(), predicate());
}
