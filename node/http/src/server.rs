//! The accept loop: TLS 1.3, bounded connections, bounded heads.
//!
//! What ends a connection that is no use: its handshake or a head that is not there within [`HttpLimits::head`],
//! counted anew after every answer; an answer that is not taken at the pace of [`HttpLimits::bytes_per_second`];
//! and its last request of [`HttpLimits::requests`].

use crate::limits::HttpLimits;
use crate::pace::PacedWrites;
use axum::Router;
use axum::http::{HeaderValue, Request, header};
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::server::ResolvesServerCert;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

/// Time for descriptors to return when there are none for the next connection.
const NO_DESCRIPTORS: Duration = Duration::from_millis(100);
/// How long a connection that has ended is kept for its client to hear of it.
const LINGER: Duration = Duration::from_secs(1);
/// How much is taken in meanwhile.
const LINGER_BYTES: u64 = 64 << 20;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("failed to set up TLS 1.3")]
pub struct TlsError(#[from] rustls::Error);

/// TLS 1.3 only, X25519MLKEM768 first, certificates by `resolver`.
///
/// # Errors
/// If the provider lacks what TLS 1.3 needs.
pub fn tls_config(resolver: Arc<dyn ResolvesServerCert>) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A resumed session would outlive a key's expiry check only by convenience; tickets bring nothing here.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// Serves until `stop` resolves, then lets open requests finish for `grace` of [`HttpLimits::body`].
pub async fn serve(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    limits: HttpLimits,
    stop: impl Future<Output = ()> + Send,
) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(limits.connections));
    let (closing, closed) = tokio::sync::watch::channel(false);
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        let place = tokio::select! {
            () = &mut stop => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let Ok(place) = place else { break };
        let stream = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "failed to accept a connection");
                    sleep(NO_DESCRIPTORS).await;
                    continue;
                }
            },
        };
        while connections.try_join_next().is_some() {}
        let (acceptor, router, closed) = (acceptor.clone(), router.clone(), closed.clone());
        connections.spawn(async move {
            connection(stream, acceptor, router, limits, closed).await;
            drop(place);
        });
    }
    drop(listener);
    let _ = closing.send(true);
    let finish = async { while connections.join_next().await.is_some() {} };
    if timeout(limits.body, finish).await.is_err() {
        debug!("some connections did not end in time");
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    router: Router,
    limits: HttpLimits,
    mut closed: tokio::sync::watch::Receiver<bool>,
) {
    let _ = stream.set_nodelay(true);
    let stream = PacedWrites::new(stream, &limits);
    let Ok(Ok(stream)) = timeout(limits.head, acceptor.accept(stream)).await else { return };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.headers);
    let mut serving = http.serve_connection(TokioIo::new(stream), counted(router, limits.requests));
    let ended = tokio::select! {
        result = poll_fn(|context| serving.poll_without_shutdown(context)) => Some(result),
        _ = closed.changed() => None,
    };
    let result = match ended {
        Some(result) => result,
        None => {
            Pin::new(&mut serving).graceful_shutdown();
            poll_fn(|context| serving.poll_without_shutdown(context)).await
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection ended");
    }
    // Whatever it did, a client gets no longer than this to hear the last answer.
    let _ = timeout(LINGER, linger(serving.into_parts().io.into_inner())).await;
}

/// The router for one connection, whose last answer says that it is the last.
fn counted(
    router: Router,
    requests: u32,
) -> impl Service<Request<Incoming>, Response = Response, Error = Infallible, Future: Send + Unpin> + Send + Unpin {
    let (router, asked) = (TowerToHyperService::new(router), AtomicU32::new(0));
    service_fn(move |request| {
        let last = asked.fetch_add(1, Ordering::Relaxed) + 1 >= requests;
        let answer = router.call(request);
        Box::pin(async move {
            let mut answer = answer.await?;
            if last {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        })
    })
}

/// Ends our side, then takes in what the client still sends: closing at once, with bytes unread, would reset the
/// connection and take from the client the answer that refused them.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> std::io::Result<()> {
    stream.shutdown().await?;
    let mut unread = stream.take(LINGER_BYTES);
    tokio::io::copy(&mut unread, &mut tokio::io::sink()).await.map(drop)
}
