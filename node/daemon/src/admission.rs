//! Room for jobs from the first byte of a submission to their end: see [`Shares`].

use decores_api::{Code, Problem};
use decores_sandbox::{NoRoom, ShareLimits, Shares, Stage};
use decores_types::ConsumerId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Who has how many jobs here.
pub(crate) struct Admission(Mutex<Shares>);

impl Admission {
    pub(crate) fn new(limits: ShareLimits) -> Self {
        Self(Mutex::new(Shares::new(limits)))
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a job of this consumer would be taken in now.
    pub(crate) fn check(&self, consumer: ConsumerId) -> Result<(), Problem> {
        self.shares().check(consumer).map_err(refused)
    }

    /// Makes room for a job whose payload is about to arrive.
    pub(crate) fn begin(self: &Arc<Self>, consumer: ConsumerId) -> Result<Place, Problem> {
        self.shares().begin(consumer).map_err(refused)?;
        Ok(Place { admission: Arc::clone(self), consumer, stage: Stage::Arriving, bytes: 0 })
    }
}

/// Room for one job, given back on drop.
pub(crate) struct Place {
    admission: Arc<Admission>,
    consumer: ConsumerId,
    stage: Stage,
    bytes: u64,
}

impl Place {
    /// Counts bytes of the payload that are about to be stored.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), Problem> {
        self.admission.shares().grow(self.consumer, bytes).map_err(refused)?;
        self.bytes += bytes;
        Ok(())
    }

    /// The job has come this far.
    pub(crate) fn advance(&mut self, to: Stage) {
        self.admission.shares().advance(self.consumer, self.stage, to);
        self.stage = to;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.admission.shares().end(self.consumer, self.stage, self.bytes);
    }
}

fn refused(why: NoRoom) -> Problem {
    let (code, hint) = match why {
        NoRoom::Queue => (Code::Unavailable, "submit again after `Retry-After`"),
        NoRoom::Waiting(_) => (
            Code::TooManyRequests,
            "submit again when some of them have ended; the operator can let more wait: `jobs.queue`, `jobs.queue_per_consumer`",
        ),
        NoRoom::Arriving(_) => (
            Code::TooManyRequests,
            "submit again when one of them has arrived; the operator can let more arrive: `jobs.uploads_per_consumer`",
        ),
        NoRoom::Bytes(_) => (
            Code::TooManyRequests,
            "submit again when some of your jobs have ended; the operator can allow more: `jobs.payload_bytes_per_consumer`",
        ),
    };
    Problem::new(code, why.to_string()).hint(hint)
}
