//! The claims of a receipt, and what a verifier may demand.

use decores_types::{Digest, Protection, Strength};
use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! claims {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $strength:ident;)*) => {
        /// Something a receipt says (docs/formats/receipt.md, "Claims").
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub enum Claim {
            $($(#[$doc])* #[serde(rename = $text)] $variant,)*
        }

        impl Claim {
            /// All claims, in the order they are reported.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name in reports and demands.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// How strongly it is known when it holds.
            pub const fn strength(self) -> Strength {
                match self { $(Self::$variant => Strength::$strength,)* }
            }
        }
    };
}

claims! {
    /// Who made the receipt.
    Issuer = "issuer", Proved;
    /// That its entry stands in the pinned log.
    Log = "log", Proved;
    /// That the entry commits to this payload.
    Commitment = "commitment", Proved;
    /// What was asked for.
    Spec = "spec", Asserted;
    /// What ran.
    Program = "program", Asserted;
    /// The image in it.
    Image = "image", Asserted;
    /// What went in.
    Input = "input", Asserted;
    /// What came out.
    Output = "output", Asserted;
    /// What stood between the job and the rest.
    Protection = "protection", Asserted;
    /// How, in detail.
    Isolation = "isolation", Asserted;
    /// The limits that were enforced.
    Limits = "limits", Asserted;
    /// How it ended.
    Result = "result", Asserted;
    /// When.
    Times = "times", Asserted;
    /// What was destroyed.
    Wipe = "wipe", Asserted;
    /// That nothing was weakened.
    Settings = "settings", Asserted;
    /// Hardware evidence.
    Evidence = "evidence", Attested;
    /// Witnesses of the log.
    Witnesses = "witnesses", Proved;
    /// An anchor in a chain.
    Anchor = "anchor", Proved;
}

impl Claim {
    /// The claim of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|claim| claim.name() == name)
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What was found of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It was checked, and holds.
    Holds,
    /// It was checked, and does not.
    DoesNotHold,
    /// It could not be checked with what was given.
    NotChecked,
    /// The receipt does not say it.
    NotClaimed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Holds => "holds",
            Self::DoesNotHold => "does not hold",
            Self::NotChecked => "not checked",
            Self::NotClaimed => "not claimed",
        })
    }
}

/// A claim that must hold; text form `wipe`, `protection=enclave` or `image=sha256:…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Require {
    /// This claim.
    Claim(Claim),
    /// At least this protection.
    Protection(Protection),
    /// This image.
    Image(Digest),
}

/// A demand that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a claim: `{0}`; known are `protection=process|container|vm|enclave`, `image=sha256:…` and {names}", names = names())]
pub struct RequireError(String);

impl Require {
    /// Parses the text form.
    ///
    /// # Errors
    /// If it names no claim.
    pub fn parse(text: &str) -> Result<Self, RequireError> {
        let refused = || RequireError(text.chars().take(80).collect::<String>().escape_debug().to_string());
        if let Some(digest) = text.strip_prefix("image=") {
            return Digest::parse(digest).map(Self::Image).map_err(|_| refused());
        }
        let Some(level) = text.strip_prefix("protection=") else {
            return Claim::parse(text).map(Self::Claim).ok_or_else(refused);
        };
        const LEVELS: [Protection; 4] =
            [Protection::Process, Protection::Container, Protection::Vm, Protection::Enclave];
        LEVELS.into_iter().find(|p| p.to_string() == level).map(Self::Protection).ok_or_else(refused)
    }

    /// The claim that is demanded.
    pub const fn claim(self) -> Claim {
        match self {
            Self::Claim(claim) => claim,
            Self::Protection(_) => Claim::Protection,
            Self::Image(_) => Claim::Image,
        }
    }
}

impl std::str::FromStr for Require {
    type Err = RequireError;
    fn from_str(text: &str) -> Result<Self, RequireError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Require {
    type Error = RequireError;
    fn try_from(text: String) -> Result<Self, RequireError> {
        Self::parse(&text)
    }
}

impl From<Require> for String {
    fn from(require: Require) -> Self {
        require.to_string()
    }
}

impl fmt::Display for Require {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim(claim) => claim.fmt(f),
            Self::Protection(level) => write!(f, "protection={level}"),
            Self::Image(digest) => write!(f, "image={digest}"),
        }
    }
}

fn names() -> String {
    Claim::ALL.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ")
}
