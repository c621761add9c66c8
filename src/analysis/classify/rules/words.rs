//! The last resort: a word that means one thing, in the base name of a kernel no family claims.

use super::Part::Base;
use super::{Rule, rule};
use crate::analysis::classify::class::KernelClass::{Cast, Copy, Fill, Gather, Gemm, Scan, Sort};

pub(super) const RULES: &[Rule] = &[
    rule("word.weight_layout", Copy, Base, r"(?i)(^|_)(interleave|repack|shuffle)_"),
    rule("word.gemm", Gemm, Base, r"(?i)(^|_)[a-z0-9]*(gemm|matmul)(_[a-z0-9_]+)?$|_scaled_mm$"),
    rule("word.cast", Cast, Base, r"(?i)^(cast_)?(bf16|fp16|fp32|f16|f32)_to_(bf16|fp16|fp32|f16|f32)"),
    rule("word.copy", Copy, Base, r"(?i)^_?transpose|^copy_blocks|^ConcatMLA|scale_interleave"),
    rule("word.copy_last", Copy, Base, r"(?i)(^|_)copy(_|$)"),
    rule("word.gather", Gather, Base, r"(?i)(^|_)(gather|embedding)(_|$)"),
    rule("word.scan", Scan, Base, r"(?i)cumsum"),
    rule("word.sort", Sort, Base, r"(?i)(^|_)(arg_?)?sorts?(_|$)|(^|_)top_?k(_|$)|TopK|SortTop"),
    rule("word.fill", Fill, Base, r"(?i)OutputMemsetKernel$"),
];
