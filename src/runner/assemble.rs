//! Builds the engine a configuration asks for: device, threads, model, tokenizer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::config::schema::choice::{DeviceChoice, ModelSource, OpsChoice, TraceMode};
use crate::config::schema::stage1::Stage1Config;
use crate::engine::device;
use crate::engine::loader::{self, Description, LoadError, LoadRequest, Source};
use crate::engine::models::decoder::{CachePlan, Decoder};
use crate::engine::models::{CausalLm, stock};
use crate::engine::ops;
use crate::engine::threads::ThreadPool;
use crate::engine::tokenizer::{Tokenizer, TokenizerError, TokenizerSource};
use crate::engine::weights::WeightMap;
use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;
use crate::estimate::kv_cache;
use crate::estimate::parameters::weights_bytes;
use crate::estimate::step::WeightFormats;
use crate::hardware::memory;
use crate::record::metrics::ModelBlock;
use crate::units::Bytes;

/// Why an engine could not be built.
#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    /// The device is not there, or this build cannot use it.
    #[error("{0}")]
    Device(#[from] device::DeviceError),
    /// A setting asks for something this version does not have.
    #[error("`{setting}` is not available: {reason}")]
    Unavailable {
        /// The setting, as `key=value`.
        setting: String,
        /// Why.
        reason: String,
    },
    /// Neither a path, nor a cached repository, nor a synthetic shape.
    #[error("the model `{name}` has no weights here: {reason}")]
    NoWeights {
        /// The model.
        name: String,
        /// What was looked for.
        reason: String,
        /// What the user can do.
        hint: String,
    },
    /// Weights and KV cache are larger than the memory there is.
    #[error(
        "the model `{name}` needs {needed} ({weights} weights, {cache} KV cache), but this process may use {usable}"
    )]
    DoesNotFit {
        /// The model.
        name: String,
        /// All of it.
        needed: Bytes,
        /// Weights.
        weights: Bytes,
        /// KV cache for the batch and the longest case.
        cache: Bytes,
        /// Memory of the machine, or the limit of the control group.
        usable: Bytes,
    },
    /// The weights cannot be used.
    #[error("cannot load the model `{name}`")]
    Load {
        /// The model.
        name: String,
        /// Why.
        #[source]
        source: Box<LoadError>,
    },
    /// The tokenizer cannot be used.
    #[error("cannot build the tokenizer of `{name}`")]
    Tokenizer {
        /// The model.
        name: String,
        /// Why.
        #[source]
        source: TokenizerError,
    },
    /// The engine cannot be built over the loaded weights.
    #[error("cannot build the engine of `{name}`")]
    Engine {
        /// The model.
        name: String,
        /// Why.
        #[source]
        source: candle_error::Error,
    },
    /// A thread could not be started.
    #[error("cannot start {threads} engine threads")]
    Threads {
        /// How many.
        threads: usize,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Candle's error under a neutral name: only `engine` may name the crate.
pub use crate::engine::error as candle_error;

impl AssembleError {
    /// What the user can do, if anything.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Device(error) => Some(error.hint().to_owned()),
            Self::NoWeights { hint, .. } => Some(hint.clone()),
            Self::DoesNotFit { .. } => Some(
                "lower `batch=`, `prompt_tokens=` or `engine.max_context=`, or use a smaller `model.dtype=`; `perfprof estimate` says what fits"
                    .to_owned(),
            ),
            Self::Tokenizer { .. } => Some(
                "a `tokenizer.json` beside the weights is used, or the one that `model.tokenizer=FILE` names".to_owned(),
            ),
            Self::Load { source, .. } => source.hint().map(str::to_owned),
            _ => None,
        }
    }
}

/// A model on disk or in a seed, before its weights are read: enough to plan a run and to refuse one.
#[derive(Debug)]
pub struct Chosen {
    /// Alias or path as asked for.
    pub name: String,
    /// Where the weights come from.
    pub source: Source,
    /// The shape.
    pub architecture: Architecture,
    /// `safetensors`, `gguf` or `synthetic`.
    pub source_name: &'static str,
    /// The weight files.
    pub files: Vec<PathBuf>,
    /// What is on disk; `None` for synthetic weights.
    description: Option<Description>,
    tokenizer_source: TokenizerSource,
}

impl Chosen {
    /// How the weights are stored, where the source says so without being read: a GGUF file or a synthetic shape does not.
    pub fn stored_format(&self) -> Option<Format> {
        let name = self.description.as_ref()?.config.as_ref()?;
        let dtype = name.get("torch_dtype").or_else(|| name.get("dtype"))?;
        Format::parse(dtype.as_str()?)
    }
}

/// Checks what can be checked without touching a weight.
pub fn choose(config: &Stage1Config) -> Result<Chosen, AssembleError> {
    let unavailable = |setting: &str, reason: &str| AssembleError::Unavailable {
        setting: setting.to_owned(),
        reason: reason.to_owned(),
    };
    if config.engine.ops == OpsChoice::Fused {
        return Err(unavailable(
            "engine.ops=fused",
            "fused operators are not part of this version; use `engine.ops=reference`",
        ));
    }
    if config.engine.cuda_graph.is_on() {
        return Err(unavailable(
            "engine.cuda_graph=on",
            "graph capture needs the fused CUDA operators, which this version lacks",
        ));
    }
    if config.trace == TraceMode::Cupti {
        return Err(unavailable(
            "trace=cupti",
            "the built-in CUPTI tracer is not part of this version; `trace=spans` records host spans",
        ));
    }
    let model = &config.model;
    let name = model.name.clone();
    let load = |source| AssembleError::Load { name: name.clone(), source: Box::new(source) };
    if let Some(path) = weights_path(config)? {
        let description = loader::describe(&path).map_err(load)?;
        let tokenizer_source = match &model.tokenizer {
            Some(path) => TokenizerSource::Json {
                path: path.clone(),
                tokenizer_config: None,
                eos_ids: Vec::new(),
                chat_template: None,
            },
            None => description.tokenizer_source.clone(),
        };
        let expected = match model.source {
            ModelSource::Safetensors => Some("safetensors"),
            ModelSource::Gguf => Some("gguf"),
            _ => None,
        };
        if let Some(expected) = expected.filter(|expected| *expected != description.source) {
            return Err(unavailable(
                &format!("model.source={expected}"),
                &format!("`{}` holds {} weights", path.display(), description.source),
            ));
        }
        return Ok(Chosen {
            name,
            architecture: description.architecture.clone(),
            source: Source::Path(path),
            source_name: description.source,
            files: description.files.clone(),
            tokenizer_source,
            description: Some(description),
        });
    }
    let Some(architecture) = model.architecture.clone() else {
        return Err(AssembleError::NoWeights {
            name,
            reason: "it has neither `model.path`, `model.hf_id` nor `model.architecture`".to_owned(),
            hint: "give `model.path=FILE_OR_DIRECTORY`, or choose `model=synthetic`".to_owned(),
        });
    };
    Ok(Chosen {
        name,
        source: Source::Synthetic { architecture: architecture.clone(), seed: model.seed },
        architecture,
        source_name: "synthetic",
        files: Vec::new(),
        description: None,
        tokenizer_source: TokenizerSource::Bytes,
    })
}

/// The path of the weights, or `None` for synthetic ones.
fn weights_path(config: &Stage1Config) -> Result<Option<PathBuf>, AssembleError> {
    let model = &config.model;
    if model.source == ModelSource::Synthetic {
        return Ok(None);
    }
    if let Some(path) = &model.path {
        if path.exists() {
            return Ok(Some(path.clone()));
        }
        let hint = if model.name.contains("smollm2") {
            "run `scripts/fetch-model.sh smollm2` first".to_owned()
        } else {
            "check `model.path`; perfprof never downloads weights".to_owned()
        };
        let reason = format!("there is no file or directory `{}`", path.display());
        return Err(AssembleError::NoWeights { name: model.name.clone(), reason, hint });
    }
    let Some(hf_id) = &model.hf_id else { return Ok(None) };
    match cached_snapshot(hf_id) {
        Some(path) => Ok(Some(path)),
        None => Err(AssembleError::NoWeights {
            name: model.name.clone(),
            reason: format!("`{hf_id}` is not in the local Hugging Face cache"),
            hint: format!(
                "perfprof never downloads weights: run `hf download {hf_id}` where there is a network, or give `model.path=`"
            ),
        }),
    }
}

/// The snapshot directory of `hf_id` in the local Hugging Face cache (`HF_HUB_CACHE`, `HF_HOME/hub`, `~/.cache/huggingface/hub`).
fn cached_snapshot(hf_id: &str) -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let hub = from("HF_HUB_CACHE")
        .or_else(|| from("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| from("HOME").map(|home| home.join(".cache/huggingface/hub")))?;
    let repository = hub.join(format!("models--{}", hf_id.replace('/', "--")));
    let snapshots = repository.join("snapshots");
    let main = std::fs::read_to_string(repository.join("refs/main")).ok().map(|commit| snapshots.join(commit.trim()));
    main.filter(|path| path.is_dir()).or_else(|| {
        let mut directories: Vec<PathBuf> =
            std::fs::read_dir(&snapshots).ok()?.filter_map(|e| Some(e.ok()?.path())).collect();
        directories.sort();
        directories.into_iter().find(|path: &PathBuf| path.join("config.json").is_file())
    })
}

/// What the engine must have room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Sequences.
    pub batch: usize,
    /// Positions of each.
    pub context: usize,
}

/// An engine ready to generate.
pub struct Engine {
    /// The model.
    pub model: Box<dyn CausalLm>,
    /// Where it runs.
    pub device: device::EngineDevice,
    /// `cpu` or `cuda:N`.
    pub device_id: String,
    /// Threads the engine works on.
    pub threads: usize,
    /// What it is, for the record.
    pub block: ModelBlock,
    /// How each weight is stored.
    pub weight_formats: BTreeMap<String, Format>,
    /// Time to read and place the weights and to allocate the cache.
    pub load_ms: f64,
    /// What a reader of the results should know.
    pub notes: Vec<String>,
}

/// Threads of the engine: as set, else the physical cores the process may use.
pub fn threads(config: &Stage1Config, physical_available: Option<u32>, usable_cpus: f64) -> usize {
    let usable = (usable_cpus.floor() as usize).max(1);
    config.engine.threads.map_or_else(
        || physical_available.map_or(usable, |cores| (cores as usize).min(usable).max(1)),
        |threads| threads as usize,
    )
}

/// Builds the tokenizer of a chosen model.
pub fn tokenizer(chosen: &Chosen) -> Result<Tokenizer, AssembleError> {
    Tokenizer::from_source(&chosen.tokenizer_source, chosen.architecture.vocab_size)
        .map_err(|source| AssembleError::Tokenizer { name: chosen.name.clone(), source })
}

/// Refuses what cannot fit before the kernel ends the process for it. Counts the least there must be, on the CPU only.
pub fn check_memory(config: &Stage1Config, chosen: &Chosen, room: Room, device_id: &str) -> Result<(), AssembleError> {
    let Some(usable) = memory::system().map(|memory| memory.usable_bytes()).filter(|_| device_id == "cpu") else {
        return Ok(());
    };
    let weights = match &chosen.source {
        Source::Synthetic { .. } => {
            let format = config.model.dtype.or(config.model.dtype_default).unwrap_or(Format::F32);
            weights_bytes(&chosen.architecture, &WeightFormats::from_names(format, BTreeMap::new()))
        }
        source @ Source::Path(_) => file_bytes(source),
    };
    let token = kv_cache::bytes_per_token(&chosen.architecture, config.engine.kv_dtype.unwrap_or(Format::F32));
    let cache = (room.batch as u64).saturating_mul(room.context as u64).saturating_mul(token);
    let needed = weights.saturating_add(cache);
    if needed <= usable {
        return Ok(());
    }
    let bytes = |count: u64| Bytes(count as f64);
    Err(AssembleError::DoesNotFit {
        name: chosen.name.clone(),
        needed: bytes(needed),
        weights: bytes(weights),
        cache: bytes(cache),
        usable: bytes(usable),
    })
}

/// The device a configuration asks for; fails before anything is loaded.
pub fn open_device(config: &Stage1Config) -> Result<(device::EngineDevice, String), AssembleError> {
    Ok(match config.device {
        DeviceChoice::Cpu => (device::cpu(), "cpu".to_owned()),
        DeviceChoice::Cuda(index) => (device::cuda(index)?, format!("cuda:{index}")),
        DeviceChoice::Auto => match device::cuda(0) {
            Ok(device) => (device, "cuda:0".to_owned()),
            Err(_) => (device::cpu(), "cpu".to_owned()),
        },
    })
}

/// Reads the weights and builds the engine. `progress` gets bytes done and in all.
pub fn build(
    config: &Stage1Config,
    chosen: Chosen,
    room: Room,
    threads: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Engine, AssembleError> {
    let (device, device_id) = open_device(config)?;
    let name = chosen.name.clone();
    let engine_error = |source| AssembleError::Engine { name: name.clone(), source };
    let load_error = |source| AssembleError::Load { name: name.clone(), source: Box::new(source) };
    let start = Instant::now();
    // A dense checkpoint runs in the registry's default where nothing else is said; quantized files stay as they are.
    let dense_default = if chosen.source_name == "gguf" { None } else { config.model.dtype_default };
    let dtype = config.model.dtype.or(dense_default);
    let mut notes = Vec::new();
    let architecture = chosen.architecture.clone();
    let (model, weights): (Box<dyn CausalLm>, Option<WeightMap>) = if Decoder::supports(&architecture) {
        let request = LoadRequest { source: chosen.source.clone(), dtype };
        let loaded = loader::load(&request, &device, progress).map_err(load_error)?;
        notes.extend(loaded.notes);
        let pool = Arc::new(ThreadPool::new(threads).map_err(|source| AssembleError::Threads { threads, source })?);
        let operators = ops::reference(&device, &pool);
        // Which instruction set was chosen decides the speed, so the record must say it.
        notes.push(format!("operators: {}", operators.name()));
        let format = config.engine.kv_dtype.unwrap_or_else(|| operators.activation_format());
        let plan = CachePlan { batch: room.batch, capacity: room.context, format };
        let decoder = Decoder::new(loaded.architecture, &loaded.weights, operators, plan).map_err(engine_error)?;
        (Box::new(decoder), Some(loaded.weights))
    } else {
        let (Source::Path(path), Some(description)) = (&chosen.source, &chosen.description) else {
            return Err(AssembleError::Unavailable {
                setting: format!("model={name}"),
                reason: format!(
                    "synthetic weights exist for llama, mistral, qwen2 and qwen3 shapes, not for `{}`",
                    architecture.family.model_type()
                ),
            });
        };
        notes.push(format!(
            "`{}` runs through candle-transformers' own module: phases are timed, operators are not",
            architecture.family.model_type()
        ));
        let model = stock::build(path, description, &device, dtype, progress).map_err(load_error)?;
        (model, None)
    };
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let weight_formats: BTreeMap<String, Format> = weights
        .iter()
        .flat_map(|weights| weights.0.iter().map(|(name, weight)| (name.clone(), weight.format())))
        .collect();
    let bytes_by_format = weights.as_ref().map(WeightMap::bytes_by_format).unwrap_or_default();
    let parameters = weights.as_ref().map(WeightMap::parameters);
    let weights_bytes = match &weights {
        Some(_) => bytes_by_format.values().sum(),
        None => file_bytes(&chosen.source),
    };
    let dtype = bytes_by_format.iter().max_by_key(|(_, bytes)| **bytes).map_or_else(
        || dtype.map_or("as stored".to_owned(), |format| format.name().to_owned()),
        |(format, _)| format.clone(),
    );
    let kv_format = model.kv_format();
    let kv_values = (2 * architecture.num_layers * architecture.kv_width()) as u64;
    let block = ModelBlock {
        name: chosen.name,
        source: chosen.source_name.to_owned(),
        parameters,
        weights_bytes,
        weights_bytes_by_format: bytes_by_format,
        dtype,
        compute_dtype: model.compute_format().name().to_owned(),
        kv_dtype: kv_format.name().to_owned(),
        kv_bytes_per_token: kv_format.bytes(kv_values),
        ops: "reference".to_owned(),
        architecture,
    };
    Ok(Engine { model, device, device_id, threads, block, weight_formats, load_ms, notes })
}

/// Bytes of the weight files of a model that candle-transformers reads itself.
fn file_bytes(source: &Source) -> u64 {
    let Source::Path(path) = source else { return 0 };
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |data| data.len());
    if path.is_file() {
        return size(path);
    }
    let files = std::fs::read_dir(path).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let weights = files.filter(|file| file.extension().is_some_and(|e| e == "safetensors" || e == "gguf"));
    weights.map(|file| size(&file)).sum()
}
