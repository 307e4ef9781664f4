//! Paths of version 1.

/// Liveness; no key needed.
pub const HEALTHZ: &str = "/healthz";
/// Prometheus metrics.
pub const METRICS: &str = "/metrics";
/// This API's description; no key needed.
pub const OPENAPI: &str = "/v1/openapi.json";
/// The signed node statement; no key needed.
pub const NODE: &str = "/v1/node";
/// What the node is doing.
pub const STATUS: &str = "/v1/status";
/// Asks for an offer.
pub const OFFERS: &str = "/v1/offers";
/// Shows the isolation plan for a spec, without running it.
pub const PLANS: &str = "/v1/plans";
/// Submits and lists jobs.
pub const JOBS: &str = "/v1/jobs";
/// One job.
pub const JOB: &str = "/v1/jobs/{job}";
/// Stops a job.
pub const JOB_CANCEL: &str = "/v1/jobs/{job}/cancel";
/// The sealed output.
pub const JOB_RESULT: &str = "/v1/jobs/{job}/result";
/// The sealed standard error.
pub const JOB_LOGS: &str = "/v1/jobs/{job}/logs";
/// The receipt.
pub const JOB_RECEIPT: &str = "/v1/jobs/{job}/receipt";
/// The newest signed checkpoint.
pub const LOG_CHECKPOINT: &str = "/v1/log/checkpoint";
/// Tiles, as C2SP tlog-tiles names them.
pub const LOG_TILE: &str = "/v1/log/tile/{*path}";
/// A C2SP tlog-proof of one entry.
pub const LOG_PROOF: &str = "/v1/log/proofs/{index}";
/// Entries, as JSON.
pub const LOG_ENTRIES: &str = "/v1/log/entries";
/// The node's keys.
pub const KEYS: &str = "/v1/keys";
/// Alerts.
pub const ALERTS: &str = "/v1/alerts";
/// Acknowledges an alert.
pub const ALERT_ACK: &str = "/v1/alerts/{alert}/ack";
/// Tries unfinished wipes again.
pub const MEND: &str = "/v1/mend";
/// API keys.
pub const API_KEYS: &str = "/v1/apikeys";
/// One API key.
pub const API_KEY: &str = "/v1/apikeys/{key}";
