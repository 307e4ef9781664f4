//! `cargo xtask tidy`: the house rules, each a function from what was read to what is wrong.

mod crypto;
mod files;
mod guarantees;
mod layers;
mod licences;
mod manifests;
mod sizes;

use crate::workspace::Workspace;
use anyhow::Result;
use std::process::ExitCode;

/// What the rules found.
#[derive(Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Findings {
    fn error(&mut self, message: impl Into<String>) {
        self.errors.push(message.into());
    }

    fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }
}

/// Checks everything; fails if any rule is broken.
pub(crate) fn run() -> Result<ExitCode> {
    let workspace = Workspace::read()?;
    let mut findings = Findings::default();
    layers::check(&workspace, &mut findings);
    manifests::check(&workspace, &mut findings);
    licences::check(&workspace, &mut findings);
    crypto::check(&workspace, &mut findings);
    files::check(&workspace, &mut findings);
    guarantees::check(&workspace, &mut findings);
    print!("{}", sizes::check(&workspace, &mut findings));
    for warning in &findings.warnings {
        println!("warning: {warning}");
    }
    for error in &findings.errors {
        println!("error: {error}");
    }
    println!("tidy: {} errors, {} warnings", findings.errors.len(), findings.warnings.len());
    Ok(if findings.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
