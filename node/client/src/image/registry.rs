//! Fetching an image from a registry (OCI distribution specification 1.1): manifest, configuration and layers.
//!
//! What comes is believed only as far as its digests: of the manifest here, of everything else when the image is
//! packed. Sizes are those of the descriptors, and not a byte more.

use super::auth::{self, Challenge, Password};
use super::blob::Blob;
use super::choose::in_list;
use super::document::{Descriptor, INDEXES, MANIFESTS, MAX_DOCUMENT, Manifest, parse};
use super::error::ImageError;
use super::{Fetch, Pick, RegistryReference};
use crate::connection::SILENCE;
use crate::files::{NewFile, PRIVATE, failed, private_folder};
use crate::{ClientError, tls};
use decores_secrets::Zeroizing;
use decores_types::Digest;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{Client, Response, StatusCode, Url, redirect};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::io::{Seek as _, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Longest a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(10);
/// Most redirects that are followed.
const MAX_REDIRECTS: usize = 5;
/// Most bytes that an image may have as it is stored.
const MAX_IMAGE: u64 = 8 << 30;
/// Where Docker's own registry really is.
const OFFICIAL: &str = "registry-1.docker.io";
/// Where systems keep the certificates of authorities.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How registries are spoken to.
#[derive(Clone, Debug, Default)]
pub struct RegistryAccess {
    /// `config.json` of Docker's, with passwords.
    pub config: Option<PathBuf>,
    /// Certificates of authorities; the system's where this is absent.
    pub authorities: Option<PathBuf>,
    /// Registries that are spoken to without TLS, as `HOST[:PORT]`; those of this machine are without being named.
    pub insecure: Vec<String>,
}

/// A registry, and what it has been shown of us.
struct Registry<'a> {
    http: Client,
    reference: &'a RegistryReference,
    base: String,
    secure: bool,
    password: Option<Password>,
    header: Option<HeaderValue>,
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
}

/// The manifest's descriptor, and all blobs of an image, which are checked by who takes them.
pub(super) async fn fetch(
    fetch: &Fetch,
    reference: &RegistryReference,
    read: &mut (dyn FnMut(u64) + Send),
) -> Result<(Descriptor, BTreeMap<Digest, Blob>), ImageError> {
    let mut registry = Registry::open(&fetch.registries, reference)?;
    let (mut descriptor, mut bytes) = registry.manifest(&reference.manifest()).await?;
    if let Pick::Digest(wanted) = &reference.pick
        && descriptor.digest != *wanted
    {
        return Err(ImageError::wrong_digest(format!("the manifest {wanted}"), &descriptor.digest));
    }
    if INDEXES.contains(&descriptor.media_type.as_str()) {
        let chosen = in_list(&parse("its index", &bytes)?, &fetch.platform)?;
        (descriptor, bytes) = registry.manifest(&chosen.digest.to_string()).await?;
        if descriptor.digest != chosen.digest {
            return Err(ImageError::wrong_digest(format!("the manifest {}", chosen.digest), &descriptor.digest));
        }
    }
    if !MANIFESTS.contains(&descriptor.media_type.as_str()) {
        let media = descriptor.media_type.chars().take(80).collect::<String>();
        return Err(ImageError::Unfit(format!("it is `{}`, which is not taken", media.escape_debug())));
    }
    let manifest = Manifest::parse(&bytes)?;
    let wanted = || std::iter::once(&manifest.config).chain(&manifest.layers);
    let size = wanted().fold(0_u64, |sum, d| sum.saturating_add(d.size));
    if size > MAX_IMAGE || manifest.config.size > MAX_DOCUMENT {
        return Err(ImageError::Unfit(format!("it has {size} bytes, at most {MAX_IMAGE} are taken")));
    }
    let mut blobs = BTreeMap::from([(descriptor.digest, kept(fetch, &bytes)?)]);
    for wanted in wanted() {
        if let Entry::Vacant(place) = blobs.entry(wanted.digest) {
            place.insert(registry.blob(fetch, wanted, read).await?);
        }
    }
    Ok((descriptor, blobs))
}

/// A file that has no name any more.
fn nameless(fetch: &Fetch) -> Result<(std::fs::File, PathBuf), ImageError> {
    private_folder(&fetch.scratch)?;
    let path = fetch.scratch.join("blob");
    Ok((NewFile::create(&path, PRIVATE)?.rewind()?, path))
}

fn kept(fetch: &Fetch, bytes: &[u8]) -> Result<Blob, ImageError> {
    let (mut file, path) = nameless(fetch)?;
    file.write_all(bytes).map_err(failed("write", &path))?;
    Ok(Blob::of(file, &path, bytes.len() as u64))
}

/// Whether this is a name of this machine's, which nothing between us and it can listen to.
fn is_here(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

fn authorities(named: Option<&PathBuf>) -> Result<Vec<CertificateDer<'static>>, ImageError> {
    let found = || BUNDLES.iter().map(PathBuf::from).find(|path| path.is_file());
    let path = named.cloned().or_else(found).ok_or_else(|| {
        ImageError::Unfit(
            "there are no certificates of authorities to know a registry by: install ca-certificates".to_owned(),
        )
    })?;
    let bytes = crate::files::read(&path, 16 << 20)?.unwrap_or_default();
    Ok(CertificateDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect())
}

impl<'a> Registry<'a> {
    fn open(access: &RegistryAccess, reference: &'a RegistryReference) -> Result<Self, ImageError> {
        let host = if reference.host == "docker.io" { OFFICIAL } else { reference.host.as_str() };
        let url = Url::parse(&format!("https://{host}/"))
            .map_err(|_| ImageError::Reference("its host is none".to_owned()))?;
        let secure = !(is_here(&url) || access.insecure.contains(&reference.host));
        let builder = Client::builder()
            .user_agent(concat!("decores/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .redirect(redirects(secure));
        let builder = if secure {
            let tls = tls::of_authorities(authorities(access.authorities.as_ref())?)?;
            builder.use_preconfigured_tls(tls).https_only(true)
        } else {
            // An authority is set all the same, so that nothing else is believed after a redirect.
            builder.use_preconfigured_tls(tls::of_authorities(Vec::new())?).no_proxy()
        };
        let password = access.config.as_deref().map(|path| auth::password(path, &reference.host)).transpose()?;
        Ok(Self {
            http: builder.build().map_err(ClientError::Http)?,
            base: format!("{}://{host}/v2/{}", if secure { "https" } else { "http" }, reference.name),
            reference,
            secure,
            password: password.flatten(),
            header: None,
        })
    }

    fn lost(&self, source: reqwest::Error) -> ImageError {
        // Where a registry redirects to is its secret, and may be a key.
        ImageError::Unreachable { host: self.reference.host.clone(), source: Box::new(source.without_url()) }
    }

    /// A manifest, its digest and its type.
    async fn manifest(&mut self, which: &str) -> Result<(Descriptor, Vec<u8>), ImageError> {
        let accept = [MANIFESTS, INDEXES].concat().join(", ");
        let answer = self.get(&format!("{}/manifests/{which}", self.base), Some(&accept)).await?;
        let media_type = answer.headers().get(CONTENT_TYPE).and_then(|t| t.to_str().ok()).unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = self.document(answer).await?;
        let (digest, size) = (Digest::of(&bytes), bytes.len() as u64);
        Ok((Descriptor { media_type, digest, size, platform: None, annotations: BTreeMap::new() }, bytes))
    }

    async fn document(&self, mut answer: Response) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|e| self.lost(e))? {
            bytes.extend_from_slice(&piece);
            if bytes.len() as u64 > MAX_DOCUMENT {
                return Err(ImageError::Unfit(format!("a document has more than {MAX_DOCUMENT} bytes")));
            }
        }
        Ok(bytes)
    }

    /// A blob of exactly the size that is announced; its digest is checked by who takes it.
    async fn blob(
        &mut self,
        fetch: &Fetch,
        wanted: &Descriptor,
        read: &mut (dyn FnMut(u64) + Send),
    ) -> Result<Blob, ImageError> {
        let mut answer = self.get(&format!("{}/blobs/{}", self.base, wanted.digest), None).await?;
        let (mut file, path) = nameless(fetch)?;
        let mut size = 0_u64;
        let corrupt = |found| ImageError::Corrupt { what: format!("the blob {}", wanted.digest), found };
        while let Some(piece) = answer.chunk().await.map_err(|e| self.lost(e))? {
            size = size.saturating_add(piece.len() as u64);
            if size > wanted.size {
                return Err(corrupt(format!("more than {} bytes long", wanted.size)));
            }
            file.write_all(&piece).map_err(failed("write", &path))?;
            read(piece.len() as u64);
        }
        if size < wanted.size {
            return Err(corrupt(format!("{size} bytes long, not {}", wanted.size)));
        }
        file.rewind().map_err(failed("read", &path))?;
        Ok(Blob::of(file, &path, size))
    }

    /// Asks; once more with what the registry asks for.
    async fn get(&mut self, url: &str, accept: Option<&str>) -> Result<Response, ImageError> {
        let mut answer = self.send(url, accept).await?;
        if answer.status() == StatusCode::UNAUTHORIZED
            && let Some(challenge) = challenge(&answer)
            && let Some(header) = self.answer(&challenge).await?
        {
            self.header = Some(header);
            answer = self.send(url, accept).await?;
        }
        let (status, host) = (answer.status(), self.reference.host.clone());
        if status.is_success() {
            return Ok(answer);
        }
        let status = status.as_u16();
        if matches!(status, 401 | 403) {
            return Err(ImageError::Denied { host, status });
        }
        let what = url.strip_prefix(&self.base).unwrap_or_default().trim_start_matches('/').to_owned();
        Err(ImageError::Answer { host, status, what })
    }

    async fn send(&self, url: &str, accept: Option<&str>) -> Result<Response, ImageError> {
        let mut request = self.http.get(url);
        if let Some(accept) = accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(header) = &self.header {
            request = request.header(AUTHORIZATION, header.clone());
        }
        request.send().await.map_err(|e| self.lost(e))
    }

    /// The header that a challenge wants; `None` if we have nothing for it.
    async fn answer(&self, challenge: &Challenge) -> Result<Option<HeaderValue>, ImageError> {
        let (realm, service, scope) = match challenge {
            Challenge::Basic => return Ok(self.password.as_ref().and_then(basic)),
            Challenge::Bearer { realm, service, scope } => (realm, service, scope),
        };
        let refused = || ImageError::Denied { host: self.reference.host.clone(), status: 401 };
        let mut url = Url::parse(realm).map_err(|_| refused())?;
        // A password does not leave over plain HTTP because a registry says so.
        if url.scheme() != "https" && (self.secure || !is_here(&url)) {
            return Err(refused());
        }
        let scope = scope.clone().unwrap_or_else(|| format!("repository:{}:pull", self.reference.name));
        url.query_pairs_mut().append_pair("scope", &scope);
        if let Some(service) = service {
            url.query_pairs_mut().append_pair("service", service);
        }
        let mut request = self.http.get(url);
        if let Some(header) = self.password.as_ref().and_then(basic) {
            request = request.header(AUTHORIZATION, header);
        }
        let answer = request.send().await.map_err(|e| self.lost(e))?;
        if !answer.status().is_success() {
            return Err(ImageError::Denied { host: self.reference.host.clone(), status: answer.status().as_u16() });
        }
        let bytes = Zeroizing::new(self.document(answer).await?);
        let token: Token = parse("the registry's token", &bytes)?;
        let token = token.token.or(token.access_token).map(Zeroizing::new).ok_or_else(refused)?;
        Ok(secret(&format!("Bearer {}", token.as_str())))
    }
}

fn challenge(answer: &Response) -> Option<Challenge> {
    let headers = answer.headers().get_all(WWW_AUTHENTICATE);
    headers.iter().filter_map(|h| h.to_str().ok()).find_map(Challenge::parse)
}

fn basic(password: &Password) -> Option<HeaderValue> {
    let plain = Zeroizing::new(format!("{}:{}", password.user, password.password.as_str()));
    let encoded = Zeroizing::new(decores_types::Base64(plain.as_bytes().to_vec()).to_string());
    secret(&format!("Basic {}", encoded.as_str()))
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Blobs lie elsewhere, often; never on plain HTTP, but for a registry that is itself. Passwords do not go along:
/// reqwest drops them where the host changes.
fn redirects(secure: bool) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        let plain = attempt.url().scheme() != "https";
        let same = attempt.previous().first().is_some_and(|first| {
            (first.host_str(), first.port_or_known_default())
                == (attempt.url().host_str(), attempt.url().port_or_known_default())
        });
        if attempt.previous().len() > MAX_REDIRECTS {
            attempt.error("too many redirects")
        } else if plain && (secure || !same) {
            attempt.error("a redirect to plain HTTP")
        } else {
            attempt.follow()
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        let here = |host: &str| is_here(&Url::parse(&format!("https://{host}/")).unwrap());
        for host in ["localhost:5000", "127.0.0.1", "127.1.2.3:1", "[::1]:5000"] {
            assert!(here(host), "{host}");
        }
        for host in ["10.0.0.1", "localhost.example", "127.0.0.1.example", "[::2]", "0.0.0.0", "example:5000"] {
            assert!(!here(host), "{host}");
        }
    }
}
