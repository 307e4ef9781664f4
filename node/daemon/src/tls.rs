//! The node's own certificate authority, and the short-lived certificate it serves with.

use anyhow::{Context as _, Result};
use decores_keys::{KeyInfo, KeyStore};
use decores_types::{KeyId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

/// Days the authority's own certificate is valid.
const CA_DAYS: u64 = 3650;
/// Days a served certificate is valid; it is renewed daily.
const LEAF_DAYS: u64 = 8;
const DAY_MS: u64 = 86_400_000;

/// The authority's key, used where it lies.
struct CaKey {
    keystore: Arc<dyn KeyStore>,
    id: KeyId,
    public: Vec<u8>,
}

impl PublicKeyData for CaKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for CaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.keystore.sign(&self.id, message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// Makes certificates and holds the one that is served.
pub(crate) struct Authority {
    key: CaKey,
    certificate: CertificateDer<'static>,
    names: Vec<String>,
    served: Served,
}

/// The certificate that is served now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Served(Arc<RwLock<Option<Arc<CertifiedKey>>>>);

impl ResolvesServerCert for Served {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Self-signs the authority's certificate: once, at first start.
pub(crate) fn self_sign(keystore: Arc<dyn KeyStore>, key: &KeyInfo, now: Timestamp) -> Result<Vec<u8>> {
    let signer = ca_key(keystore, key)?;
    Ok(ca_params(now)?.self_signed(&signer).context("failed to sign the authority's certificate")?.der().to_vec())
}

impl Authority {
    /// Takes up the authority with its stored certificate.
    pub(crate) fn new(
        keystore: Arc<dyn KeyStore>,
        key: &KeyInfo,
        certificate: Vec<u8>,
        listen: SocketAddr,
        host_names: &[String],
    ) -> Result<Self> {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !listen.ip().is_unspecified() {
            names.push(listen.ip().to_string());
        }
        names.extend_from_slice(host_names);
        names.sort_unstable();
        names.dedup();
        Ok(Self {
            key: ca_key(keystore, key)?,
            certificate: CertificateDer::from(certificate),
            names,
            served: Served::default(),
        })
    }

    /// The authority's certificate, DER.
    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What the server asks for certificates.
    pub(crate) fn resolver(&self) -> Served {
        self.served.clone()
    }

    /// Makes a new certificate with a new key, and serves it from now on.
    pub(crate) fn renew(&self, now: Timestamp) -> Result<()> {
        let issuer = Issuer::from_ca_cert_der(&self.certificate, &self.key).context("failed to read the authority")?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut params = CertificateParams::new(self.names.clone())?;
        params.distinguished_name = named("DeCores node");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now, LEAF_DAYS)?;
        let leaf = params.signed_by(&key, &issuer).context("failed to sign the node's certificate")?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&private)?;
        let chain = vec![leaf.der().clone(), self.certificate.clone()];
        let certified = Arc::new(CertifiedKey::new(chain, signer));
        *self.served.0.write().unwrap_or_else(PoisonError::into_inner) = Some(certified);
        Ok(())
    }
}

fn ca_key(keystore: Arc<dyn KeyStore>, key: &KeyInfo) -> Result<CaKey> {
    let public = key.public.as_ref().context("the authority's key has no public half")?.0.clone();
    Ok(CaKey { keystore, id: key.id, public })
}

fn ca_params(now: Timestamp) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("DeCores node authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    valid(&mut params, now, CA_DAYS)?;
    Ok(params)
}

fn named(name: &str) -> DistinguishedName {
    let mut out = DistinguishedName::new();
    out.push(DnType::CommonName, name);
    out
}

/// Valid from yesterday, so that clocks may differ, for `days` from now.
fn valid(params: &mut CertificateParams, now: Timestamp, days: u64) -> Result<()> {
    let (year, month, day) = date(Timestamp::from_ms(now.as_ms().saturating_sub(DAY_MS as i64)))?;
    params.not_before = rcgen::date_time_ymd(year, month, day);
    let (year, month, day) = date(now.plus_ms(days * DAY_MS))?;
    params.not_after = rcgen::date_time_ymd(year, month, day);
    Ok(())
}

fn date(moment: Timestamp) -> Result<(i32, u8, u8)> {
    // The text form is fixed: YYYY-MM-DD…
    let text = moment.to_string();
    let mut parts = text.get(..10).unwrap_or_default().split('-');
    let mut part = || parts.next().context("a date has three parts");
    Ok((part()?.parse()?, part()?.parse()?, part()?.parse()?))
}
