//! Published shapes for the unit tests of this folder.

use super::architecture::Architecture;

macro_rules! published {
    ($($function:ident $file:literal)*) => {
        $(pub(crate) fn $function() -> Architecture {
            load(include_str!(concat!("../../tests/data/hf_configs/", $file, ".json")))
        })*
        /// All of them by file name.
        pub(crate) fn all() -> Vec<(&'static str, Architecture)> {
            vec![$(($file, $function())),*]
        }
    };
}

published! {
    llama_2_7b "llama-2-7b"
    llama_3_8b "llama-3-8b"
    llama_3_1_8b "llama-3.1-8b"
    qwen2_5_0_5b "qwen2.5-0.5b"
    qwen3_8b "qwen3-8b"
    mistral_7b "mistral-7b-v0.1"
    smollm2_135m "smollm2-135m"
    mixtral_8x7b "mixtral-8x7b"
    qwen3_30b_a3b "qwen3-30b-a3b"
    qwen1_5_moe_a2_7b "qwen1.5-moe-a2.7b"
}

fn load(text: &str) -> Architecture {
    let config = serde_json::from_str(text).expect("the test data is JSON");
    Architecture::from_hf_config(&config).expect("the test data is a published model")
}
