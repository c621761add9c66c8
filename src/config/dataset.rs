//! Sets of prompts.

use std::path::PathBuf;

use super::schema::stage1::DatasetConfig;

/// One prompt of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt {
    /// Its id, unique in the set.
    pub id: String,
    /// What kind of task it is.
    pub category: Option<String>,
    /// The text.
    pub text: String,
    /// At most so many tokens are to be generated.
    pub max_output_tokens: Option<u32>,
    /// The file it came from.
    pub file: PathBuf,
}

/// A set of prompts that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {}

/// Reads the set: `root`, narrowed by `subset`, shuffled if asked for, cut to `limit`.
pub fn load(config: &DatasetConfig) -> Result<Vec<Prompt>, DatasetError> {
    let _ = config;
    todo!("follows in the next commit")
}
