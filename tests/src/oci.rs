//! Container images, made with Debian's tools: busybox, umoci, skopeo, docker-registry.

use crate::programs::repository;
use crate::wait::until;
use serde_json::Value;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Debian's statically linked busybox.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// Runs a tool that must be there and succeed; what it printed.
#[track_caller]
pub fn tool(name: &str, args: &[&str]) -> String {
    let output = Command::new(name).args(args).output();
    let output = output
        .unwrap_or_else(|e| panic!("this test needs {name} ({e}): apt-get install --no-install-recommends {name}"));
    assert!(output.status.success(), "{name} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// An OCI image layout in a folder.
#[derive(Clone, Debug)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// A layout at this path with one image, `busybox`: every applet of busybox, and a user `runner` (1000).
    pub fn busybox(folder: &Path) -> Self {
        let root = folder.with_extension("root");
        for name in ["bin", "etc", "home/runner"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let busybox = BUSYBOX.iter().find(|path| Path::new(path).is_file()).unwrap_or_else(|| {
            panic!("this test needs busybox: apt-get install --no-install-recommends busybox-static")
        });
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for applet in tool(busybox, &["--list"]).lines().filter(|applet| *applet != "busybox") {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let users = "root:x:0:0::/root:/bin/sh\nrunner:x:1000:1000::/home/runner:/bin/sh\n";
        fs::write(root.join("etc/passwd"), users).unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nrunner:x:1000:\n").unwrap();
        let this = Self { folder: folder.to_owned() };
        let (image, root) = (this.image("busybox"), root.display().to_string());
        tool("umoci", &["init", "--layout", &folder.display().to_string()]);
        tool("umoci", &["new", "--image", &image]);
        tool("umoci", &["insert", "--image", &image, &root, "/"]);
        this
    }

    /// The image of the script `scripts/lib/python-image`, `python`.
    pub fn python() -> Self {
        let folder = std::env::var_os("DECORES_PYTHON_IMAGE").map_or_else(
            || {
                let script = repository().join("scripts/lib/python-image").display().to_string();
                PathBuf::from(tool(&script, &[]).trim())
            },
            PathBuf::from,
        );
        Self { folder }
    }

    /// The image of `from`, configured otherwise, as `to`.
    pub fn configured(&self, from: &str, to: &str, config: &[&str]) {
        let image = self.image(from);
        tool("umoci", &[&["config", "--image", &image, "--tag", to], config].concat());
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// `oci:FOLDER:TAG`.
    pub fn reference(&self, tag: &str) -> String {
        format!("oci:{}", self.image(tag))
    }

    /// The digest of an image's manifest, as skopeo says.
    pub fn digest(&self, tag: &str) -> String {
        tool("skopeo", &["inspect", "--format", "{{.Digest}}", &self.reference(tag)]).trim().to_owned()
    }

    /// An image as a client packs it: the program of a job.
    pub fn packed(&self, tag: &str) -> Vec<u8> {
        let read =
            |path: &str| -> Value { serde_json::from_slice(&fs::read(self.folder.join(path)).unwrap()).unwrap() };
        let blob = |of: &Value| format!("blobs/{}", of["digest"].as_str().unwrap().replace(':', "/"));
        let mut index = read("index.json");
        let images = index["manifests"].as_array_mut().unwrap();
        images.retain(|image| image["annotations"]["org.opencontainers.image.ref.name"] == tag);
        let manifest = blob(&images[0]);
        let described = read(&manifest);
        let layers = described["layers"].as_array().unwrap().iter().map(blob);
        let blobs: Vec<String> = [manifest, blob(&described["config"])].into_iter().chain(layers).collect();
        let beside = tempfile::tempdir().unwrap();
        fs::write(beside.path().join("index.json"), index.to_string()).unwrap();
        let (folder, archive) = (self.folder.display().to_string(), beside.path().join("tar").display().to_string());
        let mut words = vec!["--format=ustar", "--owner=0", "--group=0", "--mode=0644", "--mtime=@0", "-cf", &archive];
        let index = beside.path().display().to_string();
        words.extend(["-C", &folder, "oci-layout", "-C", &index, "index.json", "-C", &folder]);
        words.extend(blobs.iter().map(String::as_str));
        tool("tar", &words);
        fs::read(archive).unwrap()
    }

    fn image(&self, tag: &str) -> String {
        format!("{}:{tag}", self.folder.display())
    }
}

/// Copies an image.
pub fn copy(from: &str, to: &str) {
    tool("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", from, to]);
}

/// Debian's registry, on loopback, without TLS; ended when dropped.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: SocketAddr,
}

impl Registry {
    /// One that keeps its images in this folder; with a password, `htpasswd` has it.
    pub fn start(folder: &Path, htpasswd: Option<&str>) -> Self {
        fs::create_dir_all(folder).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: {address}}}\n",
            folder.join("images").display()
        );
        if let Some(line) = htpasswd {
            fs::write(folder.join("htpasswd"), line).unwrap();
            config.push_str(&format!(
                "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
                folder.join("htpasswd").display()
            ));
        }
        let file = folder.join("config.yml");
        fs::write(&file, config).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("stderr")).unwrap())
            .spawn()
            .unwrap_or_else(|e| {
                panic!("this test needs docker-registry ({e}): apt-get install --no-install-recommends docker-registry")
            });
        let this = Self { child, address };
        until("the registry listens", 30, || TcpStream::connect(address).ok());
        this
    }

    /// `127.0.0.1:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
