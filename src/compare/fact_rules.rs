//! What each fact is worth when two subjects are compared, and which facts a study changes by changing a key.

use super::import::load::{ARRIVAL, SERVICE_LEVEL, TOKEN_SOURCE};
use super::result::DifferenceKind;
use super::subject::fact;

/// How a fact is judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct FactRule {
    /// Kind of a difference.
    pub kind: DifferenceKind,
    /// Kind where one side only is known.
    pub one_unknown: DifferenceKind,
    /// Whether it is worth a note that neither side is known.
    pub important: bool,
    /// What a difference means, as a clause after a colon.
    pub meaning: &'static str,
}

/// Facts of readers that have no constant in [`fact`].
const BUILD_PROFILE: &str = "build_profile";
const WEIGHTS_SOURCE: &str = "weights_source";
const WEIGHTS_BYTES: &str = "weights_bytes";
const REQUEST_RATE: &str = "request_rate";

const HARDWARE: [&str; 9] = [
    fact::DEVICE,
    fact::CPU,
    fact::GPU,
    fact::DRIVER,
    fact::CUDA,
    fact::CLOCK_MHZ,
    fact::GOVERNOR,
    fact::HOST,
    fact::KERNEL,
];

/// The rule for the fact `name` (without the prefix of a case).
pub(super) fn rule(name: &str) -> FactRule {
    use DifferenceKind::{Flag, NotTheSameWork, Note};
    let of = |kind, one_unknown, important, meaning| FactRule { kind, one_unknown, important, meaning };
    match name {
        fact::MODEL => of(NotTheSameWork, Flag, true, "another model is other work"),
        fact::PROMPT_TOKENS => of(NotTheSameWork, Flag, true, "prompts of another length are other work"),
        fact::NEW_TOKENS => of(NotTheSameWork, Flag, true, "another number of generated tokens is other work"),
        fact::PROMPTS_SHA256 => of(NotTheSameWork, Flag, false, "other prompts may be other work"),
        fact::BATCH => of(NotTheSameWork, Flag, false, "another number of sequences side by side is other work"),
        fact::CONCURRENCY => of(NotTheSameWork, Flag, false, "another number of requests in flight is another load"),
        REQUEST_RATE => of(NotTheSameWork, Note, false, "another rate of requests is another load"),
        ARRIVAL => of(NotTheSameWork, Note, false, "requests that are sent by another rule are another load"),
        TOKEN_SOURCE => of(Flag, Note, false, "tokens are counted by another, and every measure of a token with them"),
        SERVICE_LEVEL => of(Flag, Flag, false, "goodput is counted by other limits"),
        fact::OUTPUT_SHA256 => of(
            Flag,
            Note,
            false,
            "greedy decoding chose other tokens, so the two do not compute the same numbers: other weights, rounding, or a fault in one of them",
        ),
        fact::DTYPE => of(Flag, Flag, true, "weights of another format are read and multiplied at another speed"),
        fact::COMPUTE_DTYPE => {
            of(Flag, Flag, false, "another format of the activations has another speed and another error")
        }
        fact::KV_DTYPE => of(Flag, Flag, false, "another format of the KV cache changes what decoding reads"),
        fact::WEIGHTS_SHA256 => of(Flag, Flag, false, "the weights are not the same file"),
        fact::THREADS => of(Flag, Flag, false, "the processor was not used by as many threads"),
        fact::DEVICE | fact::CPU | fact::GPU => of(Flag, Flag, true, "the hardware is not the same"),
        fact::DRIVER => of(Flag, Flag, false, "another driver may launch and schedule otherwise"),
        fact::CUDA => of(Flag, Flag, false, "another CUDA version may bring other kernels"),
        fact::CLOCK_MHZ => of(Flag, Flag, false, "the clocks differ by more than 2 %, and times go with them"),
        fact::GOVERNOR => of(Flag, Flag, false, "another governor sets other clocks"),
        fact::HOST => of(Flag, Flag, false, "it was not the same machine"),
        fact::KERNEL => of(Flag, Flag, false, "another kernel of the system may schedule otherwise"),
        fact::TOOL => of(Flag, Flag, false, "another tool or version may measure otherwise"),
        fact::MODE => of(Flag, Flag, false, "the times were found in another way"),
        BUILD_PROFILE => of(Flag, Flag, false, "a build without optimisation is another engine"),
        fact::OPS => of(Note, Note, false, "the operators are implemented otherwise"),
        fact::BACKEND => of(Note, Note, false, "another engine or server did the work"),
        fact::SEED => of(Note, Note, false, "other random numbers were drawn"),
        _ => of(Note, Note, false, "whether that matters is not known"),
    }
}

/// Facts that change with the amount of work; a study may vary them, but then only measures per token name a winner.
pub(super) fn is_work(name: &str) -> bool {
    rule(name).kind == DifferenceKind::NotTheSameWork && name != fact::MODEL
}

/// Facts of a GPU, which no run on a processor tells.
pub(super) fn is_of_a_gpu(name: &str) -> bool {
    matches!(name, fact::GPU | fact::DRIVER | fact::CUDA | fact::CLOCK_MHZ)
}

/// Whether a study that varies `key` makes the fact `name` differ on purpose.
///
/// `key` is a key of the configuration (`model.dtype`) or the name of a fact. A key stands for the fact of the same name or of the same
/// last part (`infer.batch` for `batch`), for everything below it (`engine` for `engine.threads`), and for what follows from it:
/// other weights have another hash and may give other tokens.
pub(super) fn studies(key: &str, name: &str) -> bool {
    let last = |dotted: &str| dotted.rsplit('.').next().unwrap_or_default().to_owned();
    let below = name.strip_prefix(key).is_some_and(|rest| rest.starts_with('.'));
    if key == name || below || last(key) == last(name) {
        return true;
    }
    let formats =
        [fact::DTYPE, fact::COMPUTE_DTYPE, fact::WEIGHTS_SHA256, WEIGHTS_SOURCE, WEIGHTS_BYTES, fact::OUTPUT_SHA256];
    let prompts = [fact::PROMPTS_SHA256, fact::OUTPUT_SHA256];
    let last_of_key = last(key);
    let of_model = matches!(key, "model" | "model.path" | "model.hf_id" | "model.name" | "model.architecture");
    #[expect(clippy::match_same_arms, reason = "one line for each key")]
    let follows: &[&[&str]] = match last_of_key.as_str() {
        _ if of_model => &[&[fact::MODEL, fact::KV_DTYPE], &formats],
        "dtype" | "dtype_default" | "quantization" | "quant" => &[&formats],
        "kv_dtype" | "temperature" | "top_k" | "top_p" => &[&[fact::OUTPUT_SHA256]],
        "ops" => &[&[fact::COMPUTE_DTYPE]],
        "engine" => &[&[fact::KV_DTYPE, fact::COMPUTE_DTYPE]],
        "batch" => &[&prompts],
        "prompt" | "prompt_tokens" | "chat_template" => &[&[fact::PROMPT_TOKENS], &prompts],
        "max_new_tokens" | "new_tokens" => &[&[fact::NEW_TOKENS, fact::OUTPUT_SHA256]],
        "cases" => &[&[fact::PROMPT_TOKENS, fact::NEW_TOKENS, fact::BATCH], &prompts],
        "dataset" | "subset" | "limit" => &[&[fact::PROMPT_TOKENS], &prompts],
        "rate" => &[&[REQUEST_RATE]],
        "seed" => &[&prompts],
        "device" | "hardware" | "host" => &[&HARDWARE, &[fact::OUTPUT_SHA256]],
        "backend" => &[&[fact::TOOL, fact::MODE, fact::OUTPUT_SHA256]],
        _ => &[],
    };
    follows.iter().any(|names| names.contains(&name))
}

/// Whether a measure stays comparable when the amount of work is varied on purpose: it is of one token, or a share or rate.
pub(super) fn is_per_token(measure: &str) -> bool {
    let base = measure.split('.').next().unwrap_or(measure);
    let starts = ["tpot", "itl", "inter_token", "mfu", "mbu", "perplexity", "kl_", "goodput", "joule_per_"];
    let contains = ["tok_per_s", "tokens_per_s", "per_token", "request_per_s", "requests_per_s", "per_million"];
    starts.iter().any(|start| base.starts_with(start)) || contains.iter().any(|part| base.contains(part))
}

/// Whether two names are of one model, and whether they are the same but for organisation, case, file ending and format of the weights.
pub(super) fn same_model(left: &str, right: &str) -> Option<ModelNames> {
    let parts = |name: &str| -> Vec<String> {
        let file = name.rsplit(['/', '\\']).next().unwrap_or_default().to_lowercase();
        let stem = file.strip_suffix(".gguf").or_else(|| file.strip_suffix(".safetensors")).unwrap_or(&file);
        stem.split(['-', '_', '.', ':', ' ']).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let (left, right) = (parts(left), parts(right));
    if left.is_empty() || right.is_empty() {
        return None;
    }
    if left == right {
        return Some(ModelNames::Same);
    }
    (without_format(&left) == without_format(&right)).then_some(ModelNames::OtherFormat)
}

/// How alike two names of one model are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelNames {
    /// Alike.
    Same,
    /// Alike but for the format of the weights (`-q4_0`, `-AWQ`).
    OtherFormat,
}

/// The parts of a name before its format: `qwen2 5 0 5b instruct` of `qwen2.5-0.5b-instruct-q4_k_m`.
fn without_format(parts: &[String]) -> &[String] {
    let is_format = |part: &str| {
        let quantized = |prefix: &str| {
            part.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
        };
        matches!(
            part,
            "f16"
                | "f32"
                | "bf16"
                | "fp16"
                | "fp32"
                | "fp8"
                | "int8"
                | "int4"
                | "awq"
                | "gptq"
                | "gguf"
                | "bnb"
                | "4bit"
                | "8bit"
        ) || quantized("q")
            || quantized("iq")
            || quantized("w")
    };
    // `q4_k_m` falls into `q4`, `k`, `m`: what follows a format belongs to it.
    match parts.iter().skip(1).position(|part| is_format(part)) {
        Some(at) if parts[at + 1..].iter().all(|part| is_format(part) || part.len() <= 2) => &parts[..=at],
        _ => parts,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_for_the_facts_that_follow_from_it() {
        for (key, name, expected) in [
            ("model.dtype", fact::DTYPE, true),
            ("model.dtype", fact::WEIGHTS_SHA256, true),
            ("model.dtype", WEIGHTS_BYTES, true),
            ("model.dtype", fact::OUTPUT_SHA256, true),
            ("model.dtype", fact::KV_DTYPE, false),
            ("model.dtype", fact::MODEL, false),
            ("model", fact::MODEL, true),
            ("model.path", fact::WEIGHTS_SHA256, true),
            ("model", fact::PROMPT_TOKENS, false),
            ("engine.ops", fact::OPS, true),
            ("engine.ops", fact::OUTPUT_SHA256, false),
            ("engine", fact::THREADS, true),
            ("engine.threads", fact::OPS, false),
            ("batch", fact::BATCH, true),
            ("batch", fact::NEW_TOKENS, false),
            ("infer.max_new_tokens", fact::NEW_TOKENS, true),
            ("device", fact::GPU, true),
            ("eng", fact::THREADS, false),
        ] {
            assert_eq!(studies(key, name), expected, "{key} {name}");
        }
    }

    #[test]
    fn measures_of_one_token_are_known() {
        for name in
            ["tpot_ms", "tpot_ms.p99", "itl_ms", "decode_tok_per_s", "energy_per_token_j", "mfu_decode", "perplexity"]
        {
            assert!(is_per_token(name), "{name}");
        }
        for name in ["ttft_ms", "total_ms", "peak_rss_bytes", "energy_j", "decode_ms"] {
            assert!(!is_per_token(name), "{name}");
        }
    }

    #[test]
    fn models_are_told_apart_and_their_formats_are_not() {
        use ModelNames::{OtherFormat, Same};
        for (left, right, expected) in [
            ("Qwen2.5-0.5B-Instruct", "Qwen/Qwen2.5-0.5B-Instruct", Some(Same)),
            ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "Qwen2.5-0.5B-Instruct", Some(OtherFormat)),
            ("qwen2.5-0.5b-instruct-q4_0.gguf", "qwen2.5-0.5b-instruct-q8_0.gguf", Some(OtherFormat)),
            ("Qwen2.5-7B-Instruct-AWQ", "Qwen2.5-7B-Instruct", Some(OtherFormat)),
            ("Qwen2.5-0.5B", "Qwen2.5-0.5B-Instruct", None),
            ("SmolLM2-135M", "SmolLM2-360M", None),
            ("q4_0", "q8_0", None),
            ("", "", None),
        ] {
            assert_eq!(same_model(left, right), expected, "{left} {right}");
            assert_eq!(same_model(right, left), expected, "{right} {left}");
        }
    }
}
