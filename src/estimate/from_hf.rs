//! Reads a Hugging Face `config.json` into an [`Architecture`], with the defaults of transformers' own config classes.

use serde_json::Value;
use thiserror::Error;

use super::architecture::Architecture;

/// Why a `config.json` does not describe a decoder this tool knows how to count.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum ArchitectureError {
    /// The document is not a JSON object.
    #[error("the model configuration is not a JSON object")]
    NotAnObject,
    /// A key that has no default is absent.
    #[error("`{key}` is missing")]
    Missing {
        /// The key.
        key: String,
    },
    /// A value has the wrong type.
    #[error("`{key}` must be {expected}, but is `{found}`")]
    WrongType {
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A value makes no decoder.
    #[error("`{key}` = {value}: {reason}")]
    Invalid {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A value is legal, but its meaning is not implemented.
    #[error("`{key}` = {value} is not supported: {reason}")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What would be needed.
        reason: String,
    },
}

impl Architecture {
    /// The shape described by a Hugging Face `config.json`, checked by [`Self::validate`].
    pub fn from_hf_config(config: &Value) -> Result<Self, ArchitectureError> {
        let _ = config;
        todo!()
    }
    /// Refuses shapes that are no decoder: zero or absurd sizes, heads that do not divide.
    pub fn validate(&self) -> Result<(), ArchitectureError> {
        todo!()
    }
}
