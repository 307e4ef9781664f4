//! The accept loop: TLS 1.3, bounded connections, bounded heads.

use crate::limits::HttpLimits;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::server::ResolvesServerCert;
use std::future::Future;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

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
                    // Out of descriptors, mostly: give some time to return, without spinning.
                    warn!(%error, "failed to accept a connection");
                    tokio::task::yield_now().await;
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
    let Ok(Ok(stream)) = timeout(limits.head, acceptor.accept(stream)).await else { return };
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(limits.head_bytes)
        .max_headers(limits.headers);
    let serving = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(serving);
    let result = tokio::select! {
        result = serving.as_mut() => result,
        _ = closed.changed() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = result {
        debug!(%error, "connection ended");
    }
}
