//! Why a container did not run.

use decores_sandbox::container::RunAnswer;
use std::fmt::Display;

/// Why a container did not run: what its engine or image is to blame for, or the machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The request is not one that is carried out, or the image has no such program.
    #[error("{0}")]
    Refused(String),
    /// The machine did not do it.
    #[error("{0}")]
    Failed(String),
}

impl Stop {
    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }

    pub(crate) fn failed(step: impl Display, why: impl Display) -> Self {
        Self::Failed(format!("{step}: {why}"))
    }

    /// What the engine is told.
    pub(crate) fn answer(&self) -> RunAnswer {
        match self {
            Self::Refused(why) => RunAnswer::Refused { why: why.clone() },
            Self::Failed(why) => RunAnswer::Failed { why: why.clone() },
        }
    }
}

/// Names the step that failed.
pub(crate) fn at<E: Display>(step: &'static str) -> impl Fn(E) -> Stop {
    move |why| Stop::failed(step, why)
}
