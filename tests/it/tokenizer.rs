//! Tokenizers against llama.cpp's own results.

use std::path::{Path, PathBuf};

use perfprof::engine::loader::tokenizer_source;
use perfprof::engine::tokenizer::{DecodeState, Tokenizer, TokenizerError, TokenizerSource};

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
