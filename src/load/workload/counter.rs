//! The local tokenizer as the workload sees it.

use std::path::Path;

use crate::engine::loader;
use crate::engine::tokenizer::{Tokenizer, TokenizerSource};

/// Counts tokens of texts, and turns them into ids and back.
///
/// Ids of control tokens that begin or end a sequence are not counted: a server adds them, and those of its chat format, itself.
pub trait Counter {
    /// Tokens of `text`; 0 if it cannot be encoded.
    fn count(&self, text: &str) -> usize {
        self.encode(text).len()
    }
    /// The ids of `text`; none if it cannot be encoded.
    fn encode(&self, text: &str) -> Vec<u32>;
    /// The text of `ids`.
    ///
    /// # Errors
    /// Which id is none, in words.
    fn decode(&self, ids: &[u32]) -> Result<String, String>;
    /// The highest id plus one.
    fn vocab_size(&self) -> u32;
    /// What it is, e.g. `tokenizer.json/BPE`.
    fn name(&self) -> String;
}

/// A [`Tokenizer`] of the engine.
#[derive(Debug)]
pub struct TokenizerCounter {
    tokenizer: Tokenizer,
}

impl TokenizerCounter {
    /// Wraps `tokenizer`.
    pub fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer }
    }

    /// Reads a `tokenizer.json`, a `.gguf`, or the directory of a model with either.
    ///
    /// # Errors
    /// Why it cannot be used, with the file.
    pub fn open(path: &Path) -> Result<Self, String> {
        let json = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
        let is_json = json.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
        let source = if is_json && json.is_file() {
            TokenizerSource::Json { path: json, tokenizer_config: None, eos_ids: Vec::new(), chat_template: None }
        } else {
            loader::tokenizer_source(path).map_err(|error| error.to_string())?
        };
        // No embedding limits the ids here.
        Tokenizer::from_source(&source, usize::MAX).map(Self::new).map_err(|error| error.to_string())
    }
}

impl Counter for TokenizerCounter {
    fn encode(&self, text: &str) -> Vec<u32> {
        self.tokenizer.encode(text, false).unwrap_or_default()
    }
    fn decode(&self, ids: &[u32]) -> Result<String, String> {
        self.tokenizer.decode(ids).map_err(|error| error.to_string())
    }
    fn vocab_size(&self) -> u32 {
        u32::try_from(self.tokenizer.vocab_size()).unwrap_or(u32::MAX)
    }
    fn name(&self) -> String {
        self.tokenizer.kind().to_owned()
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// One token for each byte.
    pub(crate) fn bytes() -> TokenizerCounter {
        TokenizerCounter::new(Tokenizer::from_source(&TokenizerSource::Bytes, 258).expect("258 rows hold every byte"))
    }

    /// A byte-level BPE whose merges make whole words of some texts and leave others in parts, so that counts are neither words nor bytes.
    pub(crate) fn bpe() -> TokenizerCounter {
        let mut vocabulary: Vec<String> = (b'a'..=b'z').map(|byte| char::from(byte).to_string()).collect();
        vocabulary.extend((b'A'..=b'Z').map(|byte| char::from(byte).to_string()));
        vocabulary.extend((b'0'..=b'9').map(|byte| char::from(byte).to_string()));
        vocabulary.extend(["Ġ", "Ċ", ".", ",", "'", "-", ";", ":", "!", "?"].map(str::to_owned));
        let mut merges = Vec::new();
        for (left, right) in [
            ("Ġ", "t"),
            ("h", "e"),
            ("Ġt", "he"),
            ("Ġ", "a"),
            ("i", "n"),
            ("o", "n"),
            ("e", "r"),
            ("Ġ", "s"),
            ("a", "t"),
            ("o", "r"),
            ("r", "e"),
            ("Ġ", "w"),
            ("Ġ", "c"),
            ("in", "g"),
            ("e", "n"),
            ("Ġ", "b"),
            ("e", "s"),
            ("Ġ", "p"),
            ("l", "e"),
            ("Ġ", "m"),
        ] {
            merges.push(format!("{left} {right}"));
            vocabulary.push(format!("{left}{right}"));
        }
        let vocabulary: serde_json::Map<String, serde_json::Value> =
            vocabulary.into_iter().enumerate().map(|(id, token)| (token, id.into())).collect();
        let byte_level = serde_json::json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
        let json = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
            "model": {
                "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": merges
            }
        });
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("tokenizer.json");
        std::fs::write(&path, json.to_string()).expect("it is writable");
        TokenizerCounter::open(&path).expect("it is a tokenizer")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_counts_its_own_tokens_and_nothing_around_them() {
        let bytes = testing::bytes();
        assert_eq!(bytes.count("naïve"), 6);
        assert_eq!(bytes.decode(&bytes.encode("naïve")).unwrap(), "naïve");
        let bpe = testing::bpe();
        // `the` is t + he, ` the` one token, ` thing` = Ġt h ing.
        assert_eq!((bpe.count("the"), bpe.count(" the"), bpe.count(" thing")), (2, 1, 3));
        assert_eq!(bpe.decode(&bpe.encode("the thing")).unwrap(), "the thing");
        assert_eq!(bpe.name(), "tokenizer.json/BPE");
        assert_eq!(bpe.vocab_size(), 26 + 26 + 10 + 10 + 20);
    }

    #[test]
    fn what_is_no_tokenizer_is_refused_with_its_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokenizer.json");
        std::fs::write(&path, "{}").unwrap();
        assert!(TokenizerCounter::open(&path).unwrap_err().contains("tokenizer.json"));
        assert!(TokenizerCounter::open(&directory.path().join("absent.gguf")).is_err());
    }
}
