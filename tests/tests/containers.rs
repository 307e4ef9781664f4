//! Containers: real images, in every form they come in, run by a real node.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use decores_tests::cli::{Cli, Ran};
use decores_tests::node::{Node, Settings};
use decores_tests::oci::{Layout, Registry, copy, tool};
use decores_tests::programs::repository;
use decores_types::Digest;
use serde_json::Value;
use std::fs;
use std::path::Path;

const SUM: &str = "sha256sum /in/data";

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// A node, a command line, and the busybox image.
struct Setting {
    node: Node,
    cli: Cli,
    layout: Layout,
}

impl Setting {
    fn new() -> Self {
        Self::run_by("libcontainer")
    }

    fn run_by(runtime: &'static str) -> Self {
        let node = Node::with(&Settings { runtime, ..Settings::default() });
        let cli = Cli::logged_in(&node, node.operator().key());
        let layout = Layout::busybox(&cli.path("images"));
        Self { node, cli, layout }
    }

    /// Runs a job of the image `busybox` with these options, and this script in a shell.
    fn shell(&self, options: &[&str], script: &str) -> Ran {
        self.run(&self.layout.reference("busybox"), options, &["sh", "-c", script])
    }

    fn run(&self, image: &str, options: &[&str], args: &[&str]) -> Ran {
        let line = [&["job", "run", image], options, &["--"], args].concat();
        self.cli.run(line)
    }

    /// A file with this content, as `--file data=PATH`.
    fn data(&self, content: &[u8]) -> String {
        format!("data={}", text(&self.cli.write("data", content)))
    }
}

fn claim<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["claims"].as_array().unwrap().iter().find(|claim| claim["claim"] == name).unwrap()
}

fn sum(content: &[u8]) -> String {
    format!("{}  /in/data\n", Digest::of(content).to_string().replace("sha256:", ""))
}

#[test]
fn an_image_runs_and_its_receipt_names_it() {
    let setting = Setting::new();
    let (cli, content) = (&setting.cli, b"what is to be summed".repeat(10_000));
    let (data, receipt) = (setting.data(&content), text(&cli.path("r.json")));
    let digest = setting.layout.digest("busybox");
    let demand = format!("image={digest}");
    let options = ["--file", &data, "--receipt", &receipt, "--require", &demand, "--require", "protection=container"];
    let ran = setting.shell(&options, SUM).is(0);
    assert_eq!(ran.stdout, sum(&content));

    let report = cli.run(["verify", &receipt, "--json"]).is(0).json();
    assert_eq!(claim(&report, "image")["status"], "holds");
    assert!(claim(&report, "image")["detail"].as_str().unwrap().starts_with(&digest), "{report}");
    for (name, word) in [("protection", "`container`"), ("isolation", "container by libcontainer")] {
        assert_eq!(claim(&report, name)["status"], "holds", "{report}");
        assert!(claim(&report, name)["detail"].as_str().unwrap().contains(word), "{report}");
    }
    cli.run(["verify", &receipt, "--require", &demand, "--require", "protection=container"]).is(0);
    cli.run(["verify", &receipt, "--require", "protection=vm"]).is(3);
    let other = format!("image={}", Digest::of(b"another"));
    cli.run(["verify", &receipt, "--require", &other]).is(3).says("`image` does not hold");

    let jobs = cli.run(["job", "list", "--json"]).is(0).json();
    assert_eq!((jobs[0]["engine"].as_str(), jobs[0]["image"]["digest"].as_str()), (Some("container"), Some(&*digest)));
    cli.run(["job", "list"]).is(0).says("container oci:");
    cli.run(["job", "show", jobs[0]["job"].as_str().unwrap()]).is(0).says(&digest);
    let refused = setting.shell(&["--require", &other], "true").is(3).says(&digest);
    assert!(!refused.stderr.contains("asking for an offer"), "nothing was sent:\n{}", refused.stderr);
}

#[test]
fn the_same_image_runs_from_every_place_it_comes_from() {
    let setting = Setting::new();
    let (cli, layout) = (&setting.cli, &setting.layout);
    let registry = Registry::start(&cli.path("registry"), None);
    let place = |name: &str| text(&cli.path(name));
    let from = layout.reference("busybox");
    let archives = [format!("oci-archive:{}:x", place("o.tar")), format!("docker-archive:{}:a/b:x", place("d.tar"))];
    let pulled = format!("docker://{}/some/busybox:1.2", registry.host());
    archives.iter().chain([&pulled]).for_each(|to| copy(&from, to));
    let digest = tool("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &pulled]);
    let pinned = format!("docker://{}/some/busybox@{}", registry.host(), digest.trim());

    let content = b"the same everywhere";
    let data = setting.data(content);
    let images = [&archives[0], &archives[1], &pulled, &pinned, &place("o.tar"), &place("d.tar")];
    for image in images.into_iter().chain([&text(layout.folder())]) {
        let ran = setting.run(image, &["--file", &data], &["sh", "-c", SUM]).is(0);
        assert_eq!(ran.stdout, sum(content), "{image}");
    }
    let scratch = cli.home().join("client/images");
    assert_eq!(fs::read_dir(scratch).unwrap().count(), 0, "nothing stays of what was pulled");
}

#[test]
fn a_password_opens_a_registry_and_only_the_right_one() {
    let setting = Setting::new();
    // `user`, with the password `secret`.
    let htpasswd = "user:$2b$05$OmjFi7hyt9MmjCS/HAGacu5k8zDU0b1g4.ZboPXpvsdaZTl8MAtNW\n";
    let registry = Registry::start(&setting.cli.path("registry"), Some(htpasswd));
    let image = format!("docker://{}/private:1", registry.host());
    let from = setting.layout.reference("busybox");
    tool("skopeo", &["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds", "user:secret", &from, &image]);
    let password = |encoded: &str| {
        let config = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{encoded}\"}}}}}}", registry.host());
        setting.cli.write("config.json", config.as_bytes());
    };
    setting.run(&image, &[], &["true"]).is(3).says("does not give it out").says("docker login");
    password("dXNlcjp3cm9uZw==");
    setting.run(&image, &[], &["true"]).is(3).says("does not give it out");
    password("dXNlcjpzZWNyZXQ=");
    setting.run(&image, &[], &["true"]).is(0);
}

#[test]
fn what_is_no_image_or_not_the_one_meant_is_told_before_anything_is_sent() {
    let setting = Setting::new();
    let (cli, layout) = (&setting.cli, &setting.layout);
    layout.configured("busybox", "other", &["--config.cmd", "true"]);
    let folder = text(layout.folder());
    let both = ["busybox", "other"];
    let refused = |image: &str, says: &str| {
        let ran = setting.run(image, &[], &["true"]).is(2).says(says);
        assert!(!ran.stderr.contains("asking for an offer"), "nothing was sent:\n{}", ran.stderr);
        ran
    };
    for image in [format!("oci:{folder}"), folder.clone(), format!("oci:{folder}:1.0")] {
        let ran = refused(&image, "");
        assert!(both.iter().all(|tag| ran.stderr.contains(tag)), "the tags are listed:\n{}", ran.stderr);
    }
    refused(&format!("oci:{}", text(&cli.path(""))), "no OCI layout");
    refused("oci:/nowhere:x", "is no folder");
    refused("docker-archive:/nowhere", "failed to read");
    refused("busybox:latest", "docker://HOST/NAME:TAG");
    refused("docker://busybox", "it has no HOST/");
    refused(&format!("docker-archive:{}", text(&cli.write("x.tar", b"no tar"))), "no archive of images");
    setting.run(&format!("oci:{folder}:busybox"), &["--platform", "linux/s390x"], &["true"]).is(2).says("s390x");

    // One byte of one layer.
    let blobs = layout.folder().join("blobs/sha256");
    let largest = fs::read_dir(blobs).unwrap().map(|e| e.unwrap().path()).max_by_key(|p| p.metadata().unwrap().len());
    let largest = largest.unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&largest, bytes).unwrap();
    let name = largest.file_name().unwrap().to_str().unwrap();
    let image = format!("oci:{folder}:busybox");
    let ran = setting.run(&image, &[], &["true"]).is(3).says("is corrupt").says(name);
    assert!(!ran.stderr.contains("asking for an offer"));
    fs::remove_file(&largest).unwrap();
    refused(&image, "is missing").says(name);
}

#[test]
fn the_image_says_what_runs_and_as_whom() {
    let setting = Setting::new();
    let layout = &setting.layout;
    let config = [
        "--config.user=runner",
        "--config.workingdir=/tmp",
        "--config.env=A=image",
        "--config.env=B=image",
        "--config.entrypoint=/bin/sh",
        "--config.entrypoint=-c",
        "--config.cmd=echo $(id -u):$(id -g) $HOME $PWD $A $B",
    ];
    layout.configured("busybox", "told", &config);
    let image = layout.reference("told");
    let ran = setting.cli.run(["job", "run", &image, "--env", "B=job"]).is(0);
    assert_eq!(ran.stdout, "1000:1000 /home/runner /tmp image job\n");
    let ran = setting.run(&image, &[], &["echo instead of $A"]).is(0);
    assert_eq!(ran.stdout, "instead of image\n", "arguments stand for the image's own, after its entrypoint");
    layout.configured("told", "by-id", &["--config.user=4242:17"]);
    let ran = setting.run(&layout.reference("by-id"), &[], &["id -u; id -g"]).is(0);
    assert_eq!(ran.stdout, "4242\n17\n");
    setting.run(&layout.reference("busybox"), &[], &["/bin/nothing"]).is(1).says("program-invalid");
    for (tag, folder) in [("made", "/srv/made"), ("file", "/bin/busybox"), ("below", "/tmp/below")] {
        layout.configured("busybox", tag, &[&format!("--config.workingdir={folder}")]);
    }
    assert_eq!(setting.run(&layout.reference("made"), &[], &["pwd"]).is(0).stdout, "/srv/made\n");
    for tag in ["file", "below"] {
        setting.run(&layout.reference(tag), &[], &["pwd"]).is(1).says("program-invalid");
    }
}

#[test]
fn input_output_and_exit_code_pass_through() {
    let setting = Setting::new();
    let (cli, content) = (&setting.cli, b"line\n".repeat(100_000));
    let (stdin, out) = (text(&cli.write("stdin", &content)), text(&cli.path("out")));
    let script = "wc -c; echo to-stderr >&2; mkdir /out/a; echo one > /out/a/b; cp /bin/busybox /out/c; cat /in/data";
    let data = setting.data(b"the file");
    let options = ["-i", &stdin, "--file", &data, "--output-dir", &out];
    let ran = setting.shell(&options, script).is(0).says("to-stderr");
    assert_eq!(ran.stdout, "", "all of it goes to the folder");
    let read = |name: &str| fs::read(Path::new(&out).join(name)).unwrap();
    assert_eq!(String::from_utf8(read("stdout")).unwrap(), "500000\nthe file");
    assert_eq!(read("files/a/b"), b"one\n");
    assert_eq!(read("files/c"), fs::read(cli.path("images.root/bin/busybox")).unwrap());

    setting.shell(&[], "echo said; exit 7").is(1).says("exit-nonzero");
    let jobs = cli.run(["job", "list", "--json"]).is(0).json();
    let failed = jobs[0]["job"].as_str().unwrap();
    let manifest = cli.run(["job", "result", failed, "--json"]);
    assert_eq!(manifest.json()["exit"], 7, "{manifest:?}");
    // The first process of a container cannot end itself so.
    setting.shell(&[], "sh -c 'kill -9 $$'; echo $? >&2; exit 1").is(1).says("137");
}

#[test]
fn nothing_but_its_files_is_within_reach() {
    let setting = Setting::new();
    let data = setting.data(b"x");
    let address = setting.node.address();
    std::net::TcpStream::connect(address).expect("somebody listens on the host");
    let listener = format!("nc -w 2 {} {} </dev/null", address.ip(), address.port());
    let tries = [
        "echo x > /in/new",
        "echo x > /in/data",
        "echo x > /new",
        "mount -t tmpfs t /tmp",
        &listener,
        "ping -c 1 -W 2 127.0.0.1",
        "wget -q -T 2 http://169.254.169.254",
        "hostname other",
        "chroot / true",
        "mknod /tmp/m b 7 0",
        "date -s 2000-01-01; test $(date +%Y) = 2000",
        "echo 1 > /proc/sys/kernel/sysrq",
        "unshare -r true",
        "dmesg",
    ];
    let script: String = tries
        .iter()
        .map(|line| {
            format!("{{ {line}; }} >/dev/null 2>/tmp/said && echo \"possible: {line}\"; grep 'not found' /tmp/said\n")
        })
        .collect();
    let script = format!("{script}grep Cap /proc/self/status; sed 's/:.*//' /proc/net/dev | tail -n +3; echo end");
    let ran = setting.shell(&["--file", &data], &script).is(0);
    let (caps, rest): (Vec<&str>, Vec<&str>) = ran.stdout.lines().partition(|line| line.starts_with("Cap"));
    assert_eq!(rest, ["    lo", "end"], "{}", ran.stdout);
    assert_eq!(caps.len(), 5);
    for line in caps {
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
}

#[test]
fn limits_end_a_container() {
    let setting = Setting::new();
    let eat = "head -c 200m /dev/zero | tail -c 190m | wc -c";
    setting.shell(&["--limit-memory", "48MiB", "--limit-scratch", "32MiB"], eat).is(1).says("limit-memory");
    setting.shell(&["--limit-time", "1s"], "sleep 600").is(1).says("limit-time");
    setting.shell(&["--limit-output", "1MiB"], "head -c 3m /dev/zero").is(1).says("limit-output");
    let fill = "dd if=/dev/zero of=/tmp/x bs=1M count=400 2>/dev/null; echo $?";
    let ran = setting.shell(&["--limit-scratch", "64MiB"], fill).is(0);
    assert_eq!(ran.stdout, "1\n", "the scratch is full");
    let fork = ":(){ :|:& };:; sleep 1; exit 3";
    setting.shell(&["--limit-time", "5s"], fork).is(1);
    setting.shell(&["--limit-memory", "1MiB"], "true").is(2).says("--limit-memory");
    let alerts = setting.cli.run(["alert", "list", "--json"]).is(0).json();
    assert_eq!(alerts.as_array().unwrap().len(), 0, "{alerts}");
}

#[test]
fn a_dry_run_shows_what_a_container_gets() {
    let setting = Setting::new();
    let image = setting.layout.reference("busybox");
    let plan = setting.cli.run(["job", "run", &image, "--dry-run", "--", "true"]).is(0).says("layer").json();
    assert_eq!((plan["engine"].as_str(), plan["protection"].as_str()), (Some("container"), Some("container")));
    let (memory, scratch) = (&plan["limits"]["memoryBytes"], &plan["limits"]["scratchBytes"]);
    assert!(memory.as_u64() >= scratch.as_u64() && scratch.as_u64() >= Some(256 << 20), "{plan}");
    let jobs = setting.cli.run(["job", "list", "--json"]).is(0).json();
    assert_eq!(jobs.as_array().unwrap().len(), 0);
}

#[test]
fn runc_runs_the_same_job() {
    named_runtime("runc");
}

#[test]
fn gvisor_runs_the_same_job() {
    named_runtime("runsc");
}

/// The shown job by a runtime that the node's configuration names.
fn named_runtime(runtime: &'static str) {
    tool(runtime, &["--version"]);
    let setting = Setting::run_by(runtime);
    let (data, receipt) = (setting.data(b"x"), text(&setting.cli.path("r.json")));
    let options = ["--file", &data, "--receipt", &receipt, "--require", "protection=container"];
    let ran = setting.shell(&options, SUM);
    assert_eq!(ran.code, 0, "{}\n{}", ran.stderr, setting.node.log());
    assert_eq!(ran.stdout, sum(b"x"));
    let report = setting.cli.run(["verify", &receipt, "--json"]).is(0).json();
    let detail = claim(&report, "isolation")["detail"].as_str().unwrap();
    assert!(detail.contains(&format!("container by {runtime}")), "{detail}");
}

#[test]
fn without_a_runtime_containers_are_refused_and_modules_run() {
    let setting = Setting::run_by("none");
    setting.shell(&[], "true").is(3);
    let example = repository().join("examples/weather");
    let (program, data) = (text(&example.join("program.wasm")), text(&example.join("weather.csv")));
    setting.cli.run(["job", "run", &program, "-i", &data]).is(0);
}

/// A Debian root with Python, and a real script over real data; the same script on this machine says the same.
#[test]
fn python_on_debian_computes_what_it_computes_here() {
    let node = Node::start();
    let cli = Cli::logged_in(&node, node.operator().key());
    let layout = Layout::python();
    let example = repository().join("examples/weather");
    let (script, data) = (text(&example.join("degree_days.py")), text(&example.join("weather.csv")));
    let (image, receipt, out) = (layout.reference("python"), text(&cli.path("r.json")), text(&cli.path("out")));
    let (script_in, data_in) = (format!("degree_days.py={script}"), format!("weather.csv={data}"));
    let options = ["--file", &script_in, "--file", &data_in, "--receipt", &receipt, "--output-dir", &out];
    let args = ["--", "/in/degree_days.py", "/in/weather.csv", "/out"];
    cli.run([&["job", "run", &image], &options[..], &args].concat()).is(0).says("3 airports");

    fs::create_dir(cli.path("here")).unwrap();
    let here = tool("python3", &[&script, &data, &text(&cli.path("here"))]);
    assert_eq!(here.lines().count(), 1 + 3 * 12);
    assert_eq!(fs::read_to_string(cli.path("out/stdout")).unwrap(), here);
    let summary = |folder: &str| fs::read(cli.path(folder).join("summary.json")).unwrap();
    assert_eq!(summary("out/files"), summary("here"));
    let report = cli.run(["verify", &receipt, "--output", &out, "--json"]).is(0).json();
    assert_eq!(claim(&report, "output")["status"], "holds");
    assert!(claim(&report, "image")["detail"].as_str().unwrap().starts_with(&layout.digest("python")));
}
