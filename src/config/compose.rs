//! Puts the settings of a command together: defaults list, groups, run file, overrides.

use std::path::PathBuf;

use serde_json::Value;

use super::ConfigError;
use super::provenance::Provenance;
use super::schema::stage1::Stage1Config;

/// What is to be composed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ComposeRequest {
    /// The command, e.g. `stage1`.
    pub command: String,
    /// The overrides as typed, in order.
    pub overrides: Vec<String>,
    /// A run file (`--run-config`).
    pub run_config: Option<PathBuf>,
    /// A directory whose files stand before the embedded ones.
    pub config_dir: Option<PathBuf>,
}

/// Composed settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Composed {
    /// The tree.
    pub value: Value,
    /// Where each leaf came from.
    pub provenance: Provenance,
}

/// Composes the settings.
pub fn compose(request: &ComposeRequest) -> Result<Composed, ConfigError> {
    let _ = request;
    todo!("follows in the next commit")
}

impl Composed {
    /// The typed settings of `stage1`.
    pub fn stage1(&self) -> Result<Stage1Config, ConfigError> {
        todo!("follows in the next commit")
    }
    /// The tree as YAML, each leaf with a comment that says where it came from; secrets are masked.
    pub fn to_yaml_with_provenance(&self) -> String {
        todo!("follows in the next commit")
    }
    /// SHA-256 of the tree as canonical JSON, in lower-case hex.
    pub fn sha256(&self) -> String {
        todo!("follows in the next commit")
    }
}
