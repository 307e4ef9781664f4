//! Images made here, whole and damaged, from folders, archives and a registry that misbehaves.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::pack::Packing;
use super::{Fetch, Image, ImageError, Platform, Reference, RegistryAccess};
use crate::error::ErrorKind;
use crate::{ClientError, Source};
use decores_types::Digest;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut packing = Packing::default();
    files.iter().for_each(|(name, content)| packing.bytes(name, content).unwrap());
    let mut bytes = Vec::new();
    packing.finish("x", Digest::of(b"")).0.reader().read_to_end(&mut bytes).unwrap();
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The blobs of an image with two layers, one of them packed, and its manifest.
#[derive(Default)]
struct Blobs(BTreeMap<Digest, Vec<u8>>);

impl Blobs {
    fn add(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        self.0.insert(digest, bytes);
        json!({"mediaType": media_type, "digest": digest, "size": size})
    }

    fn image(&mut self, architecture: &str) -> Value {
        let layers = [tar(&[("a", b"one"), ("b/c", &[7; 5000])]), tar(&[("d", b"two")])];
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layers[0]), Digest::of(&layers[1])]},
        });
        let manifest = json!({
            "schemaVersion": 2,
            "config": self.add("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes()),
            "layers": [
                self.add("application/vnd.oci.image.layer.v1.tar+gzip", gzip(&layers[0])),
                self.add("application/vnd.oci.image.layer.v1.tar", layers[1].clone()),
            ],
        });
        self.add(MANIFEST, manifest.to_string().into_bytes())
    }

    /// A list of images for two processors.
    fn list(&mut self) -> Value {
        let of = |this: &mut Self, architecture: &str| {
            let mut image = this.image(architecture);
            image["platform"] = json!({"os": "linux", "architecture": architecture});
            image
        };
        let list = json!({"schemaVersion": 2, "manifests": [of(self, "amd64"), of(self, "arm64")]});
        self.add(INDEX, list.to_string().into_bytes())
    }

    /// Writes a layout; each image under its tag.
    fn write(&self, folder: &Path, images: &[(&str, &Value)]) {
        fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        for (digest, bytes) in &self.0 {
            fs::write(folder.join(place(digest)), bytes).unwrap();
        }
        let tagged = |(tag, image): &(&str, &Value)| {
            let mut image = (*image).clone();
            image["annotations"] = json!({"org.opencontainers.image.ref.name": tag});
            image
        };
        let index = json!({"schemaVersion": 2, "manifests": images.iter().map(tagged).collect::<Vec<_>>()});
        fs::write(folder.join("index.json"), index.to_string()).unwrap();
    }
}

fn place(digest: &Digest) -> String {
    format!("blobs/{}", digest.to_string().replace(':', "/"))
}

fn fetch(folder: &TempDir) -> Fetch {
    Fetch {
        platform: "linux/amd64".parse::<Platform>().unwrap(),
        registries: RegistryAccess { config: Some(folder.path().join("config.json")), ..RegistryAccess::default() },
        scratch: folder.path().join("scratch"),
    }
}

async fn take(folder: &TempDir, reference: &str) -> Result<Image, ImageError> {
    let reference = Reference::parse(reference).unwrap().unwrap();
    fetch(folder).image(&reference, |_| {}).await.map_err(|error| match error {
        ClientError::Image { source, .. } => source,
        other => panic!("{other}"),
    })
}

fn bytes(image: &Image) -> Vec<u8> {
    let mut bytes = Vec::new();
    image.program.reader().read_to_end(&mut bytes).unwrap();
    bytes
}

/// Names and contents, in order.
fn unpacked(mut tar: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    while tar[0] != 0 {
        let name = String::from_utf8(tar[..100].split(|b| *b == 0).next().unwrap().to_vec()).unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&tar[124..135]).unwrap(), 8).unwrap();
        files.push((name, tar[512..512 + size].to_vec()));
        tar = &tar[512 + size.next_multiple_of(512)..];
    }
    assert_eq!(tar, [0; 1024]);
    files
}

#[tokio::test]
async fn a_layout_becomes_one_tar_with_the_chosen_image_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut blobs = Blobs::default();
    let list = blobs.list();
    blobs.write(&folder.path().join("l"), &[("both", &list)]);
    let layout = format!("oci:{}", folder.path().join("l").display());
    let image = take(&folder, &layout).await.unwrap();
    let alone = Blobs::default().image("amd64");
    assert_eq!(json!(image.digest), alone["digest"]);
    assert_eq!((image.layers, image.platform.to_string().as_str()), (2, "linux/amd64"));
    // Three files of 1, 2 and 1 pages.
    assert_eq!(image.unpacked_bytes, 4 * 4096 + 3 * 1024);

    let packed = bytes(&image);
    assert_eq!(packed.len() as u64, image.program_bytes);
    let files = unpacked(&packed);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names.len(), &names[..2]), (6, &["oci-layout", "index.json"][..]));
    for (name, content) in &files[2..] {
        assert_eq!(*name, place(&Digest::of(content)));
    }
    let index: Value = serde_json::from_slice(&files[1].1).unwrap();
    assert_eq!((index["manifests"].as_array().unwrap().len(), &index["manifests"][0]["digest"]), (1, &alone["digest"]));
    let again = take(&folder, &format!("{layout}:both")).await.unwrap();
    assert_eq!(bytes(&again), packed, "the same image gives the same bytes");
    let pinned = take(&folder, &format!("{layout}@{}", list["digest"].as_str().unwrap())).await.unwrap();
    assert_eq!(bytes(&pinned), packed);
    assert!(matches!(take(&folder, &format!("{layout}:no")).await, Err(ImageError::Choice(_))));
    assert_eq!(Source::Image(image.program).measure(&mut |_| {}).unwrap().size, packed.len() as u64);
}

#[tokio::test]
async fn an_archive_of_a_layout_is_the_same_image() {
    let folder = tempfile::tempdir().unwrap();
    let mut blobs = Blobs::default();
    let image = blobs.image("amd64");
    blobs.write(&folder.path().join("l"), &[("x", &image)]);
    let from_folder = take(&folder, &format!("oci:{}", folder.path().join("l").display())).await.unwrap();
    let read = |name: &str| fs::read(folder.path().join("l").join(name)).unwrap();
    let mut files =
        vec![("./index.json".to_owned(), read("index.json")), ("oci-layout".to_owned(), read("oci-layout"))];
    files.extend(blobs.0.iter().map(|(digest, bytes)| (place(digest), bytes.clone())));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    let path = folder.path().join("l.tar");
    fs::write(&path, tar(&files)).unwrap();
    let from_archive = take(&folder, &format!("oci-archive:{}:x", path.display())).await.unwrap();
    assert_eq!(bytes(&from_archive), bytes(&from_folder));
    assert_eq!(Reference::at(&path).unwrap().to_string(), format!("oci-archive:{}", path.display()));

    for (cut, why) in [(700, "inside"), (100, "inside a header"), (512 + 200, "inside")] {
        fs::write(&path, &tar(&files)[..cut]).unwrap();
        let error = take(&folder, &format!("oci-archive:{}", path.display())).await.unwrap_err();
        assert!(error.to_string().contains(why), "{cut}: {error}");
    }
    let twice = [files[0], files[1], files[1]];
    fs::write(&path, tar(&twice)).unwrap();
    let error = take(&folder, &format!("oci-archive:{}", path.display())).await.unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}

#[tokio::test]
async fn a_docker_archive_keeps_the_chosen_image_only() {
    let folder = tempfile::tempdir().unwrap();
    let layer = tar(&[("a", b"one")]);
    let config = json!({
        "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]},
    });
    let config = config.to_string();
    let image = |tag: &str| json!({"Config": "c.json", "RepoTags": [tag], "Layers": ["x/layer.tar"]});
    let list = json!([image("one:1"), image("two:latest")]).to_string();
    let path = folder.path().join("d.tar");
    let files: [(&str, &[u8]); 3] =
        [("x/layer.tar", &gzip(&layer)), ("c.json", config.as_bytes()), ("manifest.json", list.as_bytes())];
    fs::write(&path, tar(&files)).unwrap();
    let named = format!("docker-archive:{}", path.display());
    let error = take(&folder, &named).await.unwrap_err();
    assert!(error.to_string().ends_with("one:1, two:latest"), "{error}");
    let image = take(&folder, &format!("{named}:two")).await.unwrap();
    assert_eq!(image.digest, Digest::of(config.as_bytes()), "Docker's image ID");
    let packed = unpacked(&bytes(&image));
    assert_eq!(packed.len(), 3);
    assert_eq!(packed[0].0, "manifest.json");
    assert_eq!((packed[1].1.as_slice(), packed[2].1.as_slice()), (config.as_bytes(), gzip(&layer).as_slice()));
    assert!(take(&folder, &format!("{named}:one:2")).await.is_err());
}

#[tokio::test]
async fn blobs_that_are_missing_short_or_altered_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut blobs = Blobs::default();
    let image = blobs.image("amd64");
    let path = folder.path().join("l");
    blobs.write(&path, &[("x", &image)]);
    let layout = format!("oci:{}", path.display());
    for (digest, bytes) in &blobs.0 {
        let (blob, name) = (path.join(place(digest)), digest.to_string());
        let name = name.trim_start_matches("sha256:");
        let mut altered = bytes.clone();
        *altered.last_mut().unwrap() ^= 1;
        for damaged in [altered, bytes[..bytes.len() - 1].to_vec()] {
            fs::write(&blob, damaged).unwrap();
            let error = take(&folder, &layout).await.unwrap_err();
            assert!(error.kind() == ErrorKind::Refused && error.to_string().contains(name), "{error}");
        }
        fs::remove_file(&blob).unwrap();
        let error = take(&folder, &layout).await.unwrap_err();
        assert!(matches!(error, ImageError::Missing(_)) && error.to_string().contains(name), "{error}");
        fs::write(&blob, bytes).unwrap();
    }
    assert!(take(&folder, &layout).await.is_ok());
}

#[tokio::test]
async fn a_layer_that_unpacks_to_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut blobs = Blobs::default();
    blobs.image("amd64");
    let config = json!({"architecture": "amd64", "os": "linux", "rootfs": {"diff_ids": [Digest::of(b"other")]}});
    let config = blobs.add("application/vnd.oci.image.config.v1+json", config.to_string().into_bytes());
    let image = |blobs: &mut Blobs, media_type: &str, layer: Vec<u8>| {
        let layer = blobs.add(media_type, layer);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        let manifest = blobs.add(MANIFEST, manifest.to_string().into_bytes());
        blobs.write(&folder.path().join("l"), &[("x", &manifest)]);
    };
    let layout = format!("oci:{}", folder.path().join("l").display());
    for (media_type, layer, why) in [
        ("tar", tar(&[("a", b"b")]), "unpacked"),
        ("tar+gzip", gzip(&tar(&[("a", b"b")])), "unpacked"),
        ("tar+gzip", tar(&[("a", b"b")]), "no gzip stream"),
        ("tar+zstd", gzip(&tar(&[("a", b"b")])), "no zstd stream"),
        ("tar+encrypted", tar(&[("a", b"b")]), "is not taken"),
    ] {
        image(&mut blobs, &format!("application/vnd.oci.image.layer.v1.{media_type}"), layer);
        let error = take(&folder, &layout).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

/// Answers requests by path, and remembers what they held.
struct Server {
    address: String,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(answer: impl Fn(&str, &str) -> (u16, String, Vec<u8>) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let Some(Ok(first)) = lines.next() else { continue };
                let head: Vec<String> = lines.map_while(|line| line.ok().filter(|line| !line.is_empty())).collect();
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let authorization = head.iter().find_map(|line| line.strip_prefix("authorization: "));
                let authorization = authorization.unwrap_or_default();
                kept.lock().unwrap().push(format!("{path} {authorization}"));
                let (status, headers, body) = answer(&path, authorization);
                let length = body.len();
                let head =
                    format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n");
                // A client that has seen enough hangs up.
                let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
            }
        });
        Self { address, seen }
    }

    /// A registry of one repository, `a/b`; `change` may alter what it says.
    fn registry(
        blobs: Blobs,
        tagged: &Value,
        change: impl Fn(&str, &str, Vec<u8>) -> (u16, String, Vec<u8>) + Send + 'static,
    ) -> Self {
        let tagged: Digest = serde_json::from_value(tagged["digest"].clone()).unwrap();
        Self::start(move |path, authorization| {
            let name = path.rsplit('/').next().unwrap();
            let digest = if name == "1" { Some(tagged) } else { Digest::parse(name).ok() };
            match digest.and_then(|digest| blobs.0.get(&digest)) {
                Some(bytes) => change(path, authorization, bytes.clone()),
                None => change(path, authorization, Vec::new()),
            }
        })
    }

    fn image(&self) -> String {
        format!("docker://{}/a/b:1", self.address)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn served(path: &str, bytes: Vec<u8>) -> (u16, String, Vec<u8>) {
    let media_type = if !path.contains("/manifests/") {
        "application/octet-stream"
    } else if bytes.windows(9).any(|w| w == b"\"layers\":") {
        MANIFEST
    } else {
        INDEX
    };
    (if bytes.is_empty() { 404 } else { 200 }, format!("content-type: {media_type}\r\n"), bytes)
}

#[tokio::test]
async fn a_registry_gives_the_same_image_as_a_layout() {
    let folder = tempfile::tempdir().unwrap();
    let mut blobs = Blobs::default();
    let list = blobs.list();
    blobs.write(&folder.path().join("l"), &[("x", &list)]);
    let from_folder = take(&folder, &format!("oci:{}", folder.path().join("l").display())).await.unwrap();
    let server = Server::registry(blobs, &list, |path, _, bytes| served(path, bytes));
    let image = take(&folder, &server.image()).await.unwrap();
    assert_eq!(bytes(&image), bytes(&from_folder));
    assert_eq!(image.name, format!("docker://{}/a/b@{}", server.address, image.digest));
    assert_eq!(fs::read_dir(folder.path().join("scratch")).unwrap().count(), 0, "nothing stays");
    let pinned = format!("docker://{}/a/b@{}", server.address, image.digest);
    assert_eq!(bytes(&take(&folder, &pinned).await.unwrap()), bytes(&image));
    let absent = format!("docker://{}/a/b:2", server.address);
    assert!(matches!(take(&folder, &absent).await, Err(ImageError::Answer { status: 404, .. })));
}

#[tokio::test]
async fn a_registry_that_lies_is_refused() {
    type Lie = fn(&str, Vec<u8>) -> Vec<u8>;
    let lies: [(&str, Lie, &str); 4] = [
        (
            "another blob",
            |path, mut b| {
                if path.contains("/blobs/") {
                    b[0] ^= 1;
                }
                b
            },
            "corrupt",
        ),
        (
            "a longer blob",
            |path, mut b| {
                if path.contains("/blobs/") {
                    b.push(0);
                }
                b
            },
            "more than",
        ),
        (
            "a shorter blob",
            |path, mut b| {
                if path.contains("/blobs/") {
                    b.pop();
                }
                b
            },
            "bytes long",
        ),
        (
            "another manifest in a list",
            |path, mut b| {
                if path.contains("/manifests/sha") {
                    b.push(b' ');
                }
                b
            },
            "corrupt",
        ),
    ];
    for (what, lie, why) in lies {
        let folder = tempfile::tempdir().unwrap();
        let mut blobs = Blobs::default();
        let list = blobs.list();
        let server = Server::registry(blobs, &list, move |path, _, bytes| served(path, lie(path, bytes)));
        let error = take(&folder, &server.image()).await.unwrap_err();
        assert!(error.kind() == ErrorKind::Refused && error.to_string().contains(why), "{what}: {error}");
    }
}

#[tokio::test]
async fn a_token_is_asked_for_with_the_password_of_this_registry() {
    let folder = tempfile::tempdir().unwrap();
    let mut blobs = Blobs::default();
    let list = blobs.list();
    let realm = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&realm);
    let server = Server::registry(blobs, &list, move |path, authorization, bytes| {
        if path.starts_with("/token?") {
            let fits = path.contains("scope=repository%3Aa%2Fb%3Apull") && path.contains("service=here");
            let fits = fits && authorization == "Basic dXNlcjpwYXNz";
            return (if fits { 200 } else { 403 }, String::new(), br#"{"token":"tok"}"#.to_vec());
        }
        if authorization == "Bearer tok" {
            return served(path, bytes);
        }
        let realm = told.lock().unwrap().clone();
        let challenge = format!("www-authenticate: Bearer realm=\"{realm}\",service=\"here\"\r\n");
        (401, challenge, Vec::new())
    });
    *realm.lock().unwrap() = format!("http://{}/token", server.address);
    assert!(matches!(take(&folder, &server.image()).await, Err(ImageError::Denied { .. })), "no password");
    let config = json!({"auths": {&server.address: {"auth": "dXNlcjpwYXNz"}}});
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    take(&folder, &server.image()).await.unwrap();
    // A password goes to no other machine over plain HTTP because a registry says so.
    *realm.lock().unwrap() = "http://192.0.2.1/token".to_owned();
    assert!(matches!(take(&folder, &server.image()).await, Err(ImageError::Denied { .. })));
}

#[tokio::test]
async fn a_redirect_takes_no_password_along_and_goes_nowhere_plain() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = Server::start(|_, _| (200, String::new(), b"x".to_vec()));
    let mut blobs = Blobs::default();
    let list = blobs.list();
    let to = elsewhere.address.clone();
    let server = Server::registry(blobs, &list, move |path, authorization, bytes| match (path, authorization) {
        (_, "") => (401, "www-authenticate: Basic realm=\"x\"\r\n".to_owned(), Vec::new()),
        (path, _) if path.contains("/blobs/") => (307, format!("location: http://{to}/blob\r\n"), Vec::new()),
        (path, _) => served(path, bytes),
    });
    let config = json!({"auths": {&server.address: {"auth": "dXNlcjpwYXNz"}}});
    fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let error = take(&folder, &server.image()).await.unwrap_err();
    assert!(matches!(error, ImageError::Unreachable { .. }), "{error}");
    assert!(elsewhere.seen().is_empty(), "{:?}", elsewhere.seen());
    assert!(server.seen().iter().any(|line| line.ends_with("Basic dXNlcjpwYXNz")));
}
