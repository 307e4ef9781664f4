//! What a person sees while something takes time; plain lines where nobody watches.

use crate::output;
use crate::units::size;
use decores_client::Progress;
use decores_telemetry::plain;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::cell::Cell;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(120);

/// Follows a job: a line that changes on a terminal, a line for each state elsewhere.
pub(crate) struct JobProgress {
    bar: Option<ProgressBar>,
    uploading: Cell<bool>,
}

impl JobProgress {
    pub(crate) fn new() -> Self {
        let bar = console::user_attended_stderr().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, uploading: Cell::new(false) }
    }

    /// Shows what happened.
    pub(crate) fn note(&self, progress: &Progress<'_>) {
        match progress {
            Progress::Offer => self.now("asking for an offer", true),
            Progress::Upload { sent, total } => {
                let text = format!("sealing and sending: {} of {}", size(*sent), size(*total));
                self.now(&text, !self.uploading.replace(true));
            }
            Progress::Step(step) => self.now(&format!("{}: {}", step.state, step.reason.explain()), true),
            Progress::Again { why, wait } => {
                self.uploading.set(false);
                let why = plain(&decores_types::chain(*why));
                self.now(&format!("{why}; trying again in {} s", wait.as_secs().max(1)), true);
            }
        }
    }

    /// Removes the line that changes.
    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// `worth_a_line`: elsewhere than on a terminal, only what is new is told.
    fn now(&self, text: &str, worth_a_line: bool) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None if worth_a_line => output::note(text),
            None => {}
        }
    }
}

/// Counts to a known number; silent where nobody watches.
#[derive(Clone)]
pub(crate) struct Count(ProgressBar);

impl Count {
    pub(crate) fn new(what: &'static str) -> Self {
        if !console::user_attended_stderr() {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos} of {len} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self(bar)
    }

    pub(crate) fn set(&self, done: u64, all: u64) {
        self.0.set_length(all);
        self.0.set_position(done);
    }

    pub(crate) fn clear(&self) {
        self.0.finish_and_clear();
    }
}

/// More bytes than this are worth a line where nobody watches.
const LARGE: u64 = 64 << 20;

/// Counts bytes to an unknown number.
#[derive(Clone)]
pub(crate) struct Bytes {
    what: &'static str,
    bar: Option<ProgressBar>,
    done: u64,
}

impl Bytes {
    pub(crate) fn new(what: &'static str) -> Self {
        let bar = console::user_attended_stderr().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}: {binary_bytes} ({elapsed})") {
                bar.set_style(style);
            }
            bar.set_message(what);
            bar
        });
        Self { what, bar, done: 0 }
    }

    pub(crate) fn add(&mut self, n: u64) {
        let before = self.done;
        self.done = before.saturating_add(n);
        match &self.bar {
            Some(bar) => bar.set_position(self.done),
            None if before <= LARGE && self.done > LARGE => {
                output::note(format!("{}: more than {}", self.what, size(LARGE)));
            }
            None => {}
        }
    }

    pub(crate) fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
