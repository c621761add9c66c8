//! Tokenizers: Hugging Face `tokenizer.json`, GGUF metadata, and plain bytes for synthetic models.
//!
//! A tokenizer is built from a [`TokenizerSource`] that the loader hands over; this module opens no weights.

mod source;

pub use source::{GgufVocabulary, TokenizerSource};

/// Why a tokenizer could not be built or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The model came without one.
    #[error("no tokenizer found in `{}`", .0.display())]
    Missing(std::path::PathBuf),
    /// The vocabulary has ids that the embedding has no row for.
    #[error("the tokenizer has {vocabulary} tokens, but the model's embedding has only {embedding_rows} rows")]
    LargerThanEmbedding {
        /// The highest token id plus one.
        vocabulary: usize,
        /// Rows of the embedding.
        embedding_rows: usize,
    },
    /// The tokenizer is of a kind that cannot be reproduced exactly.
    #[error("tokenizer {what} is not supported")]
    Unsupported {
        /// Which kind, in the file's own words.
        what: String,
    },
    /// The tokenizer's data is inconsistent.
    #[error("tokenizer data is not usable: {0}")]
    Invalid(String),
    /// Text or ids could not be converted.
    #[error("cannot {action}: {reason}")]
    Conversion {
        /// `encode` or `decode`.
        action: &'static str,
        /// Why.
        reason: String,
    },
}

/// Turns text into token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    kind: String,
    eos_ids: Vec<u32>,
    bos_id: Option<u32>,
    vocab_size: usize,
}

/// What [`Tokenizer::decode_incremental`] keeps between tokens of one sequence.
#[derive(Debug, Clone, Default)]
pub struct DecodeState {
    ids: Vec<u32>,
    prefix: usize,
    read: usize,
}

impl Tokenizer {
    /// Builds the tokenizer of `source` for a model whose embedding has `embedding_rows` rows.
    pub fn from_source(source: &TokenizerSource, embedding_rows: usize) -> Result<Self, TokenizerError> {
        let _ = (source, embedding_rows);
        Err(TokenizerError::Unsupported { what: "loading".to_owned() })
    }
    /// The ids of `text`; special tokens written out in it are recognised. `add_special` adds BOS/EOS as the model wants them.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let _ = (text, add_special);
        Err(TokenizerError::Conversion { action: "encode", reason: "not written yet".to_owned() })
    }
    /// The text of `ids`, without control tokens.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let _ = ids;
        Err(TokenizerError::Conversion { action: "decode", reason: "not written yet".to_owned() })
    }
    /// Adds one token to a running sequence and returns the text that became certain with it; never half a character.
    pub fn decode_incremental(&self, state: &mut DecodeState, id: u32) -> Result<String, TokenizerError> {
        let _ = (&state.ids, state.prefix, state.read, id);
        Err(TokenizerError::Conversion { action: "decode", reason: "not written yet".to_owned() })
    }
    /// Ends a running sequence: the text that was still held back.
    pub fn decode_rest(&self, state: &mut DecodeState) -> Result<String, TokenizerError> {
        let _ = state;
        Err(TokenizerError::Conversion { action: "decode", reason: "not written yet".to_owned() })
    }
    /// The highest token id plus one.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }
    /// Tokens that end a generation.
    pub fn eos_ids(&self) -> &[u32] {
        &self.eos_ids
    }
    /// The token that begins a text, if the model has one.
    pub fn bos_id(&self) -> Option<u32> {
        self.bos_id
    }
    /// What it is, e.g. `gguf-bpe/smollm`, `tokenizer.json/BPE`, `bytes`.
    pub fn kind(&self) -> &str {
        &self.kind
    }
    /// A single user turn in the model's chat format with the assistant's turn opened; `None` if the format is not known.
    pub fn apply_chat_template_user(&self, text: &str) -> Option<String> {
        let _ = text;
        None
    }
    /// What a reader of the results should know.
    pub fn notes(&self) -> &[String] {
        &[]
    }
}
