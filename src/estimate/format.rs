//! How numbers are stored: dense dtypes and GGML block formats, with their exact size in bytes.

use serde::{Deserialize, Serialize};

/// A storage format of weights, activations or the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the definition")]
pub enum Format {
    F64,
    F32,
    F16,
    BF16,
    F8E4M3,
    I8,
    U32,
    #[serde(rename = "q4_0")]
    Q4_0,
    #[serde(rename = "q4_1")]
    Q4_1,
    #[serde(rename = "q5_0")]
    Q5_0,
    #[serde(rename = "q5_1")]
    Q5_1,
    #[serde(rename = "q8_0")]
    Q8_0,
    #[serde(rename = "q8_1")]
    Q8_1,
    #[serde(rename = "q2_k")]
    Q2K,
    #[serde(rename = "q3_k")]
    Q3K,
    #[serde(rename = "q4_k")]
    Q4K,
    #[serde(rename = "q5_k")]
    Q5K,
    #[serde(rename = "q6_k")]
    Q6K,
    #[serde(rename = "q8_k")]
    Q8K,
}

impl Format {
    /// Elements in one block and bytes of one block (`ggml-common.h`: block structs; dense dtypes are blocks of one).
    pub const fn block(self) -> (usize, usize) {
        match self {
            Self::F64 => (1, 8),
            Self::F32 | Self::U32 => (1, 4),
            Self::F16 | Self::BF16 => (1, 2),
            Self::F8E4M3 | Self::I8 => (1, 1),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q8_1 => (32, 36),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Q8K => (256, 292),
        }
    }
    /// Bytes of `elements` values; a started block counts whole.
    pub const fn bytes(self, elements: u64) -> u64 {
        let (block_elements, block_bytes) = self.block();
        elements.div_ceil(block_elements as u64) * block_bytes as u64
    }
    /// True for block formats with a shared scale.
    pub const fn is_quantized(self) -> bool {
        self.block().0 > 1
    }
    /// The field's usual name, e.g. `bf16`, `q4_1`, `q4_k`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F64 => "f64",
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F8E4M3 => "f8_e4m3",
            Self::I8 => "i8",
            Self::U32 => "u32",
            Self::Q4_0 => "q4_0",
            Self::Q4_1 => "q4_1",
            Self::Q5_0 => "q5_0",
            Self::Q5_1 => "q5_1",
            Self::Q8_0 => "q8_0",
            Self::Q8_1 => "q8_1",
            Self::Q2K => "q2_k",
            Self::Q3K => "q3_k",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q6K => "q6_k",
            Self::Q8K => "q8_k",
        }
    }
    /// Every format, for messages and tests.
    pub const ALL: [Self; 19] = [
        Self::F64,
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::F8E4M3,
        Self::I8,
        Self::U32,
        Self::Q4_0,
        Self::Q4_1,
        Self::Q5_0,
        Self::Q5_1,
        Self::Q8_0,
        Self::Q8_1,
        Self::Q2K,
        Self::Q3K,
        Self::Q4K,
        Self::Q5K,
        Self::Q6K,
        Self::Q8K,
    ];
    /// From a name as written by users and files: case and underscores do not matter; `float16`, `half`, `bfloat16`, `fp8` work.
    pub fn parse(name: &str) -> Option<Self> {
        let plain: String = name.chars().filter(|c| *c != '_' && *c != '-').collect::<String>().to_ascii_lowercase();
        let plain = match plain.as_str() {
            "float32" | "fp32" | "float" => "f32",
            "float16" | "fp16" | "half" => "f16",
            "bfloat16" => "bf16",
            "fp8" | "f8" | "f8e4m3fn" => "f8e4m3",
            "float64" | "fp64" => "f64",
            "int8" => "i8",
            other => other,
        }
        .to_owned();
        Self::ALL.into_iter().find(|format| format.name().replace('_', "") == plain)
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_back() {
        for format in Format::ALL {
            assert_eq!(Format::parse(format.name()), Some(format));
            assert_eq!(Format::parse(&format.name().to_uppercase()), Some(format));
        }
        assert_eq!(Format::parse("bfloat16"), Some(Format::BF16));
        assert_eq!(Format::parse("q9_9"), None);
    }

    #[test]
    fn blocks_count_whole() {
        assert_eq!(Format::Q8_0.bytes(64), 68);
        assert_eq!(Format::Q8_0.bytes(33), 68);
        assert_eq!(Format::BF16.bytes(3), 6);
    }
}
