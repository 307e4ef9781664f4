//! What hostile images try, each by name.

use crate::Scratch;
use crate::pack::{self, GZIP, INDEX, Image, LAYER, Layer, MANIFEST, Tar, descriptor, pax_record};
use decores_engine_container::Refusal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::MetadataExt;

/// Unpacks a hostile layer over an empty image.
fn layer(tar: Tar) -> Result<Scratch, String> {
    archive(&Image::of([tar]).layout())
}

fn archive(bytes: &[u8]) -> Result<Scratch, String> {
    unpacked(Scratch::default(), bytes)
}

fn unpacked(scratch: Scratch, bytes: &[u8]) -> Result<Scratch, String> {
    match scratch.try_unpack(bytes) {
        Ok(_) => Ok(scratch),
        Err(refusal @ (Refusal::Image(_) | Refusal::Full(_))) => Err(refusal.to_string()),
        Err(other) => panic!("not the image's fault: {other:?}"),
    }
}

#[track_caller]
fn refused(result: Result<Scratch, String>, because: &str) {
    let Err(why) = result else { panic!("it was unpacked") };
    assert!(why.contains(because), "{why}");
}

fn altered(alter: fn(&mut Value)) -> Vec<u8> {
    let mut image = Image::of([Tar::default().file("a", "a")]);
    image.alter = alter;
    image.layout()
}

fn configured(config: Value) -> Result<Scratch, String> {
    let mut image = Image::of([Tar::default().file("a", "a")]);
    image.config = config;
    archive(&image.layout())
}

#[test]
fn a_path_upwards() {
    refused(layer(Tar::default().file("../outside/x", "x")), "leads upwards");
    refused(layer(Tar::default().file("a/../../outside/x", "x")), "leads upwards");
    refused(layer(Tar::default().folder("..")), "leads upwards");
}

#[test]
fn an_absolute_path() {
    let scratch = layer(Tar::default().file("/etc/x", "x")).unwrap();
    assert_eq!(scratch.text("etc/x"), "x", "it is taken as below the root");
}

#[test]
fn a_link_out_that_is_written_through() {
    for target in ["/", "../outside", "../../../../../../outside", "/proc/self/root"] {
        let result = layer(Tar::default().folder("outside/").folder("proc/").link("door", target).file("door/x", "x"));
        // Inside the root the link leads somewhere, or nowhere.
        if let Err(why) = result {
            assert!(why.contains("link to nowhere"), "{target}: {why}");
        }
    }
    let scratch = layer(Tar::default().link("door", "../outside/secret").file("door", "x")).unwrap();
    assert_eq!(scratch.text("door"), "x", "the link is replaced, not followed");
    assert!(!scratch.root("door").is_symlink());
}

#[test]
fn a_link_in_circles() {
    refused(layer(Tar::default().link("a", "b").link("b", "a").file("a/x", "x")), "in circles");
}

#[test]
fn a_hard_link_to_outside() {
    refused(layer(Tar::default().hard_link("x", "../outside/secret")), "leads upwards");
    refused(layer(Tar::default().hard_link("x", "/etc/passwd")), "hard link to `/etc/passwd`, which is no file");
    refused(layer(Tar::default().link("d", "../outside").hard_link("x", "d/secret")), "which is no file");
    refused(layer(Tar::default().folder("d/").hard_link("x", "d")), "which is no file");
}

#[test]
fn a_hard_link_to_a_link() {
    let tar = Tar::default().link("link", "../outside/secret").hard_link("x", "link").file("x", "mine");
    let scratch = layer(tar).unwrap();
    assert_eq!(scratch.text("x"), "mine");
    assert!(scratch.root("link").is_symlink(), "the first name still is the link itself");
}

#[test]
fn a_hard_link_that_is_written_through() {
    let lower = Tar::default().file("shared", "lower").hard_link("other", "shared");
    let scratch = archive(&Image::of([lower, Tar::default().file("other", "upper")]).layout()).unwrap();
    assert_eq!(scratch.text("shared"), "lower", "a new file has nothing of the old one's");
}

#[test]
fn a_hard_link_to_itself() {
    let scratch = layer(Tar::default().file("a", "a").hard_link("a", "./a")).unwrap();
    assert_eq!((scratch.text("a").as_str(), scratch.root("a").metadata().unwrap().nlink()), ("a", 1));
}

#[test]
fn devices_and_pipes() {
    for flag in [b'3', b'4', b'6'] {
        refused(layer(Tar::default().special(flag, "etc/x")), "a device or a pipe");
    }
    let scratch = layer(Tar::default().special(b'3', "dev/null").special(b'4', "./dev/sda")).unwrap();
    assert_eq!(fs::read_dir(scratch.root("dev")).unwrap().count(), 0, "what nobody can see is left out");
}

#[test]
fn an_entry_of_no_known_kind() {
    refused(layer(Tar::default().special(b'V', "x")), "unknown kind 'V'");
}

#[test]
fn bits_that_make_somebody_else_of_who_runs_it() {
    let tar = Tar::default().mode("su", 0o6755, "x").folder_mode("d/", 0o7777).mode("none", 0, "x");
    let scratch = layer(tar.folder_mode("closed/", 0)).unwrap();
    assert_eq!((scratch.mode("su"), scratch.mode("d")), (0o755, 0o1777));
    assert_eq!((scratch.mode("none"), scratch.mode("closed")), (0o444, 0o755), "what is there can be read");
}

#[test]
fn a_whiteout_of_what_lies_outside() {
    for name in [".wh...", ".wh..", ".wh.", "d/.wh..."] {
        refused(layer(Tar::default().folder("d/").file(name, "")), "hides what is not in its own folder");
    }
    let scratch = layer(Tar::default().link("door", "../outside").file("door/.wh.secret", "")).unwrap();
    assert!(scratch.is_there("door"));
}

#[test]
fn a_whiteout_of_everything() {
    let lower = Tar::default().file("a", "1").file("d/b", "1").link("door", "../outside");
    let upper = Tar::default().file("new", "2").file(".wh..wh..opq", "");
    let scratch = archive(&Image::of([lower, upper]).layout()).unwrap();
    assert_eq!(scratch.text("new"), "2");
    assert!(!scratch.is_there("a") && !scratch.is_there("d") && !scratch.is_there("door"));
}

#[test]
fn a_file_of_holes() {
    let size = 1 << 50;
    refused(layer(Tar::default().raw(b'0', b"huge", b"", 0o644, b"", size)), "inside an entry");
    refused(layer(Tar::default().raw(b'S', b"sparse", b"", 0o644, b"", 0)), "sparse");
    let gnu = Tar::default().pax("GNU.sparse.realsize", "1125899906842624").file("sparse", "x");
    refused(layer(gnu), "sparse");
}

#[test]
fn two_sizes_for_one_file() {
    refused(layer(Tar::default().pax("size", "1024").file("x", "x")), "two sizes");
    let hidden = Tar::default().raw(b'2', b"link", b"x", 0o777, &[0; 512], 512);
    refused(layer(hidden), "no file has content");
    let global = pax_record("path", b"x");
    refused(layer(Tar::default().raw(b'g', b"g", b"", 0, &global, global.len() as u64)), "global header");
}

#[test]
fn a_bomb() {
    let bomb = Tar::default().file("zeros", vec![0; 80 << 20]);
    for media_type in [GZIP, pack::ZSTD] {
        let mut image = Image::of([]);
        image.layers.push(Layer::packed(bomb.clone().end(), media_type));
        refused(archive(&image.layout()), "unpack to more bytes than the scratch has");
    }
}

#[test]
fn too_many_files() {
    let many = (0..10_001).fold(Tar::default(), |tar, n| tar.raw(b'0', format!("{n}").as_bytes(), b"", 0o644, b"", 0));
    refused(layer(many), "too many files");
}

#[test]
fn too_many_files_in_the_archive() {
    let mut image = Image::of([]);
    image.before = (0..4097).fold(Tar::default(), |tar, n| tar.file(format!("x{n}"), ""));
    refused(archive(&image.layout()), "more than 4096 files");
}

#[test]
fn folders_without_end() {
    refused(layer(Tar::default().file("d/".repeat(200) + "x", "x")), "more than 128 parts");
    // Deeper than a path can say, by links, and then to be removed.
    let deep = "d/".repeat(100);
    let mut tar = Tar::default().folder(&deep);
    for n in 0..3 {
        let above = if n == 0 { String::new() } else { format!("l{}/", n - 1) };
        tar = tar.link(&format!("l{n}"), &format!("{above}{}", deep.trim_end_matches('/')));
        tar = tar.folder(format!("l{n}/{deep}"));
    }
    refused(layer(tar.file("d", "x")), "nested too deeply");
}

#[test]
fn a_path_that_is_too_long() {
    refused(layer(Tar::default().pax("path", "x/".repeat(4000)).file("x", "x")), "more than 4095 bytes");
    refused(layer(Tar::default().file("x".repeat(256), "x")), "more than 255 bytes");
    refused(layer(Tar::default().pax("path", b"a\0b").file("x", "x")), "zero byte");
    refused(layer(Tar::default().raw(b'0', b"", b"", 0o644, b"", 0)), "stands for the root");
}

#[test]
fn headers_without_end() {
    refused(layer(Tar::default().pax("comment", vec![b'x'; 300_000]).file("x", "x")), "extended header has more than");
    let row = (0..20).fold(Tar::default(), |tar, _| tar.pax("comment", "x")).file("x", "x");
    refused(layer(row), "in a row");
    let long = Tar::default().raw(b'L', b"L", b"", 0, &vec![b'x'; 5000], 5000).file("x", "x");
    refused(layer(long), "more than 4095 bytes");
    for wrong in [b"99999999 a=b\n".as_slice(), b"3 =", b"x a=b\n", b"6 a=bb", b"5 aaa"] {
        let tar = Tar::default().raw(b'x', b"x", b"", 0, wrong, wrong.len() as u64);
        refused(layer(tar.file("x", "x")), "a pax header is not one");
    }
}

#[test]
fn a_header_that_was_altered() {
    let mut tar = Tar::default().file("x", "x");
    tar.0[3] ^= 1;
    refused(layer(tar), "checksum");
}

#[test]
fn a_layer_with_another_digest() {
    let other = format!("sha256:{}", "0".repeat(64));
    let mut image = Image::of([Tar::default().file("a", "a")]);
    image.layers[0].diff_id = other;
    refused(archive(&image.layout()), "unpacks to something else");
    refused(archive(&altered(|m| m["layers"][0]["size"] = json!(1))), "another size than its descriptor says");
    refused(
        archive(&altered(|m| m["layers"][0]["digest"] = json!(format!("sha256:{}", "0".repeat(64))))),
        "not in the archive",
    );
    refused(archive(&altered(|m| m["layers"][0]["digest"] = json!("sha512:00"))), "not the digest of a kind");
    refused(archive(&altered(|m| m["layers"][0]["digest"] = json!("sha256:../../x"))), "not the digest of a kind");
}

#[test]
fn a_blob_under_anothers_name() {
    let image = Image::of([Tar::default().file("a", "a")]);
    let bytes = image.layout();
    let layer = &image.layers[0].bytes;
    let at = bytes.windows(layer.len()).position(|w| w == layer.as_slice()).unwrap();
    let mut altered = bytes;
    altered[at + 512] ^= 1;
    refused(archive(&altered), "its content has another digest");
}

#[test]
fn a_layer_that_is_cut_short() {
    for (cut, why) in [(700, "inside an entry"), (100, "inside a header")] {
        let mut unpacked = Tar::default().file("a", vec![1; 1000]).end();
        unpacked.truncate(cut);
        let mut image = Image::of([]);
        image.layers.push(Layer::packed(unpacked, LAYER));
        refused(archive(&image.layout()), why);
    }
    let mut whole = Tar::default().file("a", vec![1; 1000]);
    whole.0.truncate(512 + 1000);
    let mut image = Image::of([]);
    image.layers.push(Layer::packed(whole.0, LAYER));
    assert!(archive(&image.layout()).is_ok(), "only padding is missing, as some writers leave it");
    let mut image = Image::of([]);
    let mut packed = Layer::packed(Tar::default().file("a", vec![1; 1000]).end(), GZIP);
    packed.bytes.truncate(30);
    image.layers.push(packed);
    refused(archive(&image.layout()), "does not unpack");
}

#[test]
fn bytes_after_the_end() {
    let mut unpacked = Tar::default().file("a", "a").end();
    unpacked.extend_from_slice(b"more");
    let mut image = Image::of([]);
    image.layers.push(Layer::packed(unpacked, LAYER));
    refused(archive(&image.layout()), "bytes follow its end");
    let mut whole = Image::of([Tar::default().file("a", "a")]).layout();
    whole.push(1);
    refused(archive(&whole), "bytes follow its end");
}

#[test]
fn an_index_of_indexes_without_end() {
    let image = Image::of([Tar::default().file("a", "a")]);
    let mut inner = descriptor(MANIFEST, &image.manifest());
    let mut outer = image.clone();
    for _ in 0..6 {
        let index = json!({"schemaVersion": 2, "manifests": [inner]}).to_string();
        outer.before = pack::blob(outer.before, index.as_bytes());
        inner = descriptor(INDEX, index.as_bytes());
    }
    refused(archive(&outer.indexed(&[inner])), "nested too deeply");
    let wide = vec![descriptor(MANIFEST, &image.manifest()); 300];
    refused(archive(&image.indexed(&wide)), "more than 256 manifests");
}

#[test]
fn a_manifest_that_is_too_large() {
    let mut image = Image::of([]);
    let large = " ".repeat(5 << 20);
    image.before = pack::blob(Tar::default(), large.as_bytes());
    refused(archive(&image.indexed(&[descriptor(MANIFEST, large.as_bytes())])), "has more than 4194304 bytes");
}

#[test]
fn a_manifest_of_something_else() {
    refused(
        archive(&altered(|m| m["config"]["mediaType"] = json!("application/vnd.example"))),
        "not an image's manifest",
    );
    refused(archive(&altered(|m| m["schemaVersion"] = json!(1))), "another version than 2");
    refused(archive(&altered(|m| m["layers"] = json!([]))), "does not name each of the layers");
    refused(archive(&altered(|m| drop(m.as_object_mut().unwrap().remove("config")))), "cannot be read");
    let nested = "[".repeat(10_000);
    let mut image = Image::of([]);
    image.before = pack::blob(Tar::default(), nested.as_bytes());
    refused(archive(&image.indexed(&[descriptor(MANIFEST, nested.as_bytes())])), "cannot be read");
}

#[test]
fn a_layer_from_elsewhere() {
    let mut image = Image::of([Tar::default().file("a", "a")]);
    image.layers[0].urls = vec!["http://169.254.169.254/".to_owned()];
    refused(archive(&image.layout()), "fetched from elsewhere");
    for kind in ["nondistributable.v1.tar+gzip", "v1.tar+gzip+encrypted", "v1.squashfs"] {
        let mut image = Image::of([Tar::default().file("a", "a")]);
        image.layers[0].media_type = format!("application/vnd.oci.image.layer.{kind}");
        refused(archive(&image.layout()), "is not unpacked");
    }
}

#[test]
fn a_mount_point_that_leads_elsewhere() {
    for name in ["dev", "in", "out", "proc", "sys", "tmp"] {
        refused(layer(Tar::default().link(name, "/")), &format!("its `/{name}` is no folder"));
    }
    refused(layer(Tar::default().file("out", "x")), "its `/out` is no folder");
}

/// An image whose program is to start in `working_dir`.
fn working(tar: Tar, working_dir: &str) -> Vec<u8> {
    let mut image = Image::of([tar]);
    image.config = json!({"WorkingDir": working_dir});
    image.layout()
}

#[test]
fn a_working_folder_that_is_not_there() {
    for (named, path) in [("/nope", "/nope"), ("/a//b/./c/", "/a/b/c"), ("/", "/")] {
        let scratch = Scratch::default();
        assert_eq!(scratch.unpack(&working(Tar::default(), named)).cwd, path);
        assert!(scratch.root(path.trim_start_matches('/')).is_dir() && scratch.mode("tmp") == 0o755);
    }
}

#[test]
fn a_working_folder_that_is_none_or_leads_elsewhere() {
    let at = |tar: Tar, named: &str| archive(&working(tar, named));
    refused(at(Tar::default().file("a", "a"), "/a"), "through what is no folder");
    refused(at(Tar::default().file("a", "a"), "/a/b"), "through what is no folder");
    refused(at(Tar::default(), "/a/../../outside"), "leads upwards");
    refused(at(Tar::default().link("a", "b").link("b", "a"), "/a"), "in circles");
    refused(at(Tar::default().link("door", "/nowhere"), "/door/x"), "link to nowhere");
    for kernels in ["/proc/self/fd/6", "/proc", "/sys", "/dev/shm", "/tmp/x", "/in/x", "/out/x"] {
        refused(at(Tar::default(), kernels), "something else is mounted there");
    }
    let door = Tar::default().folder("proc/self/fd/6").link("door", "/proc/self/fd");
    refused(at(door, "/door/6"), "something else is mounted there");
    refused(at(Tar::default().link("door", "tmp"), "/door/x"), "something else is mounted there");
    let scratch = Scratch::default();
    let links = Tar::default().folder("srv/one/").link("srv/now", "one").link("door", "../../outside");
    assert_eq!(scratch.unpack(&working(links.clone(), "/srv/now/x")).cwd, "/srv/one/x", "no link is left in it");
    refused(at(links, "/door"), "link to nowhere");
}

#[test]
fn a_document_that_is_two() {
    let other = "of a document of another kind";
    for member in ["rootfs", "RootFS", "manifests", "Layers", "os"] {
        let mut image = Image::of([Tar::default().file("a", "a")]);
        image.more = json!({member: {}});
        refused(archive(&image.layout()), other);
    }
    for member in ["layers", "LAYERS", "schemaVersion", "\u{17f}chemaversion", "manifests", "Config"] {
        let mut image = Image::of([Tar::default().file("a", "a")]);
        image.more_config = json!({member: []});
        refused(archive(&image.layout()), other);
        refused(archive(&image.docker_archive(|n| format!("{n}.tar"))), other);
    }
}

#[test]
fn words_that_cannot_be_said() {
    refused(configured(json!({"Cmd": ["a\0b"]})), "zero byte");
    refused(configured(json!({"Env": ["NOTHING"]})), "`NOTHING` is no environment variable");
    refused(configured(json!({"Env": ["=x"]})), "no environment variable");
    refused(configured(json!({"Env": [format!("A={}", "x".repeat(1 << 20))]})), "too long");
    refused(configured(json!({"Cmd": vec![""; 5000]})), "too long");
    refused(configured(json!({"WorkingDir": "work"})), "not an absolute path");
    refused(configured(json!({"Cmd": "a string"})), "cannot be read");
}

#[test]
fn a_user_that_is_not_there() {
    for user in ["nobody", "4294967295", "65536", "0:65536", "0:nogroup", "-1", "99999999999"] {
        let config = json!({"User": user});
        let Err(why) = configured(config) else { panic!("{user}") };
        assert!(why.contains("no user or group") || why.contains("go up to 65535"), "{user}: {why}");
    }
    let door = Tar::default().link("etc/passwd", "/proc/self/environ");
    let mut image = Image::of([door]);
    image.config = json!({"User": "nobody"});
    refused(archive(&image.layout()), "no user or group `nobody`");
}

#[test]
fn an_image_for_another_machine_or_for_several() {
    let mut other = Image::of([Tar::default().file("a", "a")]);
    other.architecture = "s390x".to_owned();
    refused(archive(&other.layout()), "no image for linux/");
    refused(archive(&other.docker_archive(|n| format!("{n}.tar"))), "no image for linux/");
    let (one, mut two) = (Image::of([Tar::default().file("a", "a")]), Image::of([Tar::default().file("b", "b")]));
    two.before = one.blobs(Tar::default());
    let both = [&one, &two].map(|i| descriptor(MANIFEST, &i.manifest()));
    refused(archive(&two.indexed(&both)), "several images");
    refused(archive(&two.indexed(&[])), "no image for");
}

#[test]
fn names_that_lead_out_of_the_archive() {
    for path in ["blobs/sha256/../../x", "../x", "/etc/x"] {
        let mut image = Image::of([Tar::default().file("a", "a")]);
        image.after = Tar::default().file(path, "x");
        let Err(why) = archive(&image.layout()) else { panic!("{path}") };
        assert!(why.contains("leads upwards") || why.contains("absolute"), "{why}");
    }
    let image = Image::of([Tar::default().file("a", "a")]);
    refused(archive(&image.docker_archive(|_| "../layer.tar".to_owned())), "leads upwards");
    for target in ["../../etc/passwd", "/etc/passwd"] {
        let mut image = image.clone();
        image.after = Tar::default().link("x/layer.tar", target);
        let Err(why) = archive(&image.docker_archive(|n| format!("{n}.tar"))) else { panic!("{target}") };
        assert!(why.contains("outside of the archive") || why.contains("absolute"), "{why}");
    }
}

#[test]
fn a_name_that_stands_twice() {
    let mut image = Image::of([Tar::default().file("a", "a")]);
    image.after = Tar::default().file("index.json", "{}");
    refused(archive(&image.layout()), "`index.json`: it stands in the archive twice");
    let mut image = Image::of([Tar::default().file("a", "a")]);
    image.after = pack::blob(Tar::default(), &image.layers[0].bytes);
    refused(archive(&image.layout()), "twice");
}

#[test]
fn a_docker_archive_that_lies() {
    let image = Image::of([Tar::default().file("a", "a")]);
    let mut bytes = image.docker_archive(|n| format!("{n}.tar"));
    let at = bytes.windows(9).position(|w| w == b"/bin/true").unwrap();
    bytes[at + 5] = b'T';
    refused(archive(&bytes), "another digest than its name says");
    let tar = Tar::default().file("manifest.json", "[]").end();
    refused(archive(&tar), "holds 0 images");
    let tar = Tar::default().file("manifest.json", r#"[{"Config":"no.json","Layers":[]}]"#).end();
    refused(archive(&tar), "`no.json` is not in the archive");
}

#[test]
fn no_image_at_all() {
    refused(archive(b""), "neither an OCI image layout nor a docker-archive");
    refused(archive(&Tar::default().file("README", "x").end()), "neither");
    refused(archive(b"\0asm\x01\0\0\0"), "the archive is not one");
    refused(archive(&vec![0xff; 5000]), "the archive is not one");
}

#[test]
fn an_entry_below_what_is_no_folder() {
    refused(layer(Tar::default().file("a", "a").file("a/b", "b")), "through what is no folder");
}
