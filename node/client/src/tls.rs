//! TLS as we speak it: 1.3 only, hybrid post-quantum key exchange first, one pinned authority.

use crate::ClientError;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;

/// The cryptography we use; the process's default provider is never relied on.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups =
        vec![aws_lc_rs::kx_group::X25519MLKEM768, aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1];
    Arc::new(provider)
}

/// A configuration that trusts `ca` (DER) and nothing else.
pub(crate) fn pinned(ca: &[u8]) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(ca.to_vec())).map_err(ClientError::Tls)?;
    config(roots)
}

/// A configuration that trusts these authorities; the ones that are none are left out.
pub(crate) fn of_authorities(found: Vec<CertificateDer<'static>>) -> Result<ClientConfig, ClientError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found);
    config(roots)
}

fn config(roots: RootCertStore) -> Result<ClientConfig, ClientError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(ClientError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    #[test]
    fn hybrid_key_exchange_is_offered_first() {
        assert_eq!(super::provider().kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }

    #[test]
    fn what_is_no_certificate_is_refused() {
        assert!(super::pinned(b"not a certificate").is_err());
    }
}
