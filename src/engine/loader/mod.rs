//! Reads weights: safetensors, GGUF, or seeded random ones for any architecture.
//!
//! Every length in a file is checked against the file's size before anything is allocated. This module holds no layer and runs no
//! model; it hands out a [`WeightMap`] that fits its [`Architecture`].

mod convert;
mod error;
mod expected;
mod gguf;
mod gguf_header;
mod hugging_face;
mod safetensors;
mod synthetic;

use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::Device;
use memmap2::Mmap;

use super::tokenizer::TokenizerSource;
use super::weights::WeightMap;
use crate::estimate::architecture::{Architecture, Family};
use crate::estimate::format::Format;

pub(in crate::engine) use convert::dtype_of;
pub use error::LoadError;
use expected::Expected;

/// Where weights come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// A `.gguf` file, a `.safetensors` file beside its `config.json`, or a directory that holds either.
    Path(PathBuf),
    /// Random weights for `architecture`; the same seed gives the same weights on any number of threads.
    Synthetic {
        /// The shape to fill.
        architecture: Architecture,
        /// The seed.
        seed: u64,
    },
}

/// What to load and how to hold it.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadRequest {
    /// Where the weights come from.
    pub source: Source,
    /// How matrices are held in memory; `None` keeps them as stored (synthetic: bf16). Norms and biases are always f32.
    pub dtype: Option<Format>,
}

/// A model in memory.
#[derive(Debug, Clone)]
pub struct LoadedModel {
    /// The shape; every weight has been checked against it.
    pub architecture: Architecture,
    /// The weights under Hugging Face names.
    pub weights: WeightMap,
    /// `safetensors`, `gguf` or `synthetic`.
    pub source: &'static str,
    /// What a tokenizer can be built from.
    pub tokenizer_source: TokenizerSource,
    /// The file or directory; none for synthetic weights.
    pub path: Option<PathBuf>,
    /// What a reader of the results should know: fallbacks, ignored tensors.
    pub notes: Vec<String>,
}

/// A model on disk, known without reading its weights.
#[derive(Debug, Clone)]
pub struct Description {
    /// The shape.
    pub architecture: Architecture,
    /// `safetensors` or `gguf`.
    pub source: &'static str,
    /// The `config.json`; none for GGUF.
    pub config: Option<serde_json::Value>,
    /// What a tokenizer can be built from.
    pub tokenizer_source: TokenizerSource,
    /// The weight files, in the order of their names.
    pub files: Vec<PathBuf>,
}

impl Description {
    /// Whether [`load`] and the instrumented decoder take this model; others go through [`super::models::stock`].
    pub fn is_instrumented(&self) -> bool {
        is_instrumented(&self.architecture)
    }
}

fn is_instrumented(architecture: &Architecture) -> bool {
    architecture.moe.is_none() && !matches!(architecture.family, Family::Other(_))
}

/// What lies at a path.
enum Layout {
    Gguf(PathBuf),
    HuggingFace(hugging_face::Checkpoint),
}

/// Reads the architecture, the configuration and the tokenizer's material of the model at `path`, but no weights.
pub fn describe(path: &Path) -> Result<Description, LoadError> {
    match layout(path)? {
        Layout::Gguf(file) => {
            let map = map_file(&file)?;
            let gguf = gguf::Gguf::parse(&file, &map)?;
            Ok(Description {
                architecture: gguf.architecture()?,
                source: "gguf",
                config: None,
                tokenizer_source: gguf.tokenizer()?,
                files: vec![file.clone()],
            })
        }
        Layout::HuggingFace(checkpoint) => Ok(Description {
            architecture: checkpoint.architecture()?,
            source: "safetensors",
            tokenizer_source: checkpoint.tokenizer()?,
            files: checkpoint.files().to_vec(),
            config: Some(checkpoint.into_config()),
        }),
    }
}

/// Reads only what a tokenizer can be built from; the model at `path` may lack weights.
pub fn tokenizer_source(path: &Path) -> Result<TokenizerSource, LoadError> {
    match layout(path)? {
        Layout::Gguf(file) => {
            let map = map_file(&file)?;
            gguf::Gguf::parse(&file, &map)?.tokenizer()
        }
        Layout::HuggingFace(checkpoint) => checkpoint.tokenizer(),
    }
}

/// Loads a model onto `device`. `progress` gets bytes of source data done and in all, from 0 to equal.
///
/// Only families of the instrumented decoder are taken; for others [`super::models::stock::build`] reads the files itself.
pub fn load(
    request: &LoadRequest,
    device: &Device,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<LoadedModel, LoadError> {
    if let Some(format) = request.dtype {
        convert::check_target(format)?;
    }
    let mut progress = Progress { report: progress, done: 0, total: 0 };
    match &request.source {
        Source::Synthetic { architecture, seed } => {
            let Finished { weights, notes } =
                synthesize(architecture, request.dtype.unwrap_or(Format::BF16), *seed, device, &mut progress)?;
            Ok(LoadedModel {
                architecture: architecture.clone(),
                weights,
                source: "synthetic",
                tokenizer_source: TokenizerSource::Bytes,
                path: None,
                notes,
            })
        }
        Source::Path(path) => match layout(path)? {
            Layout::Gguf(file) => {
                let map = map_file(&file)?;
                let gguf = gguf::Gguf::parse(&file, &map)?;
                let architecture = gguf.architecture()?;
                refuse_other_families(&architecture)?;
                let tokenizer_source = gguf.tokenizer()?;
                let Finished { weights, notes } = gguf.weights(&architecture, request.dtype, device, &mut progress)?;
                let path = Some(file.clone());
                Ok(LoadedModel { architecture, weights, source: "gguf", tokenizer_source, path, notes })
            }
            Layout::HuggingFace(checkpoint) => {
                let architecture = checkpoint.architecture()?;
                refuse_other_families(&architecture)?;
                let Finished { weights, notes } =
                    checkpoint.weights(&architecture, request.dtype, device, &mut progress)?;
                Ok(LoadedModel {
                    architecture,
                    weights,
                    source: "safetensors",
                    tokenizer_source: checkpoint.tokenizer()?,
                    path: Some(path.clone()),
                    notes,
                })
            }
        },
    }
}

/// The dense tensors of a safetensors model under their own names, and their format; for candle's modules.
pub(in crate::engine) fn dense_tensors(
    path: &Path,
    dtype: Option<Format>,
    device: &Device,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(std::collections::HashMap<String, candle_core::Tensor>, Format), LoadError> {
    let mut progress = Progress { report: progress, done: 0, total: 0 };
    match layout(path)? {
        Layout::HuggingFace(checkpoint) => checkpoint.dense_tensors(dtype, device, &mut progress),
        Layout::Gguf(file) => Err(LoadError::NoModel { path: file, reason: "it holds no safetensors".to_owned() }),
    }
}

fn refuse_other_families(architecture: &Architecture) -> Result<(), LoadError> {
    if is_instrumented(architecture) {
        return Ok(());
    }
    let reason = if architecture.moe.is_some() { "has a mixture of experts, which" } else { "is not one that" };
    Err(LoadError::Family {
        family: architecture.family.model_type().to_owned(),
        reason: format!("{reason} the instrumented decoder does not run; candle's own modules may"),
    })
}

/// Weights with the notes that came up on the way.
struct Finished {
    weights: WeightMap,
    notes: Vec<String>,
}

/// Passes bytes done on to the caller.
struct Progress<'a> {
    report: &'a mut dyn FnMut(u64, u64),
    done: u64,
    total: u64,
}

impl Progress<'_> {
    fn expect(&mut self, total: u64) {
        self.total = total;
        (self.report)(self.done, self.total);
    }
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        (self.report)(self.done, self.total);
    }
}

/// Counts matrices whose rows do not fill the blocks of the format asked for.
#[derive(Default)]
struct Fallbacks(std::collections::BTreeMap<(&'static str, &'static str, usize), usize>);

impl Fallbacks {
    fn record(&mut self, target: Option<Format>, dims: &[usize]) {
        let (Some(target), [_, .., columns]) = (target, dims) else { return };
        let held = convert::fitting(target, *columns);
        if held != target {
            *self.0.entry((target.name(), held.name(), *columns)).or_default() += 1;
        }
    }
    fn notes(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|((target, held, columns), count)| {
            format!("{count} matrices are held as {held} instead of {target}: their rows of {columns} values fill no whole blocks")
        })
    }
}

fn synthesize(
    architecture: &Architecture,
    format: Format,
    seed: u64,
    device: &Device,
    progress: &mut Progress<'_>,
) -> Result<Finished, LoadError> {
    architecture.validate()?;
    convert::check_target(format)?;
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let tensors = expected::tensors(architecture);
    let bytes_of = |tensor: &Expected| {
        let columns = tensor.dims.last().copied().unwrap_or(1).max(1);
        let format = if tensor.dims.len() < 2 { Format::F32 } else { convert::fitting(format, columns) };
        format.bytes(columns as u64) * (tensor.dims.iter().product::<usize>() / columns) as u64
    };
    progress.expect(tensors.iter().map(bytes_of).sum());
    let mut weights = WeightMap::default();
    let mut fallbacks = Fallbacks::default();
    for tensor in tensors {
        fallbacks.record(Some(format), &tensor.dims);
        let weight = synthetic::weight(&tensor, format, seed, threads, device)
            .map_err(LoadError::candle(format!("cannot make up tensor `{}`", tensor.name)))?;
        progress.advance(bytes_of(&tensor));
        weights.0.insert(tensor.name, weight);
    }
    Ok(Finished { weights, notes: fallbacks.notes().collect() })
}

/// Compares what is there with what the architecture needs: shapes first, then absences; surplus tensors become notes.
fn check_presence<'a>(
    path: &Path,
    wanted: &[Expected],
    found: impl Iterator<Item = (&'a str, &'a [usize])>,
    notes: &mut Vec<String>,
) -> Result<(), LoadError> {
    let mut found: std::collections::BTreeMap<&str, &[usize]> = found.collect();
    let mut missing = Vec::new();
    for tensor in wanted {
        match found.remove(tensor.name.as_str()) {
            Some(dims) if dims == tensor.dims => {}
            Some(dims) => {
                return Err(LoadError::Shape {
                    path: path.to_owned(),
                    tensor: tensor.name.clone(),
                    expected: tensor.dims.clone(),
                    found: dims.to_vec(),
                });
            }
            None => missing.push(tensor.name.clone()),
        }
    }
    if !missing.is_empty() {
        return Err(LoadError::MissingTensors { path: path.to_owned(), names: missing });
    }
    for name in found.keys() {
        // A bias belongs to a sum; leaving it out would compute another model than the file holds.
        if name.starts_with("model.layers.")
            && matches!(name.rsplit_once('.'), Some((owner, "bias")) if !owner.ends_with("attn"))
        {
            return Err(LoadError::UnexpectedBias { path: path.to_owned(), tensor: (*name).to_owned() });
        }
    }
    let surplus: Vec<&str> = found.into_keys().collect();
    if let Some(first) = surplus.first() {
        let more = if surplus.len() > 1 { format!(" and {} more", surplus.len() - 1) } else { String::new() };
        notes.push(format!("tensor `{first}`{more} is not part of the architecture and was not read"));
    }
    Ok(())
}

fn layout(path: &Path) -> Result<Layout, LoadError> {
    let no_model = |reason: String| LoadError::NoModel { path: path.to_owned(), reason };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(no_model("it does not exist".to_owned()));
        }
        Err(source) => return Err(LoadError::Io { path: path.to_owned(), source }),
    };
    if metadata.is_file() {
        return match extension(path) {
            Some("gguf") => Ok(Layout::Gguf(path.to_owned())),
            Some("safetensors") => hugging_face::Checkpoint::of_file(path).map(Layout::HuggingFace),
            _ => Err(no_model("its name ends in neither `.gguf` nor `.safetensors`".to_owned())),
        };
    }
    if path.join("config.json").is_file() {
        return hugging_face::Checkpoint::of_directory(path).map(Layout::HuggingFace);
    }
    let mut ggufs = Vec::new();
    for entry in std::fs::read_dir(path).map_err(|source| LoadError::Io { path: path.to_owned(), source })? {
        let entry = entry.map_err(|source| LoadError::Io { path: path.to_owned(), source })?.path();
        if extension(&entry) == Some("gguf") && entry.is_file() {
            ggufs.push(entry);
        }
    }
    ggufs.sort();
    match ggufs.len() {
        0 => Err(no_model("it contains neither a `config.json` nor a `.gguf` file".to_owned())),
        1 => Ok(Layout::Gguf(ggufs.remove(0))),
        count => Err(no_model(format!("it contains {count} `.gguf` files; name one, e.g. `{}`", ggufs[0].display()))),
    }
}

fn extension(path: &Path) -> Option<&str> {
    path.extension().and_then(std::ffi::OsStr::to_str)
}

fn map_file(path: &Path) -> Result<Mmap, LoadError> {
    let io = |source| LoadError::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(io)?;
    // SAFETY: the map is only read, and only while weights are copied out of it. A process that shortens the file meanwhile makes the read
    // fault, as for every program that maps files; model files are not edited in place.
    unsafe { Mmap::map(&file) }.map_err(io)
}
