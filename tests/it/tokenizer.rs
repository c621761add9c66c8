//! Tokenizers against llama.cpp's own results.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests are tests, too")]

use std::path::{Path, PathBuf};

use perfprof::engine::loader::tokenizer_source;
use perfprof::engine::tokenizer::{DecodeState, GgufVocabulary, Tokenizer, TokenizerError, TokenizerSource};
use serde_json::json;

/// Where real models lie: `PERFPROF_MODELS`, else `models/` of the repository.
pub(crate) fn models() -> PathBuf {
    std::env::var_os("PERFPROF_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("models"), PathBuf::from)
}

/// The SmolLM2 GGUF, or `None` with a message where it is not installed.
pub(crate) fn smollm2() -> Option<PathBuf> {
    let path = models().join("smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
    if path.is_file() {
        return Some(path);
    }
    eprintln!("skipped: `{}` is not there; set PERFPROF_MODELS or fetch the model", path.display());
    None
}

fn smollm2_tokenizer() -> Option<Tokenizer> {
    let source = tokenizer_source(&smollm2()?).unwrap();
    Some(Tokenizer::from_source(&source, 49_152).unwrap())
}

/// Texts with the ids that llama.cpp (llama-server's `/tokenize`, `parse_special` on, `add_special` off; build 11549 as packaged in the Python
/// package xllamacpp 2026.10.11549) gives for SmolLM2-135M-Instruct.
fn reference() -> Vec<(String, Vec<u32>)> {
    serde_json::from_str(include_str!("../data/tokenizer/smollm2.json")).unwrap()
}

#[test]
fn smollm2_gives_llama_cpps_ids() {
    let Some(tokenizer) = smollm2_tokenizer() else { return };
    assert_eq!(tokenizer.kind(), "gguf-bpe/smollm");
    let reference = reference();
    assert!(reference.len() >= 30);
    for (text, ids) in reference {
        assert_eq!(tokenizer.encode(&text, false).unwrap(), ids, "{text:?}");
    }
    // Known from elsewhere: no space is put in front, neither of a text nor after a special token.
    assert_eq!(tokenizer.encode("Hello", true).unwrap(), [19556]);
    assert_eq!(tokenizer.encode("<|im_start|>user", true).unwrap(), [1, 4093]);
}

#[test]
fn text_survives_the_way_there_and_back_and_streams_whole_characters() {
    let Some(tokenizer) = smollm2_tokenizer() else { return };
    for (text, ids) in reference() {
        if text.contains("<|") || text.contains("<repo_name>") {
            continue;
        }
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        let mut state = DecodeState::default();
        let mut streamed = String::new();
        for id in &ids {
            let part = tokenizer.decode_incremental(&mut state, *id).unwrap();
            assert!(!part.contains('\u{fffd}'), "{text:?}");
            streamed.push_str(&part);
        }
        streamed.push_str(&tokenizer.decode_rest(&mut state).unwrap());
        assert_eq!(streamed, text);
    }
}

#[test]
fn smollm2_knows_its_ends_and_its_chat_format() {
    let Some(tokenizer) = smollm2_tokenizer() else { return };
    assert!(tokenizer.eos_ids().contains(&2), "{:?}", tokenizer.eos_ids());
    assert_eq!((tokenizer.bos_id(), tokenizer.vocab_size()), (Some(1), 49_152));
    let turn = tokenizer.apply_chat_template_user("Hi").unwrap();
    assert_eq!(
        turn,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    );
    assert_eq!(tokenizer.decode(&[1, 4093, 2]).unwrap(), "user");
}

#[test]
fn a_vocabulary_larger_than_the_embedding_is_refused_with_both_numbers() {
    let Some(path) = smollm2() else { return };
    let source = tokenizer_source(&path).unwrap();
    let error = Tokenizer::from_source(&source, 49_151).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("49152") && text.contains("49151"), "{text}");
    assert!(error.hint().is_some());
    assert!(Tokenizer::from_source(&source, 60_000).is_ok(), "padding rows are fine");
}

/// llama.cpp's own test vocabularies (`models/ggml-vocab-*.gguf` with `.inp` and `.out`), where `PERFPROF_GGML_VOCABS` names their directory.
#[test]
fn ggml_vocabularies_give_their_reference_ids() {
    let Some(directory) = std::env::var_os("PERFPROF_GGML_VOCABS").map(PathBuf::from) else {
        eprintln!("skipped: PERFPROF_GGML_VOCABS is not set");
        return;
    };
    let mut wrong = Vec::new();
    for name in [
        "gpt-2",
        "llama-bpe",
        "llama-spm",
        "phi-3",
        "qwen2",
        "qwen35",
        "deepseek-coder",
        "falcon",
        "mpt",
        "refact",
        "starcoder",
        "command-r",
    ] {
        let file = directory.join(format!("ggml-vocab-{name}.gguf"));
        let tokenizer = Tokenizer::from_source(&tokenizer_source(&file).unwrap(), usize::MAX).unwrap();
        let read =
            |suffix: &str| std::fs::read_to_string(directory.join(format!("ggml-vocab-{name}.gguf.{suffix}"))).unwrap();
        let (texts, ids) = (read("inp"), read("out"));
        let texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
        assert_eq!(texts.len(), ids.lines().count(), "{name}");
        for (text, line) in texts.iter().zip(ids.lines()) {
            let expected: Vec<u32> = line.split_whitespace().map(|id| id.parse().unwrap()).collect();
            let found = tokenizer.encode(text, false).unwrap();
            if found != expected {
                wrong.push(format!("{name}: {text:?}\n  expected {expected:?}\n  found    {found:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_missing_tokenizer_is_named_with_a_hint() {
    let error = Tokenizer::from_source(&TokenizerSource::Missing("some/model".into()), 10).unwrap_err();
    assert!(matches!(error, TokenizerError::Missing(_)) && error.to_string().contains("some/model"));
    assert!(error.hint().unwrap().contains("tokenizer.json"));
}

/// The Hugging Face form of SmolLM2's tokenizer, made from the vocabulary of its GGUF: digits apart, GPT-2's splitting, no space in front.
fn write_smollm2_json(directory: &Path) -> Option<()> {
    let TokenizerSource::Gguf(vocabulary) = tokenizer_source(&smollm2()?).unwrap() else { panic!("no vocabulary") };
    let tokens = || vocabulary.tokens.iter().enumerate();
    let vocab: serde_json::Map<String, serde_json::Value> =
        tokens().map(|(id, text)| (text.clone(), id.into())).collect();
    let added: Vec<serde_json::Value> = tokens()
        .filter(|(id, _)| vocabulary.token_types[*id] == 3)
        .map(|(id, text)| {
            json!({ "id": id, "content": text, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true })
        })
        .collect();
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
        "added_tokens": added,
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [{ "type": "Digits", "individual_digits": true }, byte_level] },
        "decoder": byte_level,
        "model": { "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": vocabulary.merges }
    });
    std::fs::write(directory.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    let config = json!({
        "bos_token": "<|im_start|>", "eos_token": { "content": "<|im_end|>" }, "chat_template": vocabulary.chat_template
    });
    std::fs::write(directory.join("tokenizer_config.json"), config.to_string()).unwrap();
    std::fs::write(directory.join("generation_config.json"), json!({ "eos_token_id": [0, 2] }).to_string()).unwrap();
    std::fs::write(directory.join("config.json"), json!({ "model_type": "llama" }).to_string()).unwrap();
    std::fs::write(directory.join("model.safetensors"), "").unwrap();
    Some(())
}

#[test]
fn tokenizer_json_gives_the_same_ids_and_streams_whole_characters() {
    let directory = tempfile::TempDir::new().unwrap();
    if write_smollm2_json(directory.path()).is_none() {
        return;
    }
    let source = tokenizer_source(directory.path()).unwrap();
    let tokenizer = Tokenizer::from_source(&source, 49_152).unwrap();
    assert_eq!((tokenizer.kind(), tokenizer.vocab_size()), ("tokenizer.json/BPE", 49_152));
    assert_eq!((tokenizer.bos_id(), tokenizer.eos_ids()), (Some(1), [0, 2].as_slice()));
    assert!(tokenizer.apply_chat_template_user("Hi").unwrap().ends_with("<|im_start|>assistant\n"));
    for (text, ids) in reference() {
        assert_eq!(tokenizer.encode(&text, false).unwrap(), ids, "{text:?}");
        if text.contains("<|") || text.contains("<repo_name>") {
            continue;
        }
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
        let mut state = DecodeState::default();
        let mut streamed = String::new();
        for id in &ids {
            let part = tokenizer.decode_incremental(&mut state, *id).unwrap();
            assert!(!part.contains('\u{fffd}'), "{text:?}");
            streamed.push_str(&part);
        }
        streamed.push_str(&tokenizer.decode_rest(&mut state).unwrap());
        assert_eq!(streamed, text);
    }
    let error = Tokenizer::from_source(&source, 49_000).unwrap_err();
    assert!(matches!(error, TokenizerError::LargerThanEmbedding { vocabulary: 49_152, embedding_rows: 49_000 }));
}

#[test]
fn a_broken_tokenizer_json_is_named() {
    let directory = tempfile::TempDir::new().unwrap();
    let path = directory.path().join("tokenizer.json");
    std::fs::write(&path, "{ \"version\": ").unwrap();
    let source = TokenizerSource::Json { path, tokenizer_config: None, eos_ids: Vec::new(), chat_template: None };
    let text = Tokenizer::from_source(&source, 10).unwrap_err().to_string();
    assert!(text.contains("tokenizer.json") && text.contains("line 1"), "{text}");
}

#[test]
fn what_cannot_be_reproduced_exactly_is_refused_by_name() {
    let base = GgufVocabulary { model: "gpt2".to_owned(), tokens: vec!["a".to_owned()], ..Default::default() };
    let say = |vocabulary: GgufVocabulary| {
        Tokenizer::from_source(&TokenizerSource::Gguf(Box::new(vocabulary)), 10).unwrap_err().to_string()
    };
    assert!(say(GgufVocabulary { pre: Some("klingon".to_owned()), ..base.clone() }).contains("`klingon`"));
    assert!(say(GgufVocabulary { model: "rwkv".to_owned(), ..base.clone() }).contains("`rwkv`"));
    assert!(say(GgufVocabulary { model: "llama".to_owned(), ..base.clone() }).contains("0 scores for 1"));
    assert!(say(GgufVocabulary { merges: vec!["ab".to_owned()], ..base.clone() }).contains("merge `ab`"));
    assert!(say(GgufVocabulary { add_bos: Some(true), ..base }).contains("no bos token"));
}

/// A SentencePiece vocabulary small enough to merge by hand.
#[test]
fn sentencepiece_merges_best_first_and_falls_back_to_bytes() {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    tokens.extend((0..=255_u8).map(|byte| format!("<0x{byte:02X}>")));
    let pieces = [("▁", -10.0), ("a", -11.0), ("b", -12.0), ("ab", -1.0), ("▁a", -2.0), ("▁ab", -3.0), ("ba", -0.5)];
    tokens.extend(pieces.iter().map(|(text, _)| (*text).to_owned()));
    let types =
        tokens.iter().enumerate().map(|(id, _)| [2, 3, 3].get(id).copied().unwrap_or(if id < 259 { 6 } else { 1 }));
    let scores = vec![0.0; 259].into_iter().chain(pieces.iter().map(|(_, score)| *score)).collect();
    let vocabulary = GgufVocabulary {
        model: "llama".to_owned(),
        token_types: types.collect(),
        tokens,
        scores,
        bos_id: Some(1),
        eos_id: Some(2),
        ..Default::default()
    };
    let tokenizer = Tokenizer::from_source(&TokenizerSource::Gguf(Box::new(vocabulary)), 266).unwrap();
    // `▁ab`: `ab` (−1) is better than `▁a` (−2), then `▁ab` joins both.
    assert_eq!(tokenizer.encode("ab", true).unwrap(), [1, 264]);
    // `▁aba`: `ba` (−0.5) wins over both, leaving `▁a`.
    assert_eq!(tokenizer.encode("aba", false).unwrap(), [263, 265]);
    // No token for `é`: its two bytes.
    assert_eq!(tokenizer.encode("é", false).unwrap(), [259, 3 + 0xc3, 3 + 0xa9]);
    // After a written-out special token the space is put in front again.
    assert_eq!(tokenizer.encode("a</s>a", false).unwrap(), [263, 2, 263]);
    assert_eq!(tokenizer.decode(&[1, 264, 3 + 0xc3, 3 + 0xa9]).unwrap(), "abé");
    assert_eq!(tokenizer.eos_ids(), [2]);
}
