//! Builds the engine a configuration asks for: device, threads, model, tokenizer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::config::schema::choice::{DeviceChoice, ModelSource, NvtxChoice, OpsChoice, TraceMode};
use crate::config::schema::stage1::Stage1Config;
use crate::diagnostics::{Diagnostic, Severity};
use crate::engine::device;
use crate::engine::gpu;
use crate::engine::gpu::backend::SharedBackend;
use crate::engine::gpu::decoder::GpuDecoder;
use crate::engine::loader::{self, Description, LoadError, LoadRequest, Source};
use crate::engine::models::decoder::{CachePlan, Decoder};
use crate::engine::models::fused::FusedDecoder;
use crate::engine::models::slowed::{Slowdown, Slowed};
use crate::engine::models::{CausalLm, stock};
use crate::engine::ops;
use crate::engine::ops::fused::FusedOperators;
use crate::engine::threads::ThreadPool;
use crate::engine::tokenizer::{Tokenizer, TokenizerError, TokenizerSource};
use crate::engine::weights::WeightMap;
use crate::estimate::architecture::Architecture;
use crate::estimate::format::Format;
use crate::estimate::kv_cache;
use crate::estimate::parameters::weights_bytes;
use crate::estimate::step::WeightFormats;
use crate::hardware::memory;
use crate::instrument::cupti::TracerError;
use crate::instrument::nvtx;
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
        /// Memory of the machine, or the limit of the control group; free memory of a GPU.
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
    let fused = config.engine.ops == OpsChoice::Fused;
    let on_cpu = config.device == DeviceChoice::Cpu;
    slowdown()?;
    if config.engine.cuda_graph.is_on() && on_cpu {
        return Err(unavailable("engine.cuda_graph=on", NO_GRAPHS));
    }
    if config.engine.cuda_graph.is_on() && !fused {
        return Err(unavailable(
            "engine.cuda_graph=on",
            "the reference operators make new tensors in every step, whose addresses a graph cannot know; use `engine.ops=fused`",
        ));
    }
    tracing_choices(config)?;
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
        refuse_fused_stock(fused, &description.architecture)?;
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
    refuse_fused_stock(fused, &architecture)?;
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

/// Refuses tracers that this build does not have, and that on a device without CUDA would record nothing.
fn tracing_choices(config: &Stage1Config) -> Result<(), AssembleError> {
    let unavailable =
        |setting: &str, reason: String| AssembleError::Unavailable { setting: setting.to_owned(), reason };
    if config.trace == TraceMode::Cupti {
        if !cfg!(feature = "cuda") {
            let hint = TracerError::NotBuiltIn.hint().unwrap_or_default();
            return Err(unavailable("trace=cupti", format!("{}: {hint}", TracerError::NotBuiltIn)));
        }
        if config.device == DeviceChoice::Cpu {
            return Err(unavailable("trace=cupti", CUPTI_NEEDS_CUDA.to_owned()));
        }
    }
    match config.profiling.nvtx {
        Some(choice @ (NvtxChoice::Phases | NvtxChoice::All)) if !nvtx::BUILT_IN => {
            let word = if choice == NvtxChoice::All { "all" } else { "phases" };
            Err(unavailable(
                &format!("profiling.nvtx={word}"),
                format!("{}: {}", nvtx::NotBuiltIn, nvtx::NotBuiltIn::HINT),
            ))
        }
        _ => Ok(()),
    }
}

/// Why `trace=cupti` is refused on the CPU.
pub const CUPTI_NEEDS_CUDA: &str =
    "the tracer records CUDA activity, of which a run on the CPU has none; its operator spans are in every report";

/// Fused operators exist inside our own decoder only.
fn refuse_fused_stock(fused: bool, architecture: &Architecture) -> Result<(), AssembleError> {
    if !fused || Decoder::supports(architecture) {
        return Ok(());
    }
    Err(AssembleError::Unavailable {
        setting: "engine.ops=fused".to_owned(),
        reason: format!(
            "`{}` runs through candle-transformers' own module, whose operators cannot be exchanged; use `engine.ops=reference`",
            architecture.family.model_type()
        ),
    })
}

/// Name of the environment variable that slows one operator down on purpose, e.g. `PERFPROF_SLOW_OPERATOR=down_proj:0.30`: every
/// call of `down_proj` is followed by busy waiting for 30 % of its own duration, inside its span.
///
/// It exists to plant a slowdown of known place and size, which a comparison must then find. It is read once, when the engine is built; unset, it
/// costs nothing. A run with it carries the diagnostic `slowed_on_purpose`.
const SLOW_OPERATOR: &str = "PERFPROF_SLOW_OPERATOR";

/// The slowdown asked for in the environment, if any.
fn slowdown() -> Result<Option<Slowdown>, AssembleError> {
    let Some(text) = std::env::var_os(SLOW_OPERATOR) else { return Ok(None) };
    let text = text.to_string_lossy();
    Slowdown::parse(&text)
        .map(Some)
        .map_err(|reason| AssembleError::Unavailable { setting: format!("{SLOW_OPERATOR}={text}"), reason })
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
    /// The stream that runs the work, for its clock; `None` on a CPU.
    pub backend: Option<SharedBackend>,
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
    /// What a reader of the results must know.
    pub diagnostics: Vec<Diagnostic>,
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

/// Refuses what cannot fit into the memory of the host before the kernel ends the process for it. Counts the least there must be: weights and cache on
/// the CPU, the weights alone where the fused operators of a GPU place them from there.
pub fn check_memory(config: &Stage1Config, chosen: &Chosen, room: Room, device_id: &str) -> Result<(), AssembleError> {
    let Some(usable) = memory::system().map(|memory| memory.usable_bytes()) else { return Ok(()) };
    let (weights, cache) = least_bytes(config, chosen, room, Format::F32);
    match (device_id, config.engine.ops) {
        ("cpu", _) => fits(chosen, weights, cache, usable),
        (_, OpsChoice::Fused) => fits(chosen, weights, 0, usable),
        _ => Ok(()),
    }
}

/// The least bytes of weights and of the KV cache; `default` is the format of what no setting names.
fn least_bytes(config: &Stage1Config, chosen: &Chosen, room: Room, default: Format) -> (u64, u64) {
    let weights = match &chosen.source {
        Source::Synthetic { .. } => {
            let format = config.model.dtype.or(config.model.dtype_default).unwrap_or(default);
            weights_bytes(&chosen.architecture, &WeightFormats::from_names(format, BTreeMap::new()))
        }
        source @ Source::Path(_) => file_bytes(source),
    };
    let token = kv_cache::bytes_per_token(&chosen.architecture, config.engine.kv_dtype.unwrap_or(default));
    (weights, (room.batch as u64).saturating_mul(room.context as u64).saturating_mul(token))
}

fn fits(chosen: &Chosen, weights: u64, cache: u64, usable: u64) -> Result<(), AssembleError> {
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

/// A device that is there.
pub struct Opened {
    /// Where tensors are loaded to: the host for the fused operators of a GPU, which place weights themselves.
    pub device: device::EngineDevice,
    /// `cpu` or `cuda:N`.
    pub device_id: String,
    /// The stream that runs the work; `None` on a CPU.
    pub backend: Option<SharedBackend>,
}

/// The device a configuration asks for; fails before anything is loaded.
pub fn open_device(config: &Stage1Config) -> Result<Opened, AssembleError> {
    let cuda = |index: usize| -> Result<Opened, device::DeviceError> {
        let device_id = format!("cuda:{index}");
        if config.engine.ops == OpsChoice::Fused {
            let backend = Some(device::backend(index)?);
            return Ok(Opened { device: device::cpu(), device_id, backend });
        }
        let device = device::cuda(index)?;
        let backend = device::backend_of(&device).transpose()?;
        Ok(Opened { device, device_id, backend })
    };
    let cpu = || Opened { device: device::cpu(), device_id: "cpu".to_owned(), backend: None };
    let opened = match config.device {
        DeviceChoice::Cpu => cpu(),
        DeviceChoice::Cuda(index) => cuda(index)?,
        DeviceChoice::Auto => cuda(0).unwrap_or_else(|_| cpu()),
    };
    let unavailable = |setting: &str, reason: &str| AssembleError::Unavailable {
        setting: setting.to_owned(),
        reason: reason.to_owned(),
    };
    if opened.backend.is_none() && config.engine.cuda_graph.is_on() {
        return Err(unavailable("engine.cuda_graph=on", NO_GRAPHS));
    }
    if opened.backend.is_some() && slowdown()?.is_some() {
        let reason = "an operator is made longer by waiting on the host, which is no operator of a GPU";
        return Err(unavailable(SLOW_OPERATOR, reason));
    }
    Ok(opened)
}

/// Why `engine.cuda_graph=on` is refused on the CPU.
const NO_GRAPHS: &str = "a CPU has no CUDA graphs; use `device=cuda:0`";

/// The 16-bit type of activations and cache of the GPU's fused operators.
fn half_type(config: &Stage1Config, dtype: Option<Format>) -> Result<Format, AssembleError> {
    let is_half = |format: &Format| matches!(format, Format::F16 | Format::BF16);
    let refuse = |setting: &str, format: Format| {
        Err(AssembleError::Unavailable {
            setting: format!("{setting}={format}"),
            reason: "the fused operators of a GPU compute and cache in f16 or bf16, and multiply q8_0, q4_0 and q4_1 as they are".to_owned(),
        })
    };
    let half = match dtype {
        Some(format) if is_half(&format) => Some(format),
        Some(Format::F32 | Format::F64) => return refuse("model.dtype", Format::F32),
        _ => None,
    };
    match (half, config.engine.kv_dtype) {
        (_, Some(kv)) if !is_half(&kv) => refuse("engine.kv_dtype", kv),
        (Some(half), Some(kv)) if half != kv => refuse("engine.kv_dtype", kv),
        (half, kv) => Ok(half.or(kv).unwrap_or(Format::BF16)),
    }
}

/// Reads the weights and builds the engine. `progress` gets bytes done and in all.
pub fn build(
    config: &Stage1Config,
    chosen: Chosen,
    room: Room,
    threads: usize,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Engine, AssembleError> {
    let Opened { device, device_id, backend } = open_device(config)?;
    if let Some(usable) = backend.as_ref().and_then(|backend| backend.free_bytes().ok()) {
        let (weights, cache) = least_bytes(config, &chosen, room, Format::BF16);
        fits(&chosen, weights, cache, usable)?;
    }
    let name = chosen.name.clone();
    let engine_error = |source| AssembleError::Engine { name: name.clone(), source };
    let load_error = |source| AssembleError::Load { name: name.clone(), source: Box::new(source) };
    let start = Instant::now();
    // A dense checkpoint runs in the registry's default where nothing else is said; quantized files stay as they are.
    let dense_default = if chosen.source_name == "gguf" { None } else { config.model.dtype_default };
    let dtype = config.model.dtype.or(dense_default);
    let mut notes = Vec::new();
    let architecture = chosen.architecture.clone();
    let fused = config.engine.ops == OpsChoice::Fused;
    let mut ops = "reference".to_owned();
    let mut weights = None;
    let mut model: Box<dyn CausalLm> = if Decoder::supports(&architecture) {
        let half = match &backend {
            Some(_) if fused => {
                if let Some(reason) = gpu::decoder::unsupported(&architecture) {
                    return Err(AssembleError::Unavailable { setting: "engine.ops=fused".to_owned(), reason });
                }
                Some(half_type(config, dtype)?)
            }
            _ => None,
        };
        let request = LoadRequest { source: chosen.source.clone(), dtype };
        let loaded = loader::load(&request, &device, progress).map_err(load_error)?;
        notes.extend(loaded.notes);
        weights = Some(LoadedWeights::of(&loaded.weights));
        let pool = Arc::new(ThreadPool::new(threads).map_err(|source| AssembleError::Threads { threads, source })?);
        let plan = |activations| CachePlan {
            batch: room.batch,
            capacity: room.context,
            format: config.engine.kv_dtype.unwrap_or(activations),
        };
        // Which instruction set was chosen decides the speed, so the record must say it.
        if let (Some(half), Some(backend)) = (half, &backend) {
            let graph = config.engine.cuda_graph.is_on();
            let plan = plan(half);
            let backend = SharedBackend::clone(backend);
            let decoder =
                GpuDecoder::new(loaded.architecture, loaded.weights, backend, plan, graph).map_err(engine_error)?;
            notes.push(format!("operators: {}", decoder.operators_name()));
            notes.extend(decoder.notes().iter().cloned());
            ops = String::from(if graph { "fused (graph)" } else { "fused" });
            Box::new(decoder)
        } else if fused {
            let operators = FusedOperators::new(pool);
            let plan = plan(Format::F32);
            let decoder =
                FusedDecoder::new(loaded.architecture, loaded.weights, operators, plan).map_err(engine_error)?;
            notes.push(format!("operators: {}", decoder.operators_name()));
            ops = match decoder.unpacked_formats() {
                Some(formats) => format!("fused (reference products for {formats})"),
                None => "fused".to_owned(),
            };
            Box::new(decoder)
        } else {
            let operators = ops::reference(&device, &pool);
            notes.push(format!("operators: {}", operators.name()));
            let plan = plan(operators.activation_format());
            Box::new(Decoder::new(loaded.architecture, &loaded.weights, operators, plan).map_err(engine_error)?)
        }
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
        stock::build(path, description, &device, dtype, progress).map_err(load_error)?
    };
    let mut diagnostics = Vec::new();
    if let Some(slowdown) = slowdown()? {
        diagnostics.push(Diagnostic::new(
            "slowed_on_purpose",
            Severity::Warn,
            format!(
                "every call of `{}` is made {} % longer on purpose ({SLOW_OPERATOR} is set): the times are not those of the engine",
                slowdown.operator,
                slowdown.part * 100.0
            ),
        ));
        model = Box::new(Slowed::new(model, slowdown));
    }
    let load_ms = start.elapsed().as_secs_f64() * 1e3;
    let parameters = weights.as_ref().map(|weights| weights.parameters);
    let known = weights.is_some();
    let LoadedWeights { formats: weight_formats, bytes_by_format, .. } = weights.unwrap_or_default();
    let weights_bytes = if known { bytes_by_format.values().sum() } else { file_bytes(&chosen.source) };
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
        ops,
        architecture,
    };
    Ok(Engine { model, device, backend, device_id, threads, block, weight_formats, load_ms, notes, diagnostics })
}

/// What is said of the weights as they were loaded; the engine may hold them in another form.
#[derive(Default)]
struct LoadedWeights {
    formats: BTreeMap<String, Format>,
    bytes_by_format: BTreeMap<String, u64>,
    parameters: u64,
}

impl LoadedWeights {
    fn of(weights: &WeightMap) -> Self {
        Self {
            formats: weights.0.iter().map(|(name, weight)| (name.clone(), weight.format())).collect(),
            bytes_by_format: weights.bytes_by_format(),
            parameters: weights.parameters(),
        }
    }
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
