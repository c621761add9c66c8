//! Tokenizers from GGUF metadata: byte-level BPE and SentencePiece, with llama.cpp's results.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rustc_hash::FxHashMap;
use tokenizers::SplitDelimiterBehavior;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};

use super::pieces::{Fragment, Pieces, Specials, byte_of_char};
use super::{GgufVocabulary, TokenizerError, pretokenizer};

const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// SentencePiece writes spaces as U+2581.
const SPACE_MARK: char = '\u{2581}';

/// Texts of control tokens that end a generation whatever the metadata says (llama.cpp's end-of-generation list).
const END_TEXTS: [&str; 12] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|eom_id|>",
    "<EOT>",
    "<|end_of_text|>",
    "<｜end▁of▁sentence｜>",
    "<end_of_utterance>",
];

/// A tokenizer built from GGUF metadata.
#[derive(Debug)]
pub(super) struct GgufTokenizer {
    model: Model,
    specials: Specials,
    pub(super) pieces: Pieces,
    /// BOS to put in front and EOS to put at the end, where the model wants them.
    front: Option<u32>,
    back: Option<u32>,
    pub(super) kind: String,
    pub(super) eos_ids: Vec<u32>,
    /// Whether decoding drops the space that encoding puts in front.
    pub(super) strips_leading_space: bool,
}

#[derive(Debug)]
enum Model {
    Bpe(Box<tokenizers::Tokenizer>),
    SentencePiece(SentencePiece),
}

impl GgufTokenizer {
    pub(super) fn new(vocabulary: &GgufVocabulary) -> Result<Self, TokenizerError> {
        let kinds = |id: usize| vocabulary.token_types.get(id).copied().unwrap_or(1);
        let specials = vocabulary
            .tokens
            .iter()
            .enumerate()
            .filter(|(id, _)| matches!(kinds(*id), UNKNOWN | CONTROL | USER_DEFINED))
            .map(|(id, text)| (text.clone(), id as u32))
            .collect();
        let (model, kind, add_bos, add_eos, strips_leading_space, pieces) = match vocabulary.model.as_str() {
            "gpt2" => {
                let pre = vocabulary.pre.as_deref().unwrap_or("default");
                let scheme = pretokenizer::scheme(pre)
                    .ok_or_else(|| TokenizerError::Unsupported { what: format!("pre-tokenizer `{pre}` of GGUF") })?;
                let model = Model::Bpe(Box::new(byte_level_bpe(vocabulary, scheme)?));
                (model, format!("gguf-bpe/{pre}"), scheme.add_bos, false, false, bpe_pieces(vocabulary))
            }
            "llama" => {
                let space = vocabulary.add_space_prefix.unwrap_or(true);
                let model = Model::SentencePiece(SentencePiece::new(vocabulary, space)?);
                (model, "gguf-sentencepiece".to_owned(), true, false, space, sentence_pieces(vocabulary)?)
            }
            other => return Err(TokenizerError::Unsupported { what: format!("model `{other}` of GGUF") }),
        };
        let wanted = |flag: bool, id: Option<u32>, name: &str| match (flag, id) {
            (true, None) => {
                Err(TokenizerError::Invalid(format!("`add_{name}_token` is set, but there is no {name} token")))
            }
            (true, id) => Ok(id),
            (false, _) => Ok(None),
        };
        let front = wanted(vocabulary.add_bos.unwrap_or(add_bos), vocabulary.bos_id, "bos")?;
        let back = wanted(vocabulary.add_eos.unwrap_or(add_eos), vocabulary.eos_id, "eos")?;

        let mut eos_ids: Vec<u32> = vocabulary.eos_id.into_iter().chain(vocabulary.eot_id).collect();
        for (id, text) in vocabulary.tokens.iter().enumerate() {
            let special = matches!(kinds(id), CONTROL | USER_DEFINED);
            if special && END_TEXTS.contains(&text.as_str()) && !eos_ids.contains(&(id as u32)) {
                eos_ids.push(id as u32);
            }
        }
        eos_ids.dedup();
        Ok(Self { model, specials: Specials::new(specials), pieces, front, back, kind, eos_ids, strips_leading_space })
    }

    pub(super) fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        let mut ids = Vec::new();
        if add_special {
            ids.extend(self.front);
        }
        let mut after_special = true;
        for fragment in self.specials.partition(text) {
            match fragment {
                Fragment::Token(id) => {
                    ids.push(id);
                    after_special = true;
                }
                Fragment::Text(text) => {
                    match &self.model {
                        Model::Bpe(bpe) => {
                            let encoding = bpe.encode_fast(text, false).map_err(|error| {
                                TokenizerError::Conversion { action: "encode", reason: error.to_string() }
                            })?;
                            ids.extend_from_slice(encoding.get_ids());
                        }
                        Model::SentencePiece(model) => model.encode(text, after_special, &mut ids)?,
                    }
                    after_special = false;
                }
            }
        }
        if add_special {
            ids.extend(self.back);
        }
        Ok(ids)
    }
}

fn byte_level_bpe(
    vocabulary: &GgufVocabulary,
    scheme: pretokenizer::Scheme,
) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let invalid = |error: tokenizers::Error| TokenizerError::Invalid(error.to_string());
    let vocab: tokenizers::models::bpe::Vocab =
        vocabulary.tokens.iter().enumerate().map(|(id, text)| (text.clone(), id as u32)).collect();
    let mut merges = Vec::with_capacity(vocabulary.merges.len());
    for merge in &vocabulary.merges {
        // The separator is the first space after the first character: that character may itself be a space in odd vocabularies.
        let separator = merge.char_indices().skip(1).find(|(_, character)| *character == ' ').map(|(at, _)| at);
        let at = separator.ok_or_else(|| TokenizerError::Invalid(format!("merge `{merge}` is not of two parts")))?;
        merges.push((merge[..at].to_owned(), merge[at + 1..].to_owned()));
    }
    let bpe =
        BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(scheme.ignore_merges).build().map_err(invalid)?;
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    for pattern in scheme.patterns {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        steps.push(Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(invalid)?.into());
    }
    // No space in front, no pattern of its own: the steps above have split the text.
    steps.push(ByteLevel::new(false, false, false).into());
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    Ok(tokenizer)
}

fn bpe_pieces(vocabulary: &GgufVocabulary) -> Pieces {
    let bytes = byte_of_char();
    let piece = |(id, text): (usize, &String)| -> Box<[u8]> {
        match vocabulary.token_types.get(id) {
            Some(&CONTROL | &UNKNOWN) => Box::default(),
            Some(&USER_DEFINED) => text.as_bytes().into(),
            _ => {
                let decoded: Option<Vec<u8>> = text.chars().map(|character| bytes.get(&character).copied()).collect();
                decoded.map_or_else(|| text.as_bytes().into(), Vec::into_boxed_slice)
            }
        }
    };
    Pieces(vocabulary.tokens.iter().enumerate().map(piece).collect())
}

fn sentence_pieces(vocabulary: &GgufVocabulary) -> Result<Pieces, TokenizerError> {
    let piece = |(id, text): (usize, &String)| -> Result<Box<[u8]>, TokenizerError> {
        match vocabulary.token_types.get(id) {
            Some(&CONTROL | &UNKNOWN) => Ok(Box::default()),
            Some(&BYTE) => byte_of_token(text).map(|byte| Box::from([byte])).ok_or_else(|| {
                TokenizerError::Invalid(format!(
                    "token {id} `{text}` is marked as a byte, but is not of the form `<0x0A>`"
                ))
            }),
            _ => Ok(text.replace(SPACE_MARK, " ").into_bytes().into_boxed_slice()),
        }
    };
    vocabulary.tokens.iter().enumerate().map(piece).collect::<Result<_, _>>().map(Pieces)
}

/// The byte of a token like `<0x0A>`.
fn byte_of_token(text: &str) -> Option<u8> {
    u8::from_str_radix(text.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

/// SentencePiece's BPE: always merge the neighbours whose union has the best score, leftmost first.
#[derive(Debug)]
struct SentencePiece {
    ids: FxHashMap<String, u32>,
    scores: Vec<f32>,
    bytes: Vec<Option<u32>>,
    add_space: bool,
}

/// Two neighbouring symbols whose union is a token.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    length: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}
impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Pair {}

/// A run of characters that is one token so far; `length` 0 once it has been merged into its left neighbour.
struct Symbol {
    start: usize,
    length: usize,
    previous: Option<usize>,
    next: Option<usize>,
}

impl SentencePiece {
    fn new(vocabulary: &GgufVocabulary, add_space: bool) -> Result<Self, TokenizerError> {
        if vocabulary.scores.len() != vocabulary.tokens.len() {
            return Err(TokenizerError::Invalid(format!(
                "{} scores for {} SentencePiece tokens",
                vocabulary.scores.len(),
                vocabulary.tokens.len()
            )));
        }
        let ids: FxHashMap<String, u32> =
            vocabulary.tokens.iter().enumerate().map(|(id, text)| (text.clone(), id as u32)).collect();
        let bytes = (0..=u8::MAX).map(|byte| ids.get(&format!("<0x{byte:02X}>")).copied()).collect();
        Ok(Self { ids, scores: vocabulary.scores.clone(), bytes, add_space })
    }

    fn encode(&self, text: &str, after_special: bool, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let mut escaped = text.replace(' ', "\u{2581}");
        if self.add_space && after_special {
            escaped.insert(0, SPACE_MARK);
        }
        let text = escaped.as_str();
        let mut symbols: Vec<Symbol> = text
            .char_indices()
            .enumerate()
            .map(|(index, (start, character))| Symbol {
                start,
                length: character.len_utf8(),
                previous: index.checked_sub(1),
                next: Some(index + 1),
            })
            .collect();
        if let Some(last) = symbols.last_mut() {
            last.next = None;
        }
        let mut queue = BinaryHeap::new();
        let consider = |symbols: &[Symbol], queue: &mut BinaryHeap<Pair>, left: Option<usize>, right: Option<usize>| {
            let (Some(left), Some(right)) = (left, right) else { return };
            let length = symbols[left].length + symbols[right].length;
            let start = symbols[left].start;
            if let Some(id) = self.ids.get(&text[start..start + length]) {
                queue.push(Pair { score: self.scores[*id as usize], left, right, length });
            }
        };
        for right in 1..symbols.len() {
            consider(&symbols, &mut queue, Some(right - 1), Some(right));
        }
        while let Some(Pair { left, right, length, .. }) = queue.pop() {
            // A pair is stale once either side was merged elsewhere: then its length is no longer the sum.
            let stale = symbols[left].length == 0
                || symbols[right].length == 0
                || symbols[left].length + symbols[right].length != length;
            if stale {
                continue;
            }
            symbols[left].length = length;
            symbols[right].length = 0;
            let next = symbols[right].next;
            symbols[left].next = next;
            if let Some(next) = next {
                symbols[next].previous = Some(left);
            }
            let previous = symbols[left].previous;
            consider(&symbols, &mut queue, previous, Some(left));
            consider(&symbols, &mut queue, Some(left), next);
        }
        let mut current = (!symbols.is_empty()).then_some(0);
        while let Some(index) = current {
            let symbol = &symbols[index];
            let piece = &text[symbol.start..symbol.start + symbol.length];
            if let Some(id) = self.ids.get(piece) {
                out.push(*id);
            } else {
                for byte in piece.bytes() {
                    out.push(self.bytes[usize::from(byte)].ok_or_else(|| TokenizerError::Conversion {
                        action: "encode",
                        reason: format!("the vocabulary has no token for `{piece}`"),
                    })?);
                }
            }
            current = symbol.next;
        }
        Ok(())
    }
}
