//! The guest's standard streams.

use bytes::Bytes;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::io::{AsyncRead, AsyncWrite};
use wasmtime_wasi::cli::{IsTerminal, StdinStream, StdoutStream};
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError};

/// Most bytes taken or given at once; what a guest asks for is allocated here.
const AT_ONCE: usize = 64 << 10;

/// Standard input: a file in memory.
#[derive(Clone)]
pub(crate) struct Stdin(Arc<Mutex<File>>);

impl Stdin {
    pub(crate) fn new(file: File) -> Self {
        Self(Arc::new(Mutex::new(file)))
    }
}

impl IsTerminal for Stdin {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdinStream for Stdin {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        // Asked for by preview 3 only.
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}

impl InputStream for Stdin {
    fn read(&mut self, size: usize) -> Result<Bytes, StreamError> {
        let mut buffer = vec![0; size.min(AT_ONCE)];
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match file.read(&mut buffer) {
            Ok(0) if size > 0 => Err(StreamError::Closed),
            Ok(n) => {
                buffer.truncate(n);
                Ok(buffer.into())
            }
            Err(e) => Err(StreamError::LastOperationFailed(e.into())),
        }
    }
}

impl Pollable for Stdin {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

/// What happens at a stream's limit.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AtLimit {
    /// The guest is stopped.
    Stop,
    /// The rest is dropped.
    Drop,
}

struct Captured {
    target: Box<dyn Write + Send>,
    left: u64,
    written: u64,
    exceeded: bool,
}

/// Standard output or error: written to a target up to a limit.
#[derive(Clone)]
pub(crate) struct Capture {
    state: Arc<Mutex<Captured>>,
    at_limit: AtLimit,
}

impl Capture {
    /// Stops the guest at its limit.
    pub(crate) fn stopping(target: impl Write + Send + 'static, limit: u64) -> Self {
        Self::new(target, limit, AtLimit::Stop)
    }

    /// Drops what is beyond its limit.
    pub(crate) fn dropping(target: impl Write + Send + 'static, limit: u64) -> Self {
        Self::new(target, limit, AtLimit::Drop)
    }

    fn new(target: impl Write + Send + 'static, left: u64, at_limit: AtLimit) -> Self {
        let state = Captured { target: Box::new(target), left, written: 0, exceeded: false };
        Self { state: Arc::new(Mutex::new(state)), at_limit }
    }

    /// Bytes written to the target.
    pub(crate) fn written(&self) -> u64 {
        self.lock().written
    }

    /// Whether more was offered.
    pub(crate) fn exceeded(&self) -> bool {
        self.lock().exceeded
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let fits = usize::try_from(state.left).unwrap_or(usize::MAX).min(bytes.len());
        state.exceeded |= fits < bytes.len();
        if state.exceeded && self.at_limit == AtLimit::Stop {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        state.target.write_all(bytes.get(..fits).unwrap_or_default())?;
        state.left -= fits as u64;
        state.written += fits as u64;
        Ok(())
    }
}

impl IsTerminal for Capture {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Capture {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Asked for by preview 3 only.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Capture {
    fn write(&mut self, bytes: Bytes) -> Result<(), StreamError> {
        self.take(&bytes).map_err(|e| StreamError::Trap(e.into()))
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        Ok(())
    }

    fn check_write(&mut self) -> Result<usize, StreamError> {
        Ok(AT_ONCE)
    }
}

impl Pollable for Capture {
    fn ready<'a, 'b>(&'a mut self) -> Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(std::future::ready(()))
    }
}

/// A growing buffer that is read again later.
#[derive(Clone, Default)]
pub(crate) struct Buffer(Arc<Mutex<Vec<u8>>>);

impl Buffer {
    /// What was written; the buffer is empty then.
    pub(crate) fn take(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn output_beyond_the_limit_stops_the_guest() {
        let buffer = Buffer::default();
        let mut out = Capture::stopping(buffer.clone(), 4);
        OutputStream::write(&mut out, Bytes::from_static(b"abcd")).unwrap();
        assert!(!out.exceeded());
        assert!(OutputStream::write(&mut out, Bytes::from_static(b"e")).is_err());
        assert!(out.exceeded());
        assert_eq!((buffer.take(), out.written()), (b"abcd".to_vec(), 4));
    }

    #[test]
    fn logs_beyond_the_limit_are_cut() {
        let buffer = Buffer::default();
        let mut log = Capture::dropping(buffer.clone(), 4);
        OutputStream::write(&mut log, Bytes::from_static(b"abcdef")).unwrap();
        OutputStream::write(&mut log, Bytes::from_static(b"g")).unwrap();
        assert!(log.exceeded());
        assert_eq!(buffer.take(), b"abcd");
    }
}
