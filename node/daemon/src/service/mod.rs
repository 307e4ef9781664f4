//! The operations of the API: [`decores_http::Service`], implemented by the node.

mod admin;
pub(crate) mod jobs;
mod log;
mod offers;
pub(crate) mod sign_in;
mod submit;
pub(crate) mod taking;

use crate::node::Node;
use crate::summary::Cause;
use decores_access::{Action, Permit, Principal, Refusal, action};
use decores_api::admin::{Alert, ApiKey, ApiKeyCreated, ApiKeyRequest, Key, Mended};
use decores_api::jobs::{Job, Submission};
use decores_api::log::LogEntries;
use decores_api::node::{NodeResponse, Status};
use decores_api::offers::{OfferRequest, OfferResponse, PlanRequest, PlanResponse};
use decores_api::{Page, Problem};
use decores_http::{LogBytes, PayloadStream, SealedFile, Service, Submitted};
use decores_types::{AlertId, ApiKeyId, JobId};
use std::sync::Arc;
use std::time::Duration;

/// The node, as the API sees it.
pub(crate) struct Api(pub(crate) Arc<Node>);

impl Service for Api {
    async fn authenticate(&self, token: Option<&str>) -> Result<Principal, Problem> {
        sign_in::authenticate(&self.0, token).await
    }

    async fn refused(&self, who: &Principal, refusal: Refusal) {
        sign_in::refused(&self.0, who, refusal).await;
    }

    fn crowded(&self) {
        self.0.summary.count(Cause::Refused, self.0.clock.now());
    }

    async fn node(&self) -> Result<NodeResponse, Problem> {
        Ok(self.0.statement.clone())
    }

    async fn status(&self, permit: Permit<action::ReadStatus>) -> Result<Status, Problem> {
        admin::status(&self.0, &permit).await
    }

    async fn metrics(&self, _: Permit<action::ReadMetrics>) -> Result<String, Problem> {
        Ok(admin::metrics(&self.0))
    }

    fn admits(&self) -> Result<(), Problem> {
        let admitted = self.0.health.admits();
        if admitted.is_err() {
            self.0.summary.count(Cause::Degraded, self.0.clock.now());
        }
        admitted
    }

    async fn admits_submission(
        &self,
        permit: &Permit<action::SubmitJob>,
        idempotency_key: &str,
        payload: u64,
    ) -> Result<(), Problem> {
        submit::admits(&self.0, permit, idempotency_key, payload).await
    }

    async fn offer(&self, permit: Permit<action::AskOffer>, request: OfferRequest) -> Result<OfferResponse, Problem> {
        let made = offers::make(&self.0, &permit, &request).await;
        sign_in::note(&self.0, permit.principal(), Action::AskOffer, made).await
    }

    async fn plan(&self, permit: Permit<action::AskOffer>, request: PlanRequest) -> Result<PlanResponse, Problem> {
        let planned = offers::plan(&self.0, &request);
        sign_in::note(&self.0, permit.principal(), Action::AskOffer, planned).await
    }

    async fn submit(
        &self,
        permit: Permit<action::SubmitJob>,
        idempotency_key: String,
        submission: Submission,
        payload: PayloadStream,
    ) -> Result<Submitted, Problem> {
        let submitted = submit::submit(&self.0, &permit, &idempotency_key, submission, payload).await;
        sign_in::note(&self.0, permit.principal(), Action::SubmitJob, submitted).await
    }

    async fn jobs(
        &self,
        permit: Permit<action::ReadJob>,
        cursor: Option<String>,
        limit: usize,
    ) -> Result<Page<Job>, Problem> {
        jobs::list(&self.0, &permit, cursor.as_deref(), limit).await
    }

    async fn job(&self, who: &Principal, job: JobId, after: Option<usize>, wait: Duration) -> Result<Job, Problem> {
        jobs::show(&self.0, who, job, after, wait).await
    }

    async fn cancel(&self, who: &Principal, job: JobId) -> Result<Job, Problem> {
        jobs::cancel(&self.0, who, job).await
    }

    async fn result(&self, who: &Principal, job: JobId) -> Result<SealedFile, Problem> {
        jobs::sealed(&self.0, who, job, jobs::What::Output).await
    }

    async fn delete_result(&self, who: &Principal, job: JobId) -> Result<(), Problem> {
        jobs::delete_result(&self.0, who, job).await
    }

    async fn logs(&self, who: &Principal, job: JobId) -> Result<SealedFile, Problem> {
        jobs::sealed(&self.0, who, job, jobs::What::Logs).await
    }

    async fn receipt(&self, who: &Principal, job: JobId) -> Result<Vec<u8>, Problem> {
        jobs::receipt(&self.0, who, job).await
    }

    async fn checkpoint(&self, _: Permit<action::ReadLogProofs>) -> Result<LogBytes, Problem> {
        log::checkpoint(&self.0).await
    }

    async fn tile(&self, _: Permit<action::ReadLogProofs>, path: String) -> Result<LogBytes, Problem> {
        log::tile(&self.0, path, Cause::ProofRead).await
    }

    async fn entry_tile(&self, _: Permit<action::ReadLogEntries>, path: String) -> Result<LogBytes, Problem> {
        log::tile(&self.0, path, Cause::LogRead).await
    }

    async fn proof(&self, _: Permit<action::ReadLogProofs>, index: u64) -> Result<String, Problem> {
        log::proof(&self.0, index).await
    }

    async fn entries(
        &self,
        _: Permit<action::ReadLogEntries>,
        from: Option<u64>,
        limit: usize,
    ) -> Result<LogEntries, Problem> {
        log::entries(&self.0, from, limit).await
    }

    async fn keys(&self, _: Permit<action::ReadKeys>) -> Result<Vec<Key>, Problem> {
        admin::keys(&self.0)
    }

    async fn alerts(&self, _: Permit<action::ReadAlerts>) -> Result<Vec<Alert>, Problem> {
        admin::alerts(&self.0).await
    }

    async fn acknowledge(&self, _: Permit<action::AcknowledgeAlert>, alert: AlertId) -> Result<Alert, Problem> {
        admin::acknowledge(&self.0, alert).await
    }

    async fn mend(&self, _: Permit<action::MendWipes>) -> Result<Mended, Problem> {
        admin::mend(&self.0).await
    }

    async fn api_keys(&self, _: Permit<action::ReadApiKeys>) -> Result<Vec<ApiKey>, Problem> {
        sign_in::api_keys(&self.0).await
    }

    async fn create_api_key(
        &self,
        _: Permit<action::CreateApiKey>,
        request: ApiKeyRequest,
    ) -> Result<ApiKeyCreated, Problem> {
        sign_in::create_api_key(&self.0, &request).await
    }

    async fn revoke_api_key(&self, _: Permit<action::RevokeApiKey>, key: ApiKeyId) -> Result<(), Problem> {
        sign_in::revoke_api_key(&self.0, key).await
    }
}
