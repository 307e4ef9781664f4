//! Ways in for `fuzz/`: what is done with bytes that a node sent.

use crate::connection::parse;
use crate::sealed::Section;
use crate::{ClientError, NodeCard, NodeUrl, Output, bootstrap};
use decores_api::node::NodeResponse;
use decores_keys::XWingKey;
use decores_keys::payload::SectionKind;
use decores_types::{CommitmentKey, Digest};
use serde::de::DeserializeOwned;
use std::fs::File;

/// Reads a JSON answer.
///
/// # Errors
/// If it is none.
pub fn answer<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    parse("answer", body)
}

/// Reads a node's statement, before anything is known of the node.
///
/// # Errors
/// If the identity in it did not sign it.
pub fn statement(body: &[u8]) -> Result<NodeCard, ClientError> {
    let answer: NodeResponse = parse("node statement", body)?;
    bootstrap::read(NodeUrl::parse("https://node.example:7443")?, &answer.envelope)
}

/// Opens a sealed output that lies in a file, at its start.
///
/// # Errors
/// If any byte of it is another than was sealed, or it is no output.
pub fn output(
    sealed: File,
    key: &XWingKey,
    binding: &Digest,
    commitment: &CommitmentKey,
) -> Result<Output, ClientError> {
    let section = Section::read(sealed, |head| head.open_single(SectionKind::Output, key, binding))?;
    Output::check(section, commitment)
}
