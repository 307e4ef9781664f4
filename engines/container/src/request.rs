//! From image and job to what the helper is asked for.

use crate::program::Image;
use decores_attempt::Stop;
use decores_sandbox::container::{MAX_REQUEST, RunRequest};
use decores_types::Reason;
use decores_types::bundle::InputManifest;
use std::collections::BTreeMap;

/// Where programs are looked for if nobody says.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The job's arguments stand for the image's command, after its entrypoint; the job's variables for the image's.
pub(crate) fn request(image: &Image, job: &InputManifest) -> Result<RunRequest, Stop> {
    let invalid = |note: String| Stop::job(Reason::ProgramInvalid, note);
    let words = if job.args.is_empty() { &image.cmd } else { &job.args };
    let args: Vec<String> = image.entrypoint.iter().chain(words).cloned().collect();
    if args.is_empty() {
        return Err(invalid("the image names no program, and the job has no arguments".to_owned()));
    }
    let mut env = BTreeMap::from([("HOME", image.user.home.as_str()), ("PATH", PATH)]);
    env.extend(image.env.iter().filter_map(|variable| variable.split_once('=')));
    env.extend(job.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let request = RunRequest {
        args,
        env: env.into_iter().map(|(name, value)| format!("{name}={value}")).collect(),
        cwd: image.cwd.clone(),
        uid: image.user.uid,
        gid: image.user.gid,
    };
    let length = serde_json::to_vec(&request).map_or(usize::MAX, |bytes| bytes.len());
    if length > MAX_REQUEST {
        return Err(invalid(format!("arguments and environment are more than {MAX_REQUEST} bytes")));
    }
    Ok(request)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::program::User;
    use decores_types::Digest;
    use decores_types::bundle::Item;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|w| (*w).to_owned()).collect()
    }

    fn image(entrypoint: &[&str], cmd: &[&str], env: &[&str]) -> Image {
        Image {
            digest: Digest::of(b""),
            entrypoint: words(entrypoint),
            cmd: words(cmd),
            env: words(env),
            cwd: "/w".to_owned(),
            user: User { uid: 3, gid: 4, home: "/home/x".to_owned() },
            files: 0,
            bytes: 0,
        }
    }

    fn job(args: &[&str], env: &[(&str, &str)]) -> InputManifest {
        InputManifest {
            args: words(args),
            env: env.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            files: Vec::new(),
            stdin: Item { sha256: Digest::of(b"").into(), size: 0 },
        }
    }

    #[test]
    fn arguments_stand_for_the_command_and_follow_the_entrypoint() {
        let args = |image: &Image, given: &[&str]| request(image, &job(given, &[])).unwrap().args;
        assert_eq!(args(&image(&["a", "b"], &["c"], &[]), &[]), ["a", "b", "c"]);
        assert_eq!(args(&image(&["a", "b"], &["c"], &[]), &["d", ""]), ["a", "b", "d", ""]);
        assert_eq!(args(&image(&[], &["c"], &[]), &["d"]), ["d"]);
    }

    #[test]
    fn the_jobs_variables_stand_for_the_images_and_those_for_the_defaults() {
        let image = image(&["a"], &[], &["A=1", "B=2=3", "PATH=/p"]);
        let got = request(&image, &job(&[], &[("A", "x"), ("C", "")])).unwrap();
        assert_eq!(got.env, ["A=x", "B=2=3", "C=", "HOME=/home/x", "PATH=/p"]);
        assert_eq!((got.cwd.as_str(), got.uid, got.gid), ("/w", 3, 4));
    }

    #[test]
    fn nothing_to_run_and_too_much_to_say_are_refused() {
        assert!(request(&image(&[], &[], &[]), &job(&[], &[])).is_err());
        let long = "x".repeat(MAX_REQUEST);
        assert!(request(&image(&[], &[], &[]), &job(&[&long], &[])).is_err());
    }
}
