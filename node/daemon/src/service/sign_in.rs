//! API keys: the one door, and who holds them.

use crate::node::{Node, store_problem};
use crate::records::Held;
use crate::summary::Cause;
use decores_access::{Action, ApiKeyRecord, ApiKeyText, Principal, Refusal, Role, authenticate as admit};
use decores_api::admin::{ApiKey, ApiKeyCreated, ApiKeyRequest};
use decores_api::{Code, Problem};
use decores_audit::code::Code as LogCode;
use decores_audit::event::Event;
use decores_audit::ports::{Change, Select, StoreError};
use decores_http::Failure;
use decores_types::{ApiKeyId, ConsumerId};
use std::sync::Arc;

/// Longest an API key may live.
const MAX_LIFE_SECONDS: u64 = 31_536_000;
/// Longest name of an API key, in bytes.
const MAX_NAME: usize = 64;
/// State of a key that opens.
const ACTIVE: i64 = 0;
/// State of a revoked key.
const REVOKED: i64 = 1;

fn lookup(node: &Node, key: &ApiKeyText) -> [u8; 32] {
    node.index.lookup("api-key", key.expose().as_bytes())
}

/// Who presents this token? What is refused here is counted, not logged one by one.
pub(crate) async fn authenticate(node: &Node, token: Option<&str>) -> Result<Principal, Problem> {
    let refuse = |cause, refusal: Refusal| {
        node.summary.count(cause, node.clock.now());
        metrics::counter!("decores_sign_in_refused_total").increment(1);
        Err(Failure::from(refusal).0)
    };
    let Some(token) = token else { return refuse(Cause::NoKey, Refusal::Unauthenticated) };
    let Ok(key) = ApiKeyText::parse(token) else { return refuse(Cause::MalformedKey, Refusal::Unauthenticated) };
    let held: Option<Held<ApiKeyRecord>> =
        node.records.get(&lookup(node, &key)).await.map_err(|e| store_problem(&e))?;
    match admit(held.as_ref().map(|h| &h.row), node.clock.now()) {
        Ok(principal) => Ok(principal),
        Err(refusal @ Refusal::Expired) => refuse(Cause::ExpiredKey, refusal),
        Err(refusal) => refuse(Cause::UnknownKey, refusal),
    }
}

/// A refusal after sign-in is an entry.
pub(crate) async fn refused(node: &Arc<Node>, who: &Principal, refusal: Refusal) {
    match refusal {
        Refusal::Forbidden(action) => enter(node, who, action, "role"),
        Refusal::NotFound(action) => enter(node, who, action, "not-found"),
        Refusal::Unauthenticated | Refusal::Expired => {}
    }
}

/// Passes a result on; a refusal in it is an entry. What is malformed or broke off was not refused, but not understood.
pub(crate) async fn note<T>(
    node: &Arc<Node>,
    who: &Principal,
    action: Action,
    result: Result<T, Problem>,
) -> Result<T, Problem> {
    if let Err(problem) = &result {
        match problem.code {
            Code::IdempotencyConflict
            | Code::StateConflict
            | Code::OfferInvalid
            | Code::TooLarge
            | Code::Refused
            | Code::TooManyRequests
            | Code::Unavailable => enter(node, who, action, problem.code.as_str()),
            Code::Malformed
            | Code::Unauthenticated
            | Code::KeyExpired
            | Code::Forbidden
            | Code::NotFound
            | Code::MethodNotAllowed
            | Code::RequestTimeout
            | Code::Gone
            | Code::UnsupportedMediaType
            | Code::Internal => {}
        }
    }
    result
}

/// Writes the entry without keeping the caller waiting: how long an answer takes must not tell what was refused.
/// A key that is refused too often is counted instead.
fn enter(node: &Arc<Node>, who: &Principal, action: Action, reason: &str) {
    if !node.refusals.admit(who.api_key()) {
        node.summary.count(Cause::Refused, node.clock.now());
        return;
    }
    let (Ok(action), Ok(reason)) = (LogCode::parse(action.as_str()), LogCode::parse(reason)) else { return };
    let event = Event::AccessRefused { consumer: Some(who.consumer()), api_key: None, action, reason };
    let node = Arc::clone(node);
    tokio::spawn(async move { node.note(vec![event]).await });
}

/// Composes a new key: its text, its record, and what has to be written.
pub(crate) fn compose(
    node: &Node,
    role: Role,
    name: String,
    life_ms: u64,
) -> Result<(ApiKeyText, ApiKeyRecord, Change, Event), StoreError> {
    let key = ApiKeyText::generate(&*node.random);
    let now = node.clock.now();
    let record = ApiKeyRecord {
        id: ApiKeyId::random(&*node.random),
        consumer: ConsumerId::random(&*node.random),
        role,
        name,
        created: now,
        expires: now.plus_ms(life_ms),
        revoked: false,
    };
    let change = node.records.insert(&lookup(node, &key), None, ACTIVE, &record)?;
    let event = Event::ApiKeyCreated {
        api_key: record.id,
        consumer: record.consumer,
        role: role_code(role)?,
        expires: record.expires,
    };
    Ok((key, record, change, event))
}

fn role_code(role: Role) -> Result<LogCode, StoreError> {
    LogCode::parse(&role.to_string()).map_err(|e| StoreError::Failed { during: "naming a role", source: e.into() })
}

pub(crate) async fn create_api_key(node: &Node, request: &ApiKeyRequest) -> Result<ApiKeyCreated, Problem> {
    let malformed = |detail: &str| Problem::new(Code::Malformed, detail);
    let role = Role::parse(&request.role).ok_or_else(|| malformed("`role` must be `consumer` or `operator`"))?;
    let name = &request.name;
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(malformed("`name` must have 1 to 64 printable characters"));
    }
    if request.expires_seconds == 0 || request.expires_seconds > MAX_LIFE_SECONDS {
        return Err(malformed("`expiresSeconds` must lie between 1 and 31536000"));
    }
    let life = request.expires_seconds * 1000;
    let (key, record, change, event) = compose(node, role, name.clone(), life).map_err(|e| store_problem(&e))?;
    node.persist(vec![change], vec![event]).await.map_err(|e| store_problem(&e))?;
    Ok(ApiKeyCreated { api_key: key.expose().to_owned(), record: wire(record) })
}

pub(crate) async fn api_keys(node: &Node) -> Result<Vec<ApiKey>, Problem> {
    Ok(all(node).await?.into_iter().map(|held| wire(held.row)).collect())
}

pub(crate) async fn all(node: &Node) -> Result<Vec<Held<ApiKeyRecord>>, Problem> {
    let mut keys: Vec<Held<ApiKeyRecord>> = Vec::new();
    loop {
        let select = Select { before: keys.last().map(|k| k.sequence), limit: 1000, ..Select::default() };
        let page = node.records.list(select).await.map_err(|e| store_problem(&e))?;
        if page.is_empty() {
            return Ok(keys);
        }
        keys.extend(page);
    }
}

pub(crate) async fn revoke_api_key(node: &Node, key: ApiKeyId) -> Result<(), Problem> {
    let found = all(node).await?.into_iter().find(|held| held.row.id == key);
    let mut held = found.ok_or_else(|| Problem::new(Code::NotFound, "not found"))?;
    if held.row.revoked {
        return Ok(());
    }
    held.row.revoked = true;
    let change = node.records.update(&held, REVOKED).map_err(|e| store_problem(&e))?;
    let ApiKeyRecord { id, consumer, role, expires, .. } = held.row;
    let role = role_code(role).map_err(|e| store_problem(&e))?;
    let event = Event::ApiKeyRevoked { api_key: id, consumer, role, expires };
    node.persist(vec![change], vec![event]).await.map_err(|e| store_problem(&e))
}

fn wire(record: ApiKeyRecord) -> ApiKey {
    ApiKey {
        id: record.id,
        consumer: record.consumer,
        name: record.name,
        role: record.role.to_string(),
        created: record.created,
        expires: record.expires,
        revoked: record.revoked,
    }
}
