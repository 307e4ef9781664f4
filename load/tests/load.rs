//! The load, fairness and memory runs, small: what they hold at full size is in docs/performance.md.
#![allow(clippy::unwrap_used, reason = "tests")]

use decores_load::{fairness, run};
use std::time::Duration;
use tokio::task::LocalSet;

#[tokio::test]
async fn every_job_of_a_crowd_ends_once_with_a_good_receipt_and_leaves_nothing() {
    let plan = run::Plan { jobs: 160, clients: 20, slots: 4, settle: Duration::from_secs(2) };
    let outcome = LocalSet::new().run_until(run::run(plan)).await;
    assert_eq!(outcome.findings, Vec::<String>::new());
    // One in twenty is refused.
    assert_eq!(outcome.taken, 152);
    assert!(outcome.attempts >= outcome.taken);
    let (before, after) = (outcome.before.rss(), outcome.after.rss());
    assert!(after < before + (16 << 10), "{before} KiB before, {after} KiB after");
}

/// The flood's jobs take three seconds each: whoever waited behind them would wait for minutes, and even behind one that
/// runs for longer than this.
#[tokio::test]
async fn a_flood_of_long_jobs_does_not_keep_another_consumer_waiting() {
    let outcome = fairness::run(fairness::Plan { jobs: 6, flood: fairness::Kind::Spinning }).await;
    let (alone, beside) = (outcome.alone.percentile(0.5), outcome.beside.percentile(0.5));
    assert!(beside < alone + 1500.0, "{alone} ms alone, {beside} ms beside the flood");
    assert!(outcome.refused > 0 && outcome.waiting > 50, "{outcome:?}");
}
