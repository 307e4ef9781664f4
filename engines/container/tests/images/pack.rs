//! Archives and images, packed by hand so that they can be wrong.

use decores_types::Digest;
use serde_json::{Value, json};
use std::io::Write;

pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A tar that is being written.
#[derive(Clone, Default)]
pub struct Tar(pub Vec<u8>);

impl Tar {
    /// An entry with any header.
    pub fn raw(mut self, flag: u8, path: &[u8], link: &[u8], mode: u32, content: &[u8], size: u64) -> Self {
        let mut header = [0; 512];
        let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &path[..path.len().min(100)]);
        put(100, format!("{mode:07o}\0").as_bytes());
        put(108, b"0000000\x000000000\0");
        if size < 1 << 33 {
            put(124, format!("{size:011o}\0").as_bytes());
        } else {
            put(124, &[&[0x80, 0, 0, 0], size.to_be_bytes().as_slice()].concat());
        }
        put(136, b"00000000017\0        ");
        put(156, &[flag]);
        put(157, &link[..link.len().min(100)]);
        put(257, b"ustar\x0000");
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        self.mode(path, 0o644, content)
    }

    pub fn mode(self, path: impl AsRef<[u8]>, mode: u32, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        self.long(path.as_ref()).raw(b'0', path.as_ref(), b"", mode, content, content.len() as u64)
    }

    pub fn folder(self, path: impl AsRef<[u8]>) -> Self {
        self.folder_mode(path, 0o755)
    }

    pub fn folder_mode(self, path: impl AsRef<[u8]>, mode: u32) -> Self {
        self.long(path.as_ref()).raw(b'5', path.as_ref(), b"", mode, b"", 0)
    }

    pub fn link(self, path: &str, target: &str) -> Self {
        self.raw(b'2', path.as_bytes(), target.as_bytes(), 0o777, b"", 0)
    }

    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.raw(b'1', path.as_bytes(), target.as_bytes(), 0o644, b"", 0)
    }

    pub fn special(self, flag: u8, path: &str) -> Self {
        self.raw(flag, path.as_bytes(), b"", 0o666, b"", 0)
    }

    /// A pax header for the next entry.
    pub fn pax(self, key: &str, value: impl AsRef<[u8]>) -> Self {
        let record = pax_record(key, value.as_ref());
        self.raw(b'x', b"pax", b"", 0o644, &record, record.len() as u64)
    }

    fn long(self, path: &[u8]) -> Self {
        if path.len() > 100 { self.pax("path", path) } else { self }
    }

    pub fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

pub fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [format!("{length} {key}=").as_bytes(), value, b"\n"].concat()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).unwrap();
    gz.finish().unwrap()
}

/// A frame of uncompressed blocks, after one that is to be skipped.
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut out = [b"\x50\x2a\x4d\x18\x03\0\0\0abc".as_slice(), b"\x28\xb5\x2f\xfd\xa0"].concat();
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    let blocks: Vec<&[u8]> = bytes.chunks(100_000).collect();
    for (at, block) in blocks.iter().enumerate() {
        let header = (block.len() as u32) << 3 | u32::from(at + 1 == blocks.len());
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
    out
}

pub fn architecture() -> &'static str {
    if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" }
}

/// A layer as it is sent.
#[derive(Clone)]
pub struct Layer {
    pub media_type: String,
    pub bytes: Vec<u8>,
    pub diff_id: String,
    pub urls: Vec<String>,
}

impl From<Tar> for Layer {
    fn from(tar: Tar) -> Self {
        Self::packed(tar.end(), LAYER)
    }
}

impl Layer {
    pub fn packed(unpacked: Vec<u8>, media_type: &str) -> Self {
        let diff_id = Digest::of(&unpacked).to_string();
        let bytes = match media_type {
            GZIP => gzip(&unpacked),
            ZSTD => zstd(&unpacked),
            _ => unpacked,
        };
        Self { media_type: media_type.to_owned(), bytes, diff_id, urls: Vec::new() }
    }
}

/// An image that is being made; what is public can be made wrong.
#[derive(Clone)]
pub struct Image {
    pub layers: Vec<Layer>,
    pub config: Value,
    pub architecture: String,
    /// More members of the manifest.
    pub more: Value,
    /// More members of the configuration.
    pub more_config: Value,
    /// Changes the manifest, and what stands in its layers' and configuration's descriptors.
    pub alter: fn(&mut Value),
    /// Put before the image's own files.
    pub before: Tar,
    /// Put after them.
    pub after: Tar,
}

impl Image {
    pub fn of(layers: impl IntoIterator<Item = Tar>) -> Self {
        Self {
            layers: layers.into_iter().map(Layer::from).collect(),
            config: json!({"Cmd": ["/bin/true"]}),
            architecture: architecture().to_owned(),
            more: json!({}),
            more_config: json!({}),
            alter: |_| {},
            before: Tar::default(),
            after: Tar::default(),
        }
    }

    fn configuration(&self) -> Vec<u8> {
        let diff_ids: Vec<&String> = self.layers.iter().map(|l| &l.diff_id).collect();
        let mut config = json!({
            "architecture": self.architecture, "os": "linux", "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": [],
        });
        add(&mut config, &self.more_config);
        config.to_string().into_bytes()
    }

    pub fn manifest(&self) -> Vec<u8> {
        let layer = |l: &Layer| {
            let mut layer = descriptor(&l.media_type, &l.bytes);
            if !l.urls.is_empty() {
                layer["urls"] = json!(l.urls);
            }
            layer
        };
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &self.configuration()),
            "layers": self.layers.iter().map(layer).collect::<Vec<_>>(),
        });
        add(&mut manifest, &self.more);
        (self.alter)(&mut manifest);
        manifest.to_string().into_bytes()
    }

    /// Its files, with the layers first: an archive has no order.
    pub fn blobs(&self, tar: Tar) -> Tar {
        let tar = self.layers.iter().fold(tar, |tar, layer| blob(tar, &layer.bytes));
        blob(blob(tar, &self.configuration()), &self.manifest())
    }

    pub fn layout(&self) -> Vec<u8> {
        self.indexed(&[descriptor(MANIFEST, &self.manifest())])
    }

    pub fn indexed(&self, manifests: &[Value]) -> Vec<u8> {
        let index = json!({"schemaVersion": 2, "manifests": manifests}).to_string();
        let tar = self.blobs(self.before.clone().folder("blobs/").folder("blobs/sha256/"));
        let mut tar = tar.file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", index);
        tar.0.extend_from_slice(&self.after.0);
        tar.end()
    }

    /// As `docker save` writes it; `name` gives each layer's file its name.
    pub fn docker_archive(&self, name: fn(usize) -> String) -> Vec<u8> {
        let configuration = self.configuration();
        let config = format!("{}.json", hex(&configuration));
        let layers: Vec<String> = (0..self.layers.len()).map(name).collect();
        let manifest = json!([{"Config": config, "RepoTags": ["x:latest"], "Layers": layers}]).to_string();
        let mut tar = self.before.clone().file(config, configuration);
        for (name, layer) in layers.iter().zip(&self.layers) {
            tar = tar.file(name, &layer.bytes);
        }
        tar = tar.file("manifest.json", manifest);
        tar.0.extend_from_slice(&self.after.0);
        tar.end()
    }
}

fn add(document: &mut Value, more: &Value) {
    document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
}

pub fn blob(tar: Tar, bytes: &[u8]) -> Tar {
    tar.file(format!("blobs/sha256/{}", hex(bytes)), bytes)
}

pub fn hex(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string().trim_start_matches("sha256:").to_owned()
}

pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(bytes).to_string(), "size": bytes.len()})
}
