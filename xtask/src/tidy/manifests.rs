//! Every crate takes its lints, and what it says of itself, from the workspace.

use super::Findings;
use crate::workspace::Workspace;

/// Whether a manifest says `[lints] workspace = true`.
fn inherits_lints(manifest: &str) -> bool {
    let mut section = "";
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
        }
        let line: String = line.split_whitespace().collect();
        if (section == "[lints]" && line == "workspace=true") || line == "lints.workspace=true" {
            return true;
        }
    }
    false
}

/// Judges every manifest of the workspace.
pub(super) fn check(workspace: &Workspace, findings: &mut Findings) {
    for member in workspace.members() {
        let path = format!("{}/Cargo.toml", member.folder);
        match workspace.text(&path) {
            None => findings.error(format!("{path} is not in the tree: is it ignored by git?")),
            Some(text) if !inherits_lints(text) => {
                findings.error(format!("{path}: add `[lints]` with `workspace = true`"));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lints_of_the_workspace_are_asked_for() {
        assert!(inherits_lints("[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n"));
        assert!(!inherits_lints("[package]\nname = \"a\"\n"));
        assert!(!inherits_lints("[lints]\nworkspace = false\n"));
        assert!(!inherits_lints("[lints]\n[package]\nworkspace = true\n"));
        assert!(!inherits_lints("[lints]\n# workspace = true\n"));
    }
}
