//! Settings: composed from groups and overrides, typed, with the origin of every value.
//!
//! This module decides what the settings are and where each came from; it never acts on them.

mod check;
pub mod compose;
pub mod dataset;
pub mod error;
pub mod overrides;
pub mod provenance;
mod render;
mod run_file;
pub mod schema;
mod sources;
pub mod study;
pub mod sweep;
mod tree;
pub mod yaml;

pub use error::ConfigError;

use std::path::Path;

/// A group of `configs/` and the names that can be chosen in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The folder, e.g. `model`; nested folders with `/`.
    pub name: String,
    /// The choices, sorted; for `model` the registry's aliases too.
    pub choices: Vec<String>,
}

/// Every group with its choices: the embedded ones and those of `config_dir`.
pub fn catalog(config_dir: Option<&Path>) -> Result<Vec<Group>, ConfigError> {
    sources::Sources::new(config_dir)?.catalog()
}

/// The model aliases of a registry file.
pub fn aliases(registry: &Path) -> Result<Vec<String>, ConfigError> {
    let source = sources::Source::read(registry)?;
    Ok(sources::aliases(&source)?.into_iter().map(|(alias, _)| alias).collect())
}
