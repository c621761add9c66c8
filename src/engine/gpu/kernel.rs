//! The kernels of `kernels/*.cu`: their sources, and the modules that are compiled from them.
//!
//! A module is one source compiled with one set of macros. The sources are embedded in the binary and compiled by NVRTC for the device at
//! hand; what was compiled is kept in a cache under the hash of everything that went into it.

use sha2::{Digest as _, Sha256};

/// A source file.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// File name in `kernels/`, e.g. `gemv.cu`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

/// Sources are embedded once, so one is known by where its text lies: a launch has no time to compare texts.
impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && std::ptr::eq(self.text, other.text)
    }
}

impl Eq for Source {}

impl std::hash::Hash for Source {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

macro_rules! sources {
    ($($(#[$meta:meta])* $name:ident = $file:literal;)*) => {
        $($(#[$meta])* pub const $name: Source = Source { name: $file, text: include_str!(concat!("../../../kernels/", $file)) };)*
        /// All sources that hold kernels.
        pub const SOURCES: &[Source] = &[$($name),*];
    };
}

sources! {
    /// Rows of a table picked by ids.
    EMBEDDING = "embedding.cu";
    /// RMS norms.
    RMS_NORM = "rms_norm.cu";
    /// Rotary embedding and the write to the KV cache.
    ROPE_KV = "rope_kv.cu";
    /// Gated activation.
    SWIGLU = "swiglu.cu";
    /// Biases added to the rows of a product.
    BIAS = "bias.cu";
    /// Attention of one new token over the cache.
    ATTENTION_DECODE = "attention_decode.cu";
    /// Attention of a prompt.
    ATTENTION_PREFILL = "attention_prefill.cu";
    /// Matrix times one or a few vectors.
    GEMV = "gemv.cu";
    /// Choice of the next token.
    SAMPLING = "sampling.cu";
    /// Quantized weights to 16-bit values.
    DEQUANTIZE = "dequantize.cu";
    /// Memory traffic alone: what the bandwidth of the device is measured with.
    MEMORY = "memory.cu";
}

/// What every source includes.
pub const COMMON: Source = Source { name: "common.cuh", text: include_str!("../../../kernels/common.cuh") };

/// A source with macros.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Module {
    /// The source.
    pub source: Source,
    /// Macros by name, in order of their names.
    pub defines: Vec<(&'static str, u32)>,
}

impl Module {
    /// `source` compiled with `defines`.
    pub fn new(source: Source, defines: &[(&'static str, u32)]) -> Self {
        let mut defines = defines.to_vec();
        defines.sort_unstable();
        Self { source, defines }
    }
    /// Name for messages, e.g. `gemv.cu (PP_BATCH=1, PP_T=1)`.
    pub fn name(&self) -> String {
        let defines: Vec<String> = self.defines.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if defines.is_empty() {
            self.source.name.to_owned()
        } else {
            format!("{} ({})", self.source.name, defines.join(", "))
        }
    }
    /// Hash of sources, macros and `target` (compiler and architecture), as hex digits.
    pub fn hash(&self, target: &str) -> String {
        let mut hash = Sha256::new();
        for part in [COMMON.text, self.source.name, self.source.text, &self.name(), target] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest = hash.finalize();
        digest.iter().take(16).fold(String::with_capacity(32), |mut text, byte| {
            text.push_str(&format!("{byte:02x}"));
            text
        })
    }
}

/// A function of a module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Kernel {
    /// The module.
    pub module: Module,
    /// The function.
    pub function: &'static str,
}
