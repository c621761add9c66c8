//! Tokenizers: Hugging Face `tokenizer.json`, GGUF metadata, and plain bytes for synthetic models.
//!
//! A tokenizer is built from a [`TokenizerSource`] that the loader hands over; this module opens no weights.

mod chat;
mod gguf;
mod pieces;
mod pretokenizer;
mod source;

use std::path::Path;

use chat::ChatFormat;
use gguf::GgufTokenizer;
use pieces::{Pieces, incomplete_tail};
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

impl TokenizerError {
    /// What the user can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Missing(_) => {
                "put the model's `tokenizer.json` beside its weights, or give token counts instead of texts"
            }
            Self::LargerThanEmbedding { .. } => {
                "`tokenizer.json` and the weights must be of the same model; fetch both from one revision"
            }
            Self::Unsupported { .. } => {
                "give token counts instead of texts, or use the model's safetensors release with `tokenizer.json`"
            }
            _ => return None,
        })
    }
}

/// Turns text into token ids and back.
#[derive(Debug)]
pub struct Tokenizer {
    backend: Backend,
    kind: String,
    eos_ids: Vec<u32>,
    bos_id: Option<u32>,
    vocab_size: usize,
    chat: Option<ChatFormat>,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Backend {
    Json(Box<tokenizers::Tokenizer>),
    Gguf(Box<GgufTokenizer>),
    Bytes { pieces: Pieces, rows: u32 },
}

/// What [`Tokenizer::decode_incremental`] keeps between tokens of one sequence.
#[derive(Debug, Clone, Default)]
pub struct DecodeState {
    /// Bytes of a character that is not complete yet.
    held: Vec<u8>,
    /// Recent ids, for tokenizers whose decoding depends on neighbours.
    ids: Vec<u32>,
    /// How many of `ids` were only context when text was last given out.
    context: usize,
}

impl Tokenizer {
    /// Builds the tokenizer of `source` for a model whose embedding has `embedding_rows` rows.
    pub fn from_source(source: &TokenizerSource, embedding_rows: usize) -> Result<Self, TokenizerError> {
        let tokenizer = match source {
            TokenizerSource::Missing(path) => return Err(TokenizerError::Missing(path.clone())),
            TokenizerSource::Bytes => return Self::bytes(embedding_rows),
            TokenizerSource::Json { path, tokenizer_config, eos_ids, chat_template } => {
                Self::from_json(path, tokenizer_config.as_ref(), eos_ids, chat_template.as_deref())?
            }
            TokenizerSource::Gguf(vocabulary) => {
                let inner = GgufTokenizer::new(vocabulary)?;
                Self {
                    kind: inner.kind.clone(),
                    eos_ids: inner.eos_ids.clone(),
                    bos_id: vocabulary.bos_id,
                    vocab_size: vocabulary.tokens.len(),
                    chat: vocabulary.chat_template.as_deref().and_then(ChatFormat::recognise),
                    notes: Vec::new(),
                    backend: Backend::Gguf(Box::new(inner)),
                }
            }
        };
        if tokenizer.vocab_size > embedding_rows {
            return Err(TokenizerError::LargerThanEmbedding { vocabulary: tokenizer.vocab_size, embedding_rows });
        }
        Ok(tokenizer)
    }

    fn from_json(
        path: &Path,
        config: Option<&serde_json::Value>,
        eos_ids: &[u32],
        chat_template: Option<&str>,
    ) -> Result<Self, TokenizerError> {
        let inner = tokenizers::Tokenizer::from_file(path)
            .map_err(|error| TokenizerError::Invalid(format!("`{}`: {error}", path.display())))?;
        // `tokenizer_config.json` gives a special token as text or as an object with its text in `content`.
        let named = |key: &str| -> Option<u32> {
            let token = &config?[key];
            inner.token_to_id(token.as_str().or_else(|| token["content"].as_str())?)
        };
        let mut eos_ids = eos_ids.to_vec();
        if let Some(id) = named("eos_token")
            && !eos_ids.contains(&id)
        {
            eos_ids.push(id);
        }
        // Vocabularies have holes, so the count of tokens says less than the highest id.
        let vocab_size = inner.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let model = match inner.get_model() {
            tokenizers::ModelWrapper::BPE(_) => "BPE",
            tokenizers::ModelWrapper::WordPiece(_) => "WordPiece",
            tokenizers::ModelWrapper::WordLevel(_) => "WordLevel",
            tokenizers::ModelWrapper::Unigram(_) => "Unigram",
        };
        Ok(Self {
            kind: format!("tokenizer.json/{model}"),
            bos_id: named("bos_token"),
            eos_ids,
            vocab_size,
            chat: chat_template.and_then(ChatFormat::recognise),
            notes: Vec::new(),
            backend: Backend::Json(Box::new(inner)),
        })
    }

    /// Ids 0–255 are bytes, 256 is BOS, 257 is EOS; what a random model says beyond that is shown as printable ASCII.
    fn bytes(embedding_rows: usize) -> Result<Self, TokenizerError> {
        const BOS: u32 = 256;
        const EOS: u32 = 257;
        let rows = u32::try_from(embedding_rows).ok().filter(|rows| *rows > 0).ok_or_else(|| {
            TokenizerError::Invalid(format!("an embedding of {embedding_rows} rows has no token for a byte"))
        })?;
        let piece = |id: u32| -> Box<[u8]> {
            match id {
                0..=255 => Box::from([id as u8]),
                BOS | EOS => Box::default(),
                _ => Box::from([b' ' + (id % 95) as u8]),
            }
        };
        let mut notes = Vec::new();
        if rows <= EOS {
            notes.push(format!("the vocabulary of {rows} is too small for every byte: bytes are taken modulo {rows}"));
        }
        Ok(Self {
            backend: Backend::Bytes { pieces: Pieces((0..rows).map(piece).collect()), rows },
            kind: "bytes".to_owned(),
            eos_ids: (rows > EOS).then_some(EOS).into_iter().collect(),
            bos_id: (rows > EOS).then_some(BOS),
            vocab_size: embedding_rows,
            chat: None,
            notes,
        })
    }

    /// The ids of `text`; special tokens written out in it are recognised. `add_special` adds BOS/EOS as the model wants them.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        match &self.backend {
            Backend::Json(inner) => inner
                .encode_fast(text, add_special)
                .map(|encoding| encoding.get_ids().to_vec())
                .map_err(|error| TokenizerError::Conversion { action: "encode", reason: error.to_string() }),
            Backend::Gguf(inner) => inner.encode(text, add_special),
            Backend::Bytes { rows, .. } => {
                let front = self.bos_id.filter(|_| add_special);
                Ok(front.into_iter().chain(text.bytes().map(|byte| u32::from(byte) % rows)).collect())
            }
        }
    }

    /// The text of `ids`, without control tokens. SentencePiece models lose the space that encoding puts in front of a text.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        let (pieces, strips) = match &self.backend {
            Backend::Json(inner) => return decode_json(inner, ids),
            Backend::Gguf(inner) => (&inner.pieces, inner.strips_leading_space),
            Backend::Bytes { pieces, .. } => (pieces, false),
        };
        let mut bytes = Vec::new();
        for id in ids {
            bytes.extend_from_slice(pieces.get(*id)?);
        }
        let bytes = if strips { bytes.strip_prefix(b" ").unwrap_or(&bytes) } else { &bytes };
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Adds one token to a running sequence and returns the text that became certain with it; never half a character.
    pub fn decode_incremental(&self, state: &mut DecodeState, id: u32) -> Result<String, TokenizerError> {
        let pieces = match &self.backend {
            Backend::Json(inner) => return next_of_json(inner, state, id),
            Backend::Gguf(inner) => &inner.pieces,
            Backend::Bytes { pieces, .. } => pieces,
        };
        state.held.extend_from_slice(pieces.get(id)?);
        let certain = state.held.len() - incomplete_tail(&state.held);
        let text = String::from_utf8_lossy(&state.held[..certain]).into_owned();
        state.held.drain(..certain);
        Ok(text)
    }

    /// Ends a running sequence: the text that was still held back, with U+FFFD for a character that never became whole.
    pub fn decode_rest(&self, state: &mut DecodeState) -> Result<String, TokenizerError> {
        let DecodeState { held, ids, context } = std::mem::take(state);
        match &self.backend {
            Backend::Json(inner) => {
                let before = decode_json(inner, &ids[..context])?;
                let all = decode_json(inner, &ids)?;
                Ok(all.strip_prefix(before.as_str()).unwrap_or_default().to_owned())
            }
            _ => Ok(String::from_utf8_lossy(&held).into_owned()),
        }
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
    /// A single user turn in the model's chat format with the assistant's turn opened, for [`Self::encode`] with `add_special`; `None` if
    /// the format is not known.
    pub fn apply_chat_template_user(&self, text: &str) -> Option<String> {
        self.chat.as_ref().map(|chat| chat.user_turn(text))
    }
    /// What a reader of the results should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

fn decode_json(inner: &tokenizers::Tokenizer, ids: &[u32]) -> Result<String, TokenizerError> {
    inner.decode(ids, true).map_err(|error| TokenizerError::Conversion { action: "decode", reason: error.to_string() })
}

/// Decodes with and without the new token and returns the difference, as soon as that does not end inside a character.
///
/// Decoders may treat the first token of a sequence specially (SentencePiece drops its space), so the tokens given out last stay as context.
fn next_of_json(inner: &tokenizers::Tokenizer, state: &mut DecodeState, id: u32) -> Result<String, TokenizerError> {
    let before = decode_json(inner, &state.ids[..state.context])?;
    state.ids.push(id);
    let all = decode_json(inner, &state.ids)?;
    if all.ends_with(char::REPLACEMENT_CHARACTER) || all.len() <= before.len() {
        return Ok(String::new());
    }
    let text = all.strip_prefix(before.as_str()).unwrap_or(&all).to_owned();
    state.ids.drain(..state.context);
    state.context = state.ids.len();
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_through_text_and_stream() {
        let tokenizer = Tokenizer::from_source(&TokenizerSource::Bytes, 32_000).unwrap();
        let text = "naïve 日本 😀";
        let ids = tokenizer.encode(text, false).unwrap();
        assert_eq!(ids.len(), text.len());
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        let mut state = DecodeState::default();
        let parts: Vec<String> = ids.iter().map(|id| tokenizer.decode_incremental(&mut state, *id).unwrap()).collect();
        assert_eq!(parts.concat(), text);
        assert!(parts.iter().all(|part| !part.contains('\u{fffd}')));
        assert_eq!(tokenizer.encode("a", true).unwrap(), [256, 97]);
        assert_eq!(tokenizer.decode(&[31_999]).unwrap().len(), 1);
        assert!(tokenizer.decode(&[32_000]).is_err());
    }

    #[test]
    fn a_cut_character_is_shown_when_the_stream_ends() {
        let tokenizer = Tokenizer::from_source(&TokenizerSource::Bytes, 258).unwrap();
        let mut state = DecodeState::default();
        assert_eq!(tokenizer.decode_incremental(&mut state, 0xe6).unwrap(), "");
        assert_eq!(tokenizer.decode_rest(&mut state).unwrap(), "\u{fffd}");
        assert_eq!(tokenizer.decode_rest(&mut state).unwrap(), "");
    }

    #[test]
    fn small_vocabularies_take_bytes_modulo_and_say_so() {
        let tokenizer = Tokenizer::from_source(&TokenizerSource::Bytes, 100).unwrap();
        assert_eq!(tokenizer.encode("~", true).unwrap(), [26]);
        assert!(tokenizer.notes()[0].contains("modulo 100"));
        assert!(tokenizer.eos_ids().is_empty());
        assert!(Tokenizer::from_source(&TokenizerSource::Bytes, 0).is_err());
    }
}
