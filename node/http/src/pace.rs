//! The pace a peer must keep. One that stops ends its connection, and so does one that trickles; a slow one is served.

use crate::limits::HttpLimits;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Time a peer has left: waiting for it uses it up, its bytes earn it back, and no more than the grace is kept.
#[derive(Debug)]
pub(crate) struct Pace {
    grace: Duration,
    bytes_per_second: u32,
    left: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(crate) const fn new(limits: &HttpLimits) -> Self {
        Self { grace: limits.body, bytes_per_second: limits.bytes_per_second, left: limits.body, waiting: None }
    }

    /// Passes on what the peer did; `None` when it has been waited for long enough.
    pub(crate) fn poll<T>(&mut self, context: &mut Context<'_>, outcome: Poll<T>) -> Poll<Option<T>> {
        if let Poll::Ready(outcome) = outcome {
            if let Some(timer) = self.waiting.take() {
                // Where a timer of no length ends is the present.
                let now = sleep(Duration::ZERO).deadline();
                self.left = timer.deadline().saturating_duration_since(now);
            }
            return Poll::Ready(Some(outcome));
        }
        let left = self.left;
        let timer = self.waiting.get_or_insert_with(|| Box::pin(sleep(left)));
        timer.as_mut().poll(context).map(|()| None)
    }

    /// Counts bytes that the peer sent or took.
    pub(crate) fn earn(&mut self, bytes: usize) {
        let seconds = Duration::from_secs(1).saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        let earned = seconds.checked_div(self.bytes_per_second).unwrap_or(self.grace);
        self.left = self.left.saturating_add(earned).min(self.grace);
    }
}

/// A stream whose peer must take what is written to it at a [`Pace`].
#[derive(Debug)]
pub(crate) struct PacedWrites<S> {
    stream: S,
    pace: Pace,
}

impl<S> PacedWrites<S> {
    pub(crate) const fn new(stream: S, limits: &HttpLimits) -> Self {
        Self { stream, pace: Pace::new(limits) }
    }

    fn paced<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let outcome = ready!(self.pace.poll(context, outcome));
        Poll::Ready(
            outcome.unwrap_or_else(|| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer reads too slowly"))),
        )
    }

    fn written(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let bytes = ready!(self.paced(context, outcome))?;
        self.pace.earn(bytes);
        Poll::Ready(Ok(bytes))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedWrites<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedWrites<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.written(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(context, pieces);
        this.written(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(context);
        this.paced(context, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_shutdown(context);
        this.paced(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::time::timeout;

    const LIMITS: HttpLimits =
        HttpLimits { body: Duration::from_millis(500), bytes_per_second: 1024, ..HttpLimits::DEFAULT };
    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_peer_that_reads_nothing_is_given_up() {
        let (ours, _theirs) = duplex(16);
        let mut paced = PacedWrites::new(ours, &LIMITS);
        let error = timeout(PATIENCE, paced.write_all(&[0; 17])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_peer_that_trickles_is_given_up() {
        let (ours, mut theirs) = duplex(1);
        let trickle = tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        });
        let mut paced = PacedWrites::new(ours, &LIMITS);
        // It never stops for as long as the grace, and would need a minute.
        let error = timeout(PATIENCE, paced.write_all(&[0; 3000])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(paced);
        trickle.await.unwrap();
    }

    #[tokio::test]
    async fn a_slow_peer_that_keeps_the_pace_is_served() {
        let (ours, mut theirs) = duplex(256);
        let reader = tokio::spawn(async move {
            let mut total = 0;
            let mut piece = [0; 256];
            loop {
                let read = theirs.read(&mut piece).await.unwrap();
                if read == 0 {
                    return total;
                }
                total += read;
                sleep(Duration::from_millis(60)).await;
            }
        });
        let mut paced = PacedWrites::new(ours, &LIMITS);
        paced.write_all(&[0; 4096]).await.unwrap();
        paced.shutdown().await.unwrap();
        drop(paced);
        assert_eq!(reader.await.unwrap(), 4096, "it took longer than the grace in all");
    }
}
