//! What can be wrong with a model on disk, in words that name the file, the tensor and the byte.

use std::path::PathBuf;

use crate::estimate::format::Format;
use crate::estimate::from_hf::ArchitectureError;

/// Why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The path does not exist or holds no model.
    #[error("`{}` holds no model: {reason}", path.display())]
    NoModel {
        /// The path asked for.
        path: PathBuf,
        /// What was looked for and not found.
        reason: String,
    },
    /// A file could not be opened, mapped or read.
    #[error("cannot read `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is damaged or is not what its name says.
    #[error("`{}` is damaged at byte {offset}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in the file, in bytes from its start.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A JSON file beside the weights does not parse or lacks a key.
    #[error("`{}` is not usable: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with line and column where known.
        reason: String,
    },
    /// A GGUF metadata key is missing or has the wrong type or value.
    #[error("metadata key `{key}` of `{}` {reason}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What is wrong with it: reads on after the key.
        reason: String,
    },
    /// A shard named by the index is absent.
    #[error("shard `{}` named by `{}` is missing", shard.display(), index.display())]
    MissingShard {
        /// The absent file.
        shard: PathBuf,
        /// The index that names it.
        index: PathBuf,
    },
    /// The index names a tensor that its shard does not hold.
    #[error("`{}` says that `{tensor}` is in `{}`, but it is not there", index.display(), shard.display())]
    NotInShard {
        /// The tensor.
        tensor: String,
        /// The shard that should hold it.
        shard: PathBuf,
        /// The index that says so.
        index: PathBuf,
    },
    /// Tensors that the architecture needs are absent.
    #[error("`{}` lacks {} of the tensors its architecture needs: {}", path.display(), names.len(), abridged(names))]
    MissingTensors {
        /// The file or directory.
        path: PathBuf,
        /// Every missing tensor, in the architecture's order.
        names: Vec<String>,
    },
    /// A tensor's shape disagrees with the architecture.
    #[error("tensor `{tensor}` in `{}` has shape {found:?}, the architecture needs {expected:?}", path.display())]
    Shape {
        /// The file or directory.
        path: PathBuf,
        /// The tensor, under its Hugging Face name.
        tensor: String,
        /// The shape that follows from the architecture.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A bias the architecture does not apply: ignoring it would change the result.
    #[error("tensor `{tensor}` in `{}` is a bias that the architecture does not apply", path.display())]
    UnexpectedBias {
        /// The file or directory.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor is stored in a way that cannot be read.
    #[error("tensor `{tensor}` in `{}` is stored as {stored}, which is not supported", path.display())]
    Storage {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The dtype or block type in the file's own words.
        stored: String,
    },
    /// The model cannot be held in the format asked for.
    #[error("weights cannot be held as {format}: {reason}")]
    Target {
        /// The format asked for.
        format: Format,
        /// Why not.
        reason: String,
    },
    /// The shape asked for makes no model.
    #[error("the architecture is not usable")]
    Architecture(#[from] ArchitectureError),
    /// The family needs another path through the engine.
    #[error("model family `{family}` {reason}")]
    Family {
        /// The Hugging Face `model_type` or GGUF `general.architecture`.
        family: String,
        /// What is (not) supported.
        reason: String,
    },
    /// candle refused.
    #[error("{context}")]
    Candle {
        /// What was being done.
        context: String,
        /// candle's own words.
        source: candle_core::Error,
    },
}

impl LoadError {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NoModel { .. } => {
                "give a `.gguf` file, a `.safetensors` file beside its `config.json`, or a directory with `config.json` and weights"
            }
            Self::Damaged { .. } => {
                "the download may have been cut short; fetch the file again and compare its checksum"
            }
            Self::MissingShard { .. } | Self::NotInShard { .. } => {
                "fetch the missing shard again from where the model came from"
            }
            Self::MissingTensors { .. } | Self::Shape { .. } => {
                "`config.json` and the weights must be of the same model; fetch both from one revision"
            }
            Self::Storage { .. } => "use a file in F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or a Q2_K…Q6_K type",
            Self::Target { .. } => "leave `model.dtype` unset to keep the weights as they are stored",
            _ => return None,
        })
    }

    pub(in crate::engine) fn candle(context: impl Into<String>) -> impl FnOnce(candle_core::Error) -> Self {
        let context = context.into();
        move |source| Self::Candle { context, source }
    }
}

/// The first few names and how many more there are: a model has hundreds.
fn abridged(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}
