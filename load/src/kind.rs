//! The kinds of jobs in the mix, and what each must come to.

use crate::crowd::{Member, Work, explain};
use decores_api::Code;
use decores_api::jobs::Job;
use decores_client::{ClientError, Part};
use decores_tests::wasm;
use decores_types::{JobState, Reason};

/// What is in a job, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Copies its input; the output is fetched and compared.
    Done,
    /// Ends with a code other than 0.
    Fails,
    /// Runs without end, and is cancelled.
    Cancelled,
    /// Is no program.
    Invalid,
    /// Is submitted again while it waits or runs: the same job.
    Repeated,
    /// Asks for more than the node has, and becomes no job.
    Refused,
}

impl Kind {
    /// All of them, each as often as it comes in a mix of twenty.
    pub const MIX: [Self; 20] = {
        use Kind::{Cancelled, Done, Fails, Invalid, Refused, Repeated};
        [
            Done, Fails, Done, Repeated, Done, Done, Cancelled, Done, Done, Invalid, Done, Done, Refused, Done, Done,
            Fails, Done, Done, Cancelled, Done,
        ]
    };

    /// The name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Fails => "exit code 7",
            Self::Cancelled => "cancelled",
            Self::Invalid => "no program",
            Self::Repeated => "submitted twice",
            Self::Refused => "refused",
        }
    }

    const fn end(self) -> (JobState, Reason) {
        match self {
            Self::Done | Self::Repeated => (JobState::Done, Reason::Completed),
            Self::Fails => (JobState::Failed, Reason::ExitNonzero),
            Self::Cancelled => (JobState::Cancelled, Reason::ByConsumer),
            Self::Invalid => (JobState::Failed, Reason::ProgramInvalid),
            Self::Refused => (JobState::Refused, Reason::Protection),
        }
    }
}

/// The programs of the mix, made once.
pub struct Programs {
    copies: Work,
    exits: Work,
    loops: Work,
    none: Work,
    refused: Work,
    input: Vec<u8>,
}

impl Programs {
    /// Each is small: what is measured is the node.
    pub fn new() -> Self {
        let input: Vec<u8> = (0..1024_u32).flat_map(u32::to_be_bytes).collect();
        Self {
            copies: Work::new(&wasm::cat(), &input, 60_000),
            exits: Work::new(&wasm::exits(7), b"", 60_000),
            loops: Work::new(&wasm::loops(), b"", 600_000),
            none: Work::new(b"no program", b"", 60_000),
            refused: Work::new(&wasm::nothing(), b"", 60_000).unheard_of(),
            input,
        }
    }

    /// Runs one job of this kind from its draft to its verified receipt; the job as it ended, if it was one.
    ///
    /// # Errors
    /// What was not as it must be.
    pub async fn run(&self, kind: Kind, member: &Member) -> Result<Option<Job>, String> {
        let work = match kind {
            Kind::Done | Kind::Repeated => &self.copies,
            Kind::Fails => &self.exits,
            Kind::Cancelled => &self.loops,
            Kind::Invalid => &self.none,
            Kind::Refused => &self.refused,
        };
        let mut record = member.draft(work);
        let told = |error: ClientError| explain(&error);
        let job = match kind {
            Kind::Refused => return refused(member.submit(&mut record, work).await),
            Kind::Done | Kind::Fails | Kind::Invalid => member.run(&mut record, work).await.map_err(told)?,
            Kind::Repeated => {
                let first = member.submit(&mut record, work).await.map_err(told)?;
                let again = member.submit(&mut record, work).await.map_err(told)?;
                if first.job != again.job {
                    return Err(format!("{} was taken again as {}", first.job, again.job));
                }
                member.run(&mut record, work).await.map_err(told)?
            }
            Kind::Cancelled => {
                let job = member.submit(&mut record, work).await.map_err(told)?;
                match member.client.cancel(job.job).await {
                    Ok(()) => {}
                    // It was lost meanwhile, or its end is still being written.
                    Err(error) if matches!(error.code(), Some(Code::StateConflict | Code::Unavailable)) => {}
                    Err(error) => return Err(explain(&error)),
                }
                member.wait(&job).await.map_err(told)?
            }
        };
        let ended = (job.state, job.reason);
        if ended != kind.end() && job.reason != Reason::EngineLost {
            return Err(format!("{} is {} ({}), not {:?}", job.job, job.state, job.reason, kind.end()));
        }
        let output = if job.state == JobState::Done { Some(self.output(member, &job).await?) } else { None };
        member.verify(&job, output.as_ref()).await.map_err(|what| format!("{}: {what}", job.job))?;
        Ok(Some(job))
    }

    /// Fetches and opens an output, which must be the input.
    async fn output(&self, member: &Member, job: &Job) -> Result<decores_client::Output, String> {
        let mut output = member.client.output(job.job, &mut |_| {}).await.map_err(|error| explain(&error))?;
        let mut stdout = Vec::new();
        output
            .each(&mut |part, content| {
                if matches!(part, Part::Stdout) {
                    content.read_to_end(&mut stdout).unwrap();
                }
                Ok(())
            })
            .map_err(|error| explain(&error))?;
        if stdout == self.input { Ok(output) } else { Err(format!("{} gave back something else", job.job)) }
    }
}

impl Default for Programs {
    fn default() -> Self {
        Self::new()
    }
}

fn refused(result: Result<Job, ClientError>) -> Result<Option<Job>, String> {
    match result {
        Err(error) if error.code() == Some(Code::Refused) => Ok(None),
        Err(error) => Err(explain(&error)),
        Ok(job) => Err(format!("{} was taken, though the node cannot protect it as asked", job.job)),
    }
}
