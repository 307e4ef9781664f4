//! Principals and permits.

use crate::role::Role;
use decores_types::{ApiKeyId, ConsumerId};
use serde::Serialize;
use std::fmt;
use std::marker::PhantomData;

macro_rules! actions {
    ($($(#[$doc:meta])* $variant:ident = $text:literal,)*) => {
        /// Everything that can be allowed or refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        pub enum Action {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl Action {
            /// Every action.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name that stands in the log.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }

        /// A type for each action, so that a permit for one does not open another.
        pub mod action {
            $($(#[$doc])* #[derive(Clone, Copy, Debug)] pub struct $variant;
            impl super::ActionType for $variant {
                const ACTION: super::Action = super::Action::$variant;
            })*
        }
    };
}

/// Ties an action's type to its value.
pub trait ActionType {
    /// The action.
    const ACTION: Action;
}

actions! {
    /// See what the node is doing.
    ReadStatus = "status-read",
    /// Get an offer.
    AskOffer = "offer-ask",
    /// Submit a job.
    SubmitJob = "job-submit",
    /// See an own job, its output, logs and receipt.
    ReadJob = "job-read",
    /// Stop an own job.
    CancelJob = "job-cancel",
    /// Remove an own job's sealed output.
    DeleteResult = "job-result-delete",
    /// Read checkpoints, hash tiles and proofs.
    ReadLogProofs = "log-proofs-read",
    /// Read the log's entries.
    ReadLogEntries = "log-entries-read",
    /// Read metrics.
    ReadMetrics = "metrics-read",
    /// List the node's keys.
    ReadKeys = "keys-read",
    /// List alerts.
    ReadAlerts = "alerts-read",
    /// Acknowledge an alert.
    AcknowledgeAlert = "alerts-acknowledge",
    /// Try unfinished wipes again.
    MendWipes = "wipes-mend",
    /// List API keys.
    ReadApiKeys = "apikeys-read",
    /// Make an API key.
    CreateApiKey = "apikeys-create",
    /// Revoke an API key.
    RevokeApiKey = "apikeys-revoke",
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Somebody who has proved who they are. Made by [`crate::authenticate`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    key: ApiKeyId,
    consumer: ConsumerId,
    role: Role,
}

impl Principal {
    pub(crate) const fn new(key: ApiKeyId, consumer: ConsumerId, role: Role) -> Self {
        Self { key, consumer, role }
    }

    /// The API key that was used.
    pub const fn api_key(&self) -> ApiKeyId {
        self.key
    }

    /// The consumer it stands for.
    pub const fn consumer(&self) -> ConsumerId {
        self.consumer
    }

    /// Its role.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Asks to do something that belongs to nobody in particular.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`] where the role does not include it.
    pub fn permit<A: ActionType>(&self) -> Result<Permit<A>, Refusal> {
        if self.role.allows(A::ACTION) {
            Ok(Permit { principal: self.clone(), action: PhantomData })
        } else {
            Err(Refusal::Forbidden(A::ACTION))
        }
    }

    /// Asks to do something with what belongs to `owner`.
    ///
    /// # Errors
    /// [`Refusal::NotFound`] where it is somebody else's: the caller may not even know that it exists.
    pub fn permit_on<A: ActionType>(&self, owner: ConsumerId) -> Result<Permit<A>, Refusal> {
        if owner == self.consumer { self.permit() } else { Err(Refusal::NotFound(A::ACTION)) }
    }
}

/// Proof that one principal may do one action.
#[derive(Clone, Debug)]
pub struct Permit<A> {
    principal: Principal,
    action: PhantomData<A>,
}

impl<A> Permit<A> {
    /// Who was allowed.
    pub const fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The consumer who was allowed.
    pub const fn consumer(&self) -> ConsumerId {
        self.principal.consumer
    }
}

/// Why something is not allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No key, a malformed one, or one the node does not know.
    #[error("no API key that this node accepts")]
    Unauthenticated,
    /// The key's time is over.
    #[error("the API key has expired")]
    Expired,
    /// The role does not include the action.
    #[error("this API key's role does not include `{0}`")]
    Forbidden(Action),
    /// Not there, for this caller.
    #[error("not found")]
    NotFound(Action),
}
