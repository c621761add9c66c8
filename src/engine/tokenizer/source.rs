//! The raw material of a tokenizer, as the loader found it.

use std::path::PathBuf;

/// What a tokenizer can be built from.
#[derive(Debug, Clone, PartialEq)]
pub enum TokenizerSource {
    /// A Hugging Face `tokenizer.json`, with `tokenizer_config.json`, `generation_config.json` and the chat template beside it.
    Json {
        /// The `tokenizer.json`.
        path: PathBuf,
        /// `tokenizer_config.json`, if there.
        tokenizer_config: Option<serde_json::Value>,
        /// `eos_token_id` of `generation_config.json` or else of `config.json`.
        eos_ids: Vec<u32>,
        /// The chat template's text, if there.
        chat_template: Option<String>,
    },
    /// The `tokenizer.*` metadata of a GGUF file.
    Gguf(Box<GgufVocabulary>),
    /// One token per byte, for models that have no tokenizer of their own.
    Bytes,
    /// The model in this directory came without one.
    Missing(PathBuf),
}

/// The `tokenizer.ggml.*` metadata of a GGUF file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GgufVocabulary {
    /// `tokenizer.ggml.model`: `gpt2` for byte-level BPE, `llama` for SentencePiece.
    pub model: String,
    /// `tokenizer.ggml.pre`: which pre-tokenizer splits the text.
    pub pre: Option<String>,
    /// Every token's text.
    pub tokens: Vec<String>,
    /// BPE merges, `left right`, best first.
    pub merges: Vec<String>,
    /// SentencePiece scores.
    pub scores: Vec<f32>,
    /// 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
    pub token_types: Vec<i32>,
    /// Begin of text.
    pub bos_id: Option<u32>,
    /// End of text.
    pub eos_id: Option<u32>,
    /// End of turn.
    pub eot_id: Option<u32>,
    /// The token for what the vocabulary cannot express.
    pub unknown_id: Option<u32>,
    /// Whether BOS is put in front; `None` leaves it to the model's default.
    pub add_bos: Option<bool>,
    /// Whether EOS is put at the end.
    pub add_eos: Option<bool>,
    /// Whether SentencePiece puts a space in front.
    pub add_space_prefix: Option<bool>,
    /// `tokenizer.chat_template`.
    pub chat_template: Option<String>,
}
