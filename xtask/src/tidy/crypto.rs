//! One TLS stack, and one owner for cryptography.

use super::Findings;
use crate::workspace::{DependencyKind, Workspace};

/// Other TLS stacks: never built, not even below a dependency. TLS is rustls on aws-lc-rs.
const OTHER_TLS: &[&str] =
    &["boring", "boring-sys", "gnutls", "mbedtls", "native-tls", "openssl", "openssl-sys", "s2n-tls", "wolfssl"];

/// Crates that do cryptography or make random numbers: our own code calls none of them, but for [`NAMED`].
const CRYPTO: &[&str] = &[
    "aead",
    "aes",
    "aes-gcm",
    "aes-gcm-siv",
    "aes-kw",
    "age",
    "argon2",
    "bcrypt",
    "blake2",
    "blake3",
    "bls12_381",
    "cbc",
    "chacha20",
    "chacha20poly1305",
    "cmac",
    "crypto_box",
    "ctr",
    "curve25519-dalek",
    "dalek",
    "digest",
    "dryoc",
    "ecdsa",
    "ed25519",
    "ed25519-dalek",
    "elliptic-curve",
    "fastrand",
    "getrandom",
    "ghash",
    "hkdf",
    "hmac",
    "hpke",
    "jsonwebtoken",
    "k256",
    "kem",
    "libsodium-sys",
    "md-5",
    "md5",
    "ml-dsa",
    "ml-kem",
    "oorandom",
    "orion",
    "p256",
    "p384",
    "p521",
    "pbkdf2",
    "poly1305",
    "pqcrypto",
    "rand",
    "rand_chacha",
    "rand_core",
    "ring",
    "rsa",
    "scrypt",
    "secp256k1",
    "sha-1",
    "sha1",
    "sha2",
    "sha3",
    "signature",
    "signed_note",
    "slh-dsa",
    "snow",
    "sodiumoxide",
    "subtle",
    "tiny-keccak",
    "tlog_tiles",
    "x25519-dalek",
    "x-wing",
    "xsalsa20poly1305",
];

/// What a crate of ours may call besides aws-lc-rs: (folder, crate, why).
const NAMED: &[(&str, &str, &str)] = &[
    ("domains/keys", "hpke", "HPKE with X-Wing, which aws-lc-rs does not offer"),
    ("domains/audit", "signed_note", "the text of C2SP signed notes"),
    ("domains/audit", "tlog_tiles", "tile layout and proofs of C2SP tlog-tiles"),
    ("backends/keystore-file", "argon2", "root key from a passphrase, which aws-lc-rs does not offer"),
];

/// What is wrong with one direct dependency, if anything.
///
/// Tests may call others: an independent implementation is the best judge of ours.
fn judge(folder: &str, dependency: &str, kind: Option<DependencyKind>) -> Option<String> {
    if kind == Some(DependencyKind::Dev) {
        return None;
    }
    let named = NAMED.iter().any(|(user, used, _)| *user == folder && *used == dependency);
    (CRYPTO.contains(&dependency) && !named).then(|| {
        format!("{folder} -> {dependency}: cryptography is aws-lc-rs, randomness is `&dyn Random` (exceptions are named in xtask/src/tidy/crypto.rs)")
    })
}

/// Judges the packages that are built, and what ours call directly.
pub(super) fn check(workspace: &Workspace, findings: &mut Findings) {
    for package in &workspace.metadata.packages {
        if OTHER_TLS.contains(&package.name.as_str()) {
            findings.error(format!("{}: a second TLS stack; `cargo tree -i {0}` shows who asks for it", package.name));
        }
    }
    for member in workspace.members() {
        let dependencies = member.package.dependencies.iter();
        findings
            .errors
            .extend(dependencies.filter_map(|dependency| judge(&member.folder, &dependency.name, dependency.kind)));
    }
    for (folder, used, why) in NAMED {
        let members = workspace.members();
        let Some(member) = members.iter().find(|member| member.folder == *folder) else { continue };
        if !member.package.dependencies.iter().any(|dependency| dependency.name == *used) {
            findings.error(format!("{folder} no longer uses {used} ({why}): remove the exception"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_is_for_one_crate_only() {
        let may = |folder, dependency| judge(folder, dependency, None).is_none();
        assert!(may("domains/keys", "hpke"));
        assert!(may("domains/keys", "aws-lc-rs"));
        assert!(!may("domains/audit", "hpke"));
        assert!(!may("node/daemon", "argon2"));
        assert!(!may("node/http", "rand"));
    }

    #[test]
    fn tests_may_check_against_another_implementation() {
        assert!(judge("domains/keys", "aes-gcm", None).is_some());
        assert!(judge("domains/keys", "aes-gcm", Some(DependencyKind::Build)).is_some());
        assert!(judge("domains/keys", "aes-gcm", Some(DependencyKind::Dev)).is_none());
    }
}
