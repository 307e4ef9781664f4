//! Images of both formats, and hostile ones: each is refused by name or stays inside its root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "tests"
)]

mod hostile;
mod pack;

use decores_engine_container::{Bounds, Image as Unpacked, Places, Refusal, unpack};
use decores_types::Digest;
use pack::{GZIP, Image, Layer, MANIFEST, Tar, ZSTD, descriptor};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use tempfile::TempDir;

/// Where one image is unpacked.
pub struct Scratch {
    folder: TempDir,
    pub bounds: Bounds,
}

impl Default for Scratch {
    fn default() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["rootfs", "blobs", "outside"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        fs::write(folder.path().join("outside/secret"), "secret").unwrap();
        Self { folder, bounds: Bounds { entries: 10_000, bytes: Some(64 << 20) } }
    }
}

impl Scratch {
    pub fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    pub fn root(&self, below: &str) -> PathBuf {
        self.path("rootfs").join(below)
    }

    pub fn try_unpack(&self, archive: &[u8]) -> Result<Unpacked, Refusal> {
        let places = Places::open(&self.path("rootfs"), &self.path("blobs")).unwrap();
        let (digest, image) = unpack(archive, &places, &self.bounds);
        assert_eq!(digest, Some(Digest::of(archive)), "what is refused is read to its end too");
        assert_eq!(fs::read_to_string(self.path("outside/secret")).unwrap(), "secret");
        assert_eq!(fs::read_dir(self.path("outside")).unwrap().count(), 1);
        assert_eq!(fs::read_dir(self.path("")).unwrap().count(), 3, "only in the root and beside it");
        image
    }

    pub fn unpack(&self, archive: &[u8]) -> Unpacked {
        self.try_unpack(archive).unwrap_or_else(|e| panic!("{e}"))
    }

    pub fn text(&self, below: &str) -> String {
        fs::read_to_string(self.root(below)).unwrap()
    }

    pub fn mode(&self, below: &str) -> u32 {
        fs::symlink_metadata(self.root(below)).unwrap().permissions().mode() & 0o7777
    }

    pub fn is_there(&self, below: &str) -> bool {
        self.root(below).symlink_metadata().is_ok()
    }
}

fn small() -> Tar {
    Tar::default().folder("bin/").mode("bin/true", 0o755, "program").link("sh", "bin/true")
}

#[test]
fn a_layout_is_unpacked_with_the_words_of_its_configuration() {
    let scratch = Scratch::default();
    let mut image = Image::of([small()]);
    image.config = json!({
        "User": "7:8", "Env": ["A=1"], "Entrypoint": ["/e"], "Cmd": ["c", ""], "WorkingDir": "/bin", "Labels": {"x": "y"},
    });
    let got = scratch.unpack(&image.layout());
    assert_eq!(got.digest, Digest::of(&image.manifest()));
    assert_eq!((got.entrypoint, got.cmd), (vec!["/e".to_owned()], vec!["c".to_owned(), String::new()]));
    assert_eq!((got.env, got.cwd.as_str()), (vec!["A=1".to_owned()], "/bin"));
    assert_eq!((got.user.uid, got.user.gid, got.user.home.as_str()), (7, 8, "/"));
    assert_eq!((got.files, got.bytes), (3, 7));
    assert_eq!(scratch.text("bin/true"), "program");
    assert_eq!(scratch.text("sh"), "program");
    assert_eq!(scratch.root("bin/true").metadata().unwrap().mtime(), 0o17);
    assert_eq!(fs::read_dir(scratch.path("blobs")).unwrap().count(), 0, "the parts are gone");
    for mounted in ["dev", "in", "out", "proc", "sys", "tmp"] {
        assert!(scratch.root(mounted).is_dir(), "{mounted}");
    }
}

#[test]
fn layers_come_plain_gzip_in_several_members_and_zstd() {
    let scratch = Scratch::default();
    let unpacked = Tar::default().file("g", vec![7; 300_000]).end();
    let mut members = Layer::packed(unpacked.clone(), GZIP);
    let (one, two) = unpacked.split_at(1000);
    members.bytes = [pack::gzip(one), pack::gzip(two)].concat();
    let mut image = Image::of([small()]);
    image.layers.push(members);
    image.layers.push(Layer::packed(Tar::default().file("z", vec![9; 300_000]).end(), ZSTD));
    scratch.unpack(&image.layout());
    assert_eq!(fs::read(scratch.root("g")).unwrap(), vec![7; 300_000]);
    assert_eq!(fs::read(scratch.root("z")).unwrap(), vec![9; 300_000]);
}

#[test]
fn a_docker_archive_is_named_by_its_configuration_and_may_hold_a_layer_as_a_link() {
    let scratch = Scratch::default();
    let mut image = Image::of([small(), Tar::default().file("second", "2")]);
    image.layers[1] = Layer::packed(Tar::default().file("second", "2").end(), GZIP);
    let got = scratch.unpack(&image.docker_archive(|n| format!("{n}/layer.tar")));
    assert_eq!(scratch.text("second"), "2");
    let config = serde_json::from_slice::<serde_json::Value>(&image.manifest()).unwrap()["config"]["digest"].clone();
    assert_eq!(got.digest.to_string(), config);

    let linked = Scratch::default();
    let shared = Image::of([small()]);
    let (config, layer) = (configuration(&shared), &shared.layers[0].bytes);
    let manifest = json!([{"Config": "c.json", "Layers": ["0/layer.tar"]}]).to_string();
    let tar = Tar::default().file("c.json", config).file("manifest.json", manifest).file("1/layer.tar", layer);
    linked.unpack(&tar.link("0/layer.tar", "../1/layer.tar").end());
    assert_eq!(linked.text("bin/true"), "program");
}

fn configuration(image: &Image) -> Vec<u8> {
    let diff_ids: Vec<&String> = image.layers.iter().map(|l| &l.diff_id).collect();
    let rootfs = json!({"type": "layers", "diff_ids": diff_ids});
    json!({"architecture": pack::architecture(), "os": "linux", "rootfs": rootfs}).to_string().into_bytes()
}

#[test]
fn of_several_platforms_this_machines_is_taken_from_a_nested_index() {
    let scratch = Scratch::default();
    let (ours, mut other) = (Image::of([small()]), Image::of([Tar::default().file("other", "")]));
    other.architecture = "s390x".to_owned();
    let platform = |image: &Image| {
        let mut descriptor = descriptor(MANIFEST, &image.manifest());
        descriptor["platform"] = json!({"os": "linux", "architecture": image.architecture});
        descriptor
    };
    let mut unknown = descriptor(MANIFEST, b"an attestation");
    unknown["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let inner = json!({"schemaVersion": 2, "manifests": [platform(&other), platform(&ours), unknown]}).to_string();
    let mut outer = ours.clone();
    outer.before = pack::blob(other.blobs(Tar::default()), inner.as_bytes());
    scratch.unpack(&outer.indexed(&[descriptor(pack::INDEX, inner.as_bytes())]));
    assert!(scratch.is_there("bin/true") && !scratch.is_there("other"));
}

#[test]
fn upper_layers_hide_and_replace_what_lower_ones_have() {
    let lower = Tar::default()
        .folder("etc/")
        .file("etc/kept", "1")
        .file("etc/gone", "1")
        .folder("opaque/")
        .file("opaque/lower", "1")
        .folder("opaque/deep/")
        .file("opaque/deep/lower", "1")
        .file("becomes-folder", "1")
        .folder("becomes-file/")
        .file("becomes-file/x", "1")
        .folder_mode("closed/", 0o555)
        .link("lib", "usr/lib");
    let upper = Tar::default()
        .file("etc/.wh.gone", "")
        .file("etc/.wh.never", "")
        .file("opaque/upper", "2")
        .file("opaque/deep/upper", "2")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/.wh..wh.plnk", "")
        .folder("becomes-folder/")
        .file("becomes-folder/x", "2")
        .file("becomes-file", "2")
        .file("closed/new", "2")
        .folder("usr/lib/")
        .file("lib/through", "2");
    let scratch = Scratch::default();
    scratch.unpack(&Image::of([lower, upper]).layout());
    assert_eq!(scratch.text("etc/kept"), "1");
    for gone in ["etc/gone", "opaque/lower", "opaque/deep/lower", "opaque/.wh..wh..opq", "etc/.wh.gone"] {
        assert!(!scratch.is_there(gone), "{gone}");
    }
    for new in ["opaque/upper", "opaque/deep/upper", "becomes-folder/x", "becomes-file", "closed/new"] {
        assert_eq!(scratch.text(new), "2", "{new}");
    }
    assert_eq!(scratch.text("usr/lib/through"), "2", "a link on the way is followed inside the root");
}

#[test]
fn users_are_looked_up_in_the_image() {
    let passwd = "root:x:0:0::/root:/bin/sh\nweb:x:33:44:w:/var/www:/bin/false\nodd\n";
    let files = || Tar::default().file("etc/passwd", passwd).file("etc/group", "root:x:0:\nstaff:x:50:web\n");
    for (user, uid, gid, home) in [
        ("", 0, 0, "/root"),
        ("web", 33, 44, "/var/www"),
        ("33", 33, 44, "/var/www"),
        ("web:staff", 33, 50, "/var/www"),
        ("12:34", 12, 34, "/"),
        ("12", 12, 0, "/"),
        (":staff", 0, 50, "/root"),
    ] {
        let mut image = Image::of([files()]);
        image.config = json!({"User": user});
        let got = Scratch::default().unpack(&image.layout()).user;
        assert_eq!((got.uid, got.gid, got.home.as_str()), (uid, gid, home), "{user}");
    }
}

#[test]
fn names_of_any_bytes_and_any_length_that_the_system_takes() {
    let long = "d".repeat(200) + "/" + &"e".repeat(250);
    let tar = Tar::default()
        .file(b"not \xff utf-8", "1")
        .file(&long, "2")
        .pax("path", "line\nbreak")
        .file("x", "3")
        .file("Case", "4")
        .file("case", "5");
    let scratch = Scratch::default();
    scratch.unpack(&Image::of([tar]).layout());
    assert_eq!(scratch.text(&long), "2");
    assert_eq!(scratch.text("line\nbreak"), "3");
    assert_eq!((scratch.text("Case"), scratch.text("case")), ("4".to_owned(), "5".to_owned()));
    use std::os::unix::ffi::OsStrExt;
    assert!(scratch.path("rootfs").join(std::ffi::OsStr::from_bytes(b"not \xff utf-8")).exists());
}

#[test]
fn an_archive_that_breaks_off_has_no_digest() {
    struct Broken<'a>(&'a [u8]);
    impl std::io::Read for Broken<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            match std::io::Read::read(&mut self.0, into)? {
                0 => Err(std::io::Error::other("a chunk does not authenticate")),
                n => Ok(n),
            }
        }
    }
    let archive = Image::of([small()]).layout();
    for length in [0, 300, 2000, archive.len()] {
        let scratch = Scratch::default();
        let places = Places::open(&scratch.path("rootfs"), &scratch.path("blobs")).unwrap();
        let (digest, image) = unpack(Broken(&archive[..length]), &places, &scratch.bounds);
        assert!(digest.is_none() && matches!(image, Err(Refusal::Source(_))), "{length}: {image:?}");
        assert_eq!(fs::read_dir(scratch.path("rootfs")).unwrap().count(), 0, "nothing is made before the end");
    }
}
