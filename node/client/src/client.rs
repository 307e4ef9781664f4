//! One client of one node.

use crate::connection::{MAX_ANSWER, PageRequest, parse, path};
use crate::{ApiKey, ClientError, Connection, Home, JobRecord, Login, NodeUrl, Prepared, Terms};
use decores_api::admin::{Alert, ApiKey as ApiKeyInfo, ApiKeyCreated, ApiKeyRequest, Key, Mended};
use decores_api::jobs::Job;
use decores_api::node::Status;
use decores_api::offers::{PlanRequest, PlanResponse};
use decores_api::{Page, paths};
use decores_types::{AlertId, ApiKeyId, Clock, Digest, JobId, JobSpec, Random};
use reqwest::Method;
use std::sync::Arc;
use std::time::Duration;

/// Longest that the node may take to try every unfinished wipe again.
const MENDING: Duration = Duration::from_secs(300);

/// A verified way to the node we are logged in to, and what we remember of it.
#[derive(Clone)]
pub struct Client {
    pub(crate) connection: Connection,
    pub(crate) login: Login,
    pub(crate) home: Home,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
}

impl Client {
    /// The client that `home` is logged in with; `url` and `key` take the place of what login stored.
    pub fn open(
        home: Home,
        url: Option<NodeUrl>,
        key: Option<ApiKey>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Result<Self, ClientError> {
        let (login, connection) = home.connect(url, key)?;
        Ok(Self { connection, login, home, clock, random })
    }

    /// The node we are logged in to.
    pub const fn login(&self) -> &Login {
        &self.login
    }

    /// A new job for this node, not submitted yet.
    pub fn draft(&self, input: &Prepared, terms: &Terms) -> Result<JobRecord, ClientError> {
        let mut record = JobRecord::new(self.login.identity, input, terms, self.random.as_ref())?;
        if terms.cache_seconds != 0 {
            let key = self.home.program_key(self.random.as_ref())?;
            // Another node knows the same program by another name.
            let named = [self.login.identity.as_bytes().as_slice(), record.program.0.as_bytes()].concat();
            record.spec.cache_id = Some(key.commit("kept program", &Digest::of(&named)));
        }
        Ok(record)
    }

    /// What the node is doing.
    pub async fn status(&self) -> Result<Status, ClientError> {
        status(&self.connection).await
    }

    /// How the node would isolate a job of this spec.
    pub async fn plan(&self, spec: &JobSpec) -> Result<serde_json::Value, ClientError> {
        let request = PlanRequest { spec: spec.clone() };
        let answer: PlanResponse = self.connection.post("plan", paths::PLANS, &request).await?;
        Ok(answer.plan)
    }

    /// A page of our jobs, newest first.
    pub async fn jobs(&self, page: &PageRequest) -> Result<Page<Job>, ClientError> {
        self.connection.get("jobs", paths::JOBS, &page.query()).await
    }

    /// One of our jobs.
    pub async fn job(&self, job: JobId) -> Result<Job, ClientError> {
        self.connection.get("job", &path(paths::JOB, "{job}", &job), &[]).await
    }

    /// Asks for a job to be stopped.
    pub async fn cancel(&self, job: JobId) -> Result<(), ClientError> {
        self.connection.act(Method::POST, &path(paths::JOB_CANCEL, "{job}", &job)).await
    }

    /// The node's keys.
    pub async fn keys(&self) -> Result<Vec<Key>, ClientError> {
        self.connection.get("keys", paths::KEYS, &[]).await
    }

    /// Alerts, newest first.
    pub async fn alerts(&self) -> Result<Vec<Alert>, ClientError> {
        self.connection.get("alerts", paths::ALERTS, &[]).await
    }

    /// Takes note of an alert.
    pub async fn acknowledge(&self, alert: AlertId) -> Result<(), ClientError> {
        self.connection.act(Method::POST, &path(paths::ALERT_ACK, "{alert}", &alert)).await
    }

    /// Has unfinished wipes tried again.
    pub async fn mend(&self) -> Result<Mended, ClientError> {
        let request = self.connection.request(Method::POST, paths::MEND);
        let response = self.connection.send(request, MENDING).await?;
        parse("mend", &self.connection.body(response, MAX_ANSWER).await?)
    }

    /// Makes an API key.
    pub async fn create_api_key(&self, request: &ApiKeyRequest) -> Result<ApiKeyCreated, ClientError> {
        self.connection.post("new API key", paths::API_KEYS, request).await
    }

    /// API keys' records.
    pub async fn api_keys(&self) -> Result<Vec<ApiKeyInfo>, ClientError> {
        self.connection.get("API keys", paths::API_KEYS, &[]).await
    }

    /// Revokes an API key.
    pub async fn revoke_api_key(&self, key: ApiKeyId) -> Result<(), ClientError> {
        self.connection.act(Method::DELETE, &path(paths::API_KEY, "{key}", &key)).await
    }

    /// What we keep of a job; refused for a job that another client submitted, or to another node.
    pub fn record(&self, job: JobId) -> Result<JobRecord, ClientError> {
        let record = self.home.job(job)?.ok_or_else(|| {
            ClientError::Input(format!(
                "{job} was not submitted from here: its keys are in the home it was submitted from"
            ))
        })?;
        if record.node == self.login.identity {
            Ok(record)
        } else {
            Err(ClientError::Mismatch(format!("{job}: it was submitted to another node, {}", record.node)))
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("login", &self.login).finish_non_exhaustive()
    }
}

/// What a node is doing, asked before there is a login.
pub(crate) async fn status(connection: &Connection) -> Result<Status, ClientError> {
    connection.get("status", paths::STATUS, &[]).await
}
