//! An image: the archive that a consumer sends, and the layers in it.

use decores_engine_container::{Bounds, Places, unpack};
use decores_types::Digest;
use serde_json::json;
use std::fs;
use std::path::Path;

/// A block of a tar.
const BLOCK: usize = 512;

/// First byte `0`: a layer, and `1`: entries of a layer; both in an image that names them rightly. Else an archive as it
/// came. Nothing may be made outside of the image's root.
pub(crate) fn image(data: &[u8]) {
    let archive = match data.split_first() {
        Some((0, layer)) => archive(layer),
        Some((1, list)) => archive(&entries(list)),
        _ => data.to_vec(),
    };
    let folder = tempfile::tempdir().unwrap();
    for name in ["rootfs", "blobs", "outside"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("outside/secret"), "secret").unwrap();
    let places = Places::open(&folder.path().join("rootfs"), &folder.path().join("blobs")).unwrap();
    let (digest, unpacked) = unpack(archive.as_slice(), &places, &Bounds { entries: 1000, bytes: Some(1 << 20) });
    assert_eq!(digest, Some(Digest::of(&archive)));
    if unpacked.is_ok() {
        assert_eq!(names(&folder.path().join("blobs")), 0, "nothing is left of its parts");
    }
    assert_eq!(names(folder.path()), 3);
    assert_eq!(names(&folder.path().join("outside")), 1);
    assert_eq!(fs::read(folder.path().join("outside/secret")).unwrap(), b"secret");
}

fn names(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// An image with an empty layer below and this one above.
pub(crate) fn archive(layer: &[u8]) -> Vec<u8> {
    let lower = entries(&[5, 1, 0, 0, b'd', 0, 3, 0, 1, b'd', b'/', b'f', b'x', 2, 1, 2, 0, b'l', b'.', b'.']);
    let hex = |bytes: &[u8]| Digest::of(bytes).to_string().split_off(7);
    let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": Digest::of(bytes), "size": bytes.len()});
    let diff_ids = [Digest::of(&lower), Digest::of(layer)];
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let config =
        json!({"architecture": architecture, "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}});
    let config = config.to_string().into_bytes();
    let layers = [descriptor("layer.v1.tar", &lower), descriptor("layer.v1.tar", layer)];
    let manifest = json!({"schemaVersion": 2, "config": descriptor("config.v1+json", &config), "layers": layers});
    let manifest = manifest.to_string().into_bytes();
    let index = json!({"schemaVersion": 2, "manifests": [descriptor("manifest.v1+json", &manifest)]}).to_string();
    let mut tar = entry(b'0', b"oci-layout", b"", br#"{"imageLayoutVersion":"1.0.0"}"#);
    tar.extend(entry(b'0', b"index.json", b"", index.as_bytes()));
    let blobs = [lower.as_slice(), layer, &config, &manifest];
    // Two that are the same would be one.
    for blob in blobs.iter().enumerate().filter(|(at, blob)| !blobs[..*at].contains(blob)).map(|(_, blob)| blob) {
        tar.extend(entry(b'0', format!("blobs/sha256/{}", hex(blob)).as_bytes(), b"", blob));
    }
    tar
}

/// Entries from a list: kind, length of path, of link and of content, then these.
fn entries(mut list: &[u8]) -> Vec<u8> {
    const KINDS: &[u8] = b"0123456LKxgS\0V";
    let mut tar = Vec::new();
    while let Some((&[kind, path, link, content], rest)) = list.split_first_chunk() {
        let cut = |bytes: &mut &[u8], length: u8| {
            let (taken, rest) = bytes.split_at(usize::from(length).min(bytes.len()));
            *bytes = rest;
            taken.to_vec()
        };
        list = rest;
        let (path, link, content) = (cut(&mut list, path), cut(&mut list, link), cut(&mut list, content));
        let flag = KINDS[usize::from(kind) % KINDS.len()];
        // Kinds that have no content would be refused for it at once.
        let content = if b"12345".contains(&flag) { &[] } else { content.as_slice() };
        tar.extend(entry(flag, &path, &link, content));
    }
    tar
}

fn entry(flag: u8, path: &[u8], link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &path[..path.len().min(100)]);
    put(100, b"0000644\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(148, b"        ");
    put(156, &[flag]);
    put(157, &link[..link.len().min(100)]);
    put(257, b"ustar\x0000");
    let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut bytes = [&header, content].concat();
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// A list for [`entries`].
fn list(items: &[(u8, &str, &str, &str)]) -> Vec<u8> {
    let item = |(kind, path, link, content): &(u8, &str, &str, &str)| {
        let lengths = [*kind, path.len() as u8, link.len() as u8, content.len() as u8];
        [&lengths, path.as_bytes(), link.as_bytes(), content.as_bytes()].concat()
    };
    [vec![1], items.iter().flat_map(item).collect()].concat()
}

/// Good and bad ones.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let plain = entry(b'0', b"etc/x", b"", b"content");
    vec![
        [vec![0], plain.clone()].concat(),
        [vec![0], entry(b'L', b"L", b"", &[b'n'; 120]), plain.clone()].concat(),
        [vec![0], entry(b'x', b"x", b"", b"17 path=a/../b/c\n"), plain.clone()].concat(),
        archive(&plain),
        list(&[(5, "a", "", ""), (0, "a/f", "", "1"), (0, ".wh.d", "", ""), (0, "a/.wh..wh..opq", "", "")]),
        list(&[(2, "door", "../outside", ""), (0, "door/x", "", "1"), (1, "h", "door/secret", ""), (1, "i", "l", "")]),
        list(&[(2, "proc", "/", ""), (3, "dev/null", "", ""), (0, "/abs", "", "1"), (5, "./", "", "")]),
        list(&[(9, "", "", "12 path=a/b\n"), (0, "x", "", "1"), (9, "", "", "16 linkpath=d/f\n"), (1, "y", "", "")]),
        list(&[(2, "x", ".", ""), (5, "x/x", "", ""), (0, "x/y", "", "1"), (0, "d", "", "1"), (5, "d", "", "")]),
        list(&[(0, "../x", "", "1")]),
        list(&[(6, "pipe", "", "")]),
        list(&[(11, "sparse", "", "")]),
    ]
}
