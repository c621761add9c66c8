//! What one operator of a decoder costs: FLOPs and the bytes that must move, from its dimensions alone.
//!
//! The engine reports the [`Operator`] it runs and the analytic model enumerates the operators a step should run; both get
//! their costs here, and the closed forms of [`super::flops`] are derived apart from it, so that a test can hold them equal.

use serde::{Deserialize, Serialize};

use super::format::Format;

/// Classes of operators, the rows of `operators.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorClass {
    /// Rows gathered from the embedding matrix.
    Embedding,
    /// RMS norm, of the residual stream or of q/k heads.
    Norm,
    /// A matrix product with a weight.
    Linear,
    /// Rotary position embedding.
    Rope,
    /// New keys and values written into the cache.
    KvWrite,
    /// Scores, softmax and the weighted sum of values.
    Attention,
    /// Gating, e.g. SiLU(gate) × up.
    Activation,
    /// Residual additions.
    Elementwise,
    /// Routing of tokens to experts.
    Routing,
    /// Choosing the next token from the logits.
    Sampling,
    /// A whole forward pass of a module that is not instrumented inside.
    Opaque,
}

impl OperatorClass {
    /// The snake_case name used in every artifact.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Norm => "norm",
            Self::Linear => "linear",
            Self::Rope => "rope",
            Self::KvWrite => "kv_write",
            Self::Attention => "attention",
            Self::Activation => "activation",
            Self::Elementwise => "elementwise",
            Self::Routing => "routing",
            Self::Sampling => "sampling",
            Self::Opaque => "opaque",
        }
    }
}

/// One operator with the dimensions that decide its cost. `rows` is always batch × tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum Operator {
    /// `rows` rows of width `width` gathered from a matrix stored as `weight`.
    Embedding {
        /// Tokens looked up.
        rows: u32,
        /// Row width.
        width: u32,
        /// Storage of the matrix.
        weight: Format,
    },
    /// RMS norm of `rows` rows of `width` values.
    RmsNorm {
        /// Normalised rows.
        rows: u32,
        /// Values in a row.
        width: u32,
    },
    /// `[rows, inner] × [outer, inner]ᵀ`, plus a bias if `bias`.
    Linear {
        /// Rows of the activations.
        rows: u32,
        /// Inner (contracted) dimension.
        inner: u32,
        /// Output width.
        outer: u32,
        /// Storage of the weight.
        weight: Format,
        /// Whether a bias is added.
        bias: bool,
    },
    /// Rotation of `rows` tokens × `heads` heads (q and k together).
    Rope {
        /// Tokens.
        rows: u32,
        /// Query plus key heads.
        heads: u32,
        /// Width of a head.
        head_dim: u32,
    },
    /// `rows` tokens' keys and values, `width` values each, written to the cache.
    KvWrite {
        /// Tokens.
        rows: u32,
        /// kv_heads × head_dim.
        width: u32,
        /// Storage of the cache.
        cache: Format,
    },
    /// Causal attention of `batch` sequences: `queries` new positions each, the last of which sees `kv_len` positions.
    Attention {
        /// Sequences.
        batch: u32,
        /// New positions in each sequence.
        queries: u32,
        /// Positions in the cache after this step.
        kv_len: u32,
        /// Query heads.
        heads: u32,
        /// Key/value heads.
        kv_heads: u32,
        /// Width of a head.
        head_dim: u32,
        /// Sliding window; 0 for none.
        window: u32,
        /// Storage of the cache.
        cache: Format,
    },
    /// SiLU(gate) × up over `rows` × `width` values.
    SiluMul {
        /// Rows.
        rows: u32,
        /// Values in a row.
        width: u32,
    },
    /// Residual addition of `rows` × `width` values.
    Add {
        /// Rows.
        rows: u32,
        /// Values in a row.
        width: u32,
    },
    /// The residual addition and the RMS norm of its result in one pass over `rows` × `width` values.
    AddRmsNorm {
        /// Rows.
        rows: u32,
        /// Values in a row.
        width: u32,
    },
    /// Gate and up projection as one product, and SiLU(gate) × up on its result: `[rows, inner] × [2 × width, inner]ᵀ` → `[rows, width]`.
    GatedLinear {
        /// Rows of the activations.
        rows: u32,
        /// Inner (contracted) dimension.
        inner: u32,
        /// Output width of gate and of up, each.
        width: u32,
        /// Storage of both weights.
        weight: Format,
    },
    /// Rotation of q and k, and the rotated keys and the values written to the cache, in one pass.
    RopeKvWrite {
        /// Tokens.
        rows: u32,
        /// Query heads.
        heads: u32,
        /// Key/value heads.
        kv_heads: u32,
        /// Width of a head.
        head_dim: u32,
        /// Storage of the cache.
        cache: Format,
    },
    /// Softmax and top-k over the experts.
    Routing {
        /// Tokens.
        rows: u32,
        /// Experts.
        experts: u32,
    },
    /// The next token chosen from `rows` rows of `width` logits.
    Sample {
        /// Sequences.
        rows: u32,
        /// Vocabulary.
        width: u32,
    },
    /// A forward pass that is timed as one piece; its cost comes from the analytic model, not from here.
    Opaque {
        /// Tokens.
        rows: u32,
    },
}

/// What an operator costs at the least. All counts are exact integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Cost {
    /// Floating-point operations; a multiply-add is two.
    pub flops: u64,
    /// Weight bytes read, each once.
    pub weight_bytes: u64,
    /// KV-cache bytes read and written.
    pub kv_bytes: u64,
    /// Activation bytes read and written.
    pub activation_bytes: u64,
}

impl Cost {
    /// All bytes that must move.
    pub fn bytes(&self) -> u64 {
        self.weight_bytes + self.kv_bytes + self.activation_bytes
    }
    /// The bytes that MBU counts: weights and KV cache.
    pub fn model_bytes(&self) -> u64 {
        self.weight_bytes + self.kv_bytes
    }
}

impl std::ops::Add for Cost {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            flops: self.flops + other.flops,
            weight_bytes: self.weight_bytes + other.weight_bytes,
            kv_bytes: self.kv_bytes + other.kv_bytes,
            activation_bytes: self.activation_bytes + other.activation_bytes,
        }
    }
}
impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |sum, cost| sum + cost)
    }
}

/// Query–key pairs of causal attention for one head of one sequence: Σ over the new positions of what each sees.
pub fn attention_pairs(queries: u64, kv_len: u64, window: u64) -> u64 {
    let past = kv_len - queries;
    if window == 0 || kv_len <= window {
        return queries * past + queries * (queries + 1) / 2;
    }
    // Positions past..window see everything before them, the rest see `window`.
    let growing = window.saturating_sub(past).min(queries);
    growing * past + growing * (growing + 1) / 2 + (queries - growing) * window
}

impl Operator {
    /// The class, i.e. the row of `operators.md` it belongs to.
    pub const fn class(&self) -> OperatorClass {
        match self {
            Self::Embedding { .. } => OperatorClass::Embedding,
            Self::RmsNorm { .. } | Self::AddRmsNorm { .. } => OperatorClass::Norm,
            Self::Linear { .. } | Self::GatedLinear { .. } => OperatorClass::Linear,
            Self::Rope { .. } | Self::RopeKvWrite { .. } => OperatorClass::Rope,
            Self::KvWrite { .. } => OperatorClass::KvWrite,
            Self::Attention { .. } => OperatorClass::Attention,
            Self::SiluMul { .. } => OperatorClass::Activation,
            Self::Add { .. } => OperatorClass::Elementwise,
            Self::Routing { .. } => OperatorClass::Routing,
            Self::Sample { .. } => OperatorClass::Sampling,
            Self::Opaque { .. } => OperatorClass::Opaque,
        }
    }

    /// True where the FLOPs count towards MFU: matrix products with weights, and attention (PaLM, arXiv 2204.02311 appendix B).
    ///
    /// Of a [`Self::GatedLinear`] the two products count and the activation inside it does not: see [`Self::model_flops`].
    pub const fn is_model_compute(&self) -> bool {
        matches!(self, Self::Linear { .. } | Self::GatedLinear { .. } | Self::Attention { .. })
    }

    /// The FLOPs that count towards MFU: all of a product with weights or of attention, none of anything else.
    pub fn model_flops(&self) -> u64 {
        match *self {
            Self::GatedLinear { rows, inner, width, .. } => 4 * u64::from(rows) * u64::from(inner) * u64::from(width),
            _ if self.is_model_compute() => self.cost(Format::F32).flops,
            _ => 0,
        }
    }

    /// FLOPs and least bytes, with activations stored as `activation`.
    ///
    /// Elementwise FLOPs per value: RMS norm 4 (square, add, two multiplies), rope 3 (two multiplies and an add per output),
    /// SiLU × up 5 (negate, exp, add, divide, multiply), add 1, sampling 1, softmax not counted (as everywhere in the field).
    ///
    /// A fused operator has the FLOPs, weight bytes and cache bytes of its parts together. Its activation bytes are fewer: what one part
    /// hands to the next is neither written nor read again.
    pub fn cost(&self, activation: Format) -> Cost {
        let act = |elements: u64| activation.bytes(1) * elements;
        match *self {
            Self::Embedding { rows, width, weight } => {
                let (rows, width) = (u64::from(rows), u64::from(width));
                Cost {
                    weight_bytes: rows * weight.bytes(width),
                    activation_bytes: act(rows * width),
                    ..Cost::default()
                }
            }
            Self::RmsNorm { rows, width } => {
                let (rows, width) = (u64::from(rows), u64::from(width));
                Cost {
                    flops: 4 * rows * width,
                    weight_bytes: Format::F32.bytes(width),
                    activation_bytes: act(2 * rows * width),
                    ..Cost::default()
                }
            }
            Self::Linear { rows, inner, outer, weight, bias } => {
                let (rows, inner, outer) = (u64::from(rows), u64::from(inner), u64::from(outer));
                let bias = u64::from(bias) * outer;
                Cost {
                    flops: 2 * rows * inner * outer + rows * bias,
                    weight_bytes: outer * weight.bytes(inner) + Format::F32.bytes(bias),
                    activation_bytes: act(rows * (inner + outer)),
                    ..Cost::default()
                }
            }
            Self::Rope { rows, heads, head_dim } => {
                let values = u64::from(rows) * u64::from(heads) * u64::from(head_dim);
                Cost { flops: 3 * values, activation_bytes: act(2 * values), ..Cost::default() }
            }
            Self::KvWrite { rows, width, cache } => {
                // A position is stored as one row of keys and one of values: blocks of a quantized cache never span positions.
                let (vectors, width) = (2 * u64::from(rows), u64::from(width));
                Cost {
                    kv_bytes: vectors * cache.bytes(width),
                    activation_bytes: act(vectors * width),
                    ..Cost::default()
                }
            }
            Self::Attention { batch, queries, kv_len, heads, kv_heads, head_dim, window, cache } => {
                let (batch, queries, kv_len) = (u64::from(batch), u64::from(queries), u64::from(kv_len));
                let (heads, kv_heads, head_dim) = (u64::from(heads), u64::from(kv_heads), u64::from(head_dim));
                let pairs = attention_pairs(queries, kv_len, u64::from(window));
                // Keys and values are read once per step: those the first new position still sees up to the last.
                let window = if window == 0 { u64::MAX } else { u64::from(window) };
                let read = kv_len.min(window.saturating_add(queries - 1));
                Cost {
                    flops: 4 * batch * heads * head_dim * pairs,
                    kv_bytes: 2 * batch * read * cache.bytes(kv_heads * head_dim),
                    activation_bytes: act(2 * batch * queries * heads * head_dim),
                    ..Cost::default()
                }
            }
            Self::SiluMul { rows, width } => {
                let values = u64::from(rows) * u64::from(width);
                Cost { flops: 5 * values, activation_bytes: act(3 * values), ..Cost::default() }
            }
            Self::Add { rows, width } => {
                let values = u64::from(rows) * u64::from(width);
                Cost { flops: values, activation_bytes: act(3 * values), ..Cost::default() }
            }
            Self::AddRmsNorm { rows, width } => {
                let (values, width) = (u64::from(rows) * u64::from(width), u64::from(width));
                // Two read and two written: the sum is normed while it is at hand.
                Cost {
                    flops: 5 * values,
                    weight_bytes: Format::F32.bytes(width),
                    activation_bytes: act(4 * values),
                    ..Cost::default()
                }
            }
            Self::GatedLinear { rows, inner, width, weight } => {
                let (rows, inner, width) = (u64::from(rows), u64::from(inner), u64::from(width));
                Cost {
                    flops: 4 * rows * inner * width + 5 * rows * width,
                    weight_bytes: 2 * width * weight.bytes(inner),
                    activation_bytes: act(rows * (inner + width)),
                    ..Cost::default()
                }
            }
            Self::RopeKvWrite { rows, heads, kv_heads, head_dim, cache } => {
                let (rows, head_dim) = (u64::from(rows), u64::from(head_dim));
                let (queries, keys) = (rows * u64::from(heads) * head_dim, rows * u64::from(kv_heads) * head_dim);
                // q is read and written; k and v are read, and written to the cache only.
                Cost {
                    flops: 3 * (queries + keys),
                    kv_bytes: 2 * rows * cache.bytes(u64::from(kv_heads) * head_dim),
                    activation_bytes: act(2 * queries + 2 * keys),
                    ..Cost::default()
                }
            }
            Self::Routing { rows, experts } => {
                let values = u64::from(rows) * u64::from(experts);
                Cost { flops: values, activation_bytes: act(2 * values), ..Cost::default() }
            }
            Self::Sample { rows, width } => {
                let values = u64::from(rows) * u64::from(width);
                Cost { flops: values, activation_bytes: act(values), ..Cost::default() }
            }
            Self::Opaque { .. } => Cost::default(),
        }
    }

    /// The dimensions in one short text, e.g. `1×576 → 1536 q4_1`.
    pub fn shape_text(&self) -> String {
        match *self {
            Self::Embedding { rows, width, weight } => format!("{rows} rows × {width} {weight}"),
            Self::RmsNorm { rows, width }
            | Self::AddRmsNorm { rows, width }
            | Self::SiluMul { rows, width }
            | Self::Add { rows, width }
            | Self::Sample { rows, width } => format!("{rows}×{width}"),
            Self::GatedLinear { rows, inner, width, weight } => format!("{rows}×{inner} → 2×{width} {weight}"),
            Self::RopeKvWrite { rows, heads, kv_heads, head_dim, cache } => {
                format!("{rows}×({heads}+{kv_heads})×{head_dim} {cache}")
            }
            Self::Linear { rows, inner, outer, weight, .. } => format!("{rows}×{inner} → {outer} {weight}"),
            Self::Rope { rows, heads, head_dim } => format!("{rows}×{heads}×{head_dim}"),
            Self::KvWrite { rows, width, cache } => format!("2×{rows}×{width} {cache}"),
            Self::Attention { batch, queries, kv_len, heads, kv_heads, head_dim, .. } => {
                format!("b{batch} q{queries} kv{kv_len} h{heads}/{kv_heads}×{head_dim}")
            }
            Self::Routing { rows, experts } => format!("{rows} → {experts} experts"),
            Self::Opaque { rows } => format!("{rows} tokens"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attention_pairs_equal_a_count_one_by_one() {
        for window in [0u64, 1, 3, 4, 7, 20] {
            for past in 0..9u64 {
                for queries in 1..9u64 {
                    let counted: u64 =
                        (0..queries).map(|i| if window == 0 { past + i + 1 } else { (past + i + 1).min(window) }).sum();
                    assert_eq!(attention_pairs(queries, past + queries, window), counted, "{window} {past} {queries}");
                }
            }
        }
    }

    /// What fusion leaves out is the traffic of what one part hands to the next, and nothing else.
    #[test]
    fn a_fused_operator_costs_its_parts_but_for_the_activations_handed_on() {
        let (rows, inner, width, act) = (7u32, 64u32, 96u32, Format::BF16);
        let sum = |parts: &[Operator]| parts.iter().map(|part| part.cost(act)).fold(Cost::default(), |a, b| a + b);
        let linear = |outer| Operator::Linear { rows, inner, outer, weight: Format::Q4_0, bias: false };
        let cases = [
            // The sum need not be read back.
            (
                Operator::AddRmsNorm { rows, width },
                vec![Operator::Add { rows, width }, Operator::RmsNorm { rows, width }],
                rows * width,
            ),
            // The input is read once, gate and up are neither written nor read.
            (
                Operator::GatedLinear { rows, inner, width, weight: Format::Q4_0 },
                vec![linear(width), linear(width), Operator::SiluMul { rows, width }],
                rows * inner + 4 * rows * width,
            ),
            // Rotated keys are not written anywhere but to the cache: one write and one read less.
            (
                Operator::RopeKvWrite { rows, heads: 6, kv_heads: 2, head_dim: 32, cache: Format::F16 },
                vec![
                    Operator::Rope { rows, heads: 8, head_dim: 32 },
                    Operator::KvWrite { rows, width: 64, cache: Format::F16 },
                ],
                2 * rows * 64,
            ),
        ];
        for (fused, parts, handed_on) in cases {
            let (whole, parts_cost) = (fused.cost(act), sum(&parts));
            assert_eq!(
                (whole.flops, whole.weight_bytes, whole.kv_bytes),
                (parts_cost.flops, parts_cost.weight_bytes, parts_cost.kv_bytes),
                "{fused:?}"
            );
            assert_eq!(
                whole.activation_bytes + act.bytes(u64::from(handed_on)),
                parts_cost.activation_bytes,
                "{fused:?}"
            );
            let model: u64 = parts.iter().map(Operator::model_flops).sum();
            assert_eq!(fused.model_flops(), model, "{fused:?}");
        }
    }

    #[test]
    fn a_linear_reads_its_weight_once_whatever_the_rows() {
        let linear = |rows| Operator::Linear { rows, inner: 64, outer: 10, weight: Format::Q8_0, bias: false };
        assert_eq!(linear(1).cost(Format::F32).weight_bytes, 680);
        assert_eq!(linear(9).cost(Format::F32).weight_bytes, 680);
        assert_eq!(linear(9).cost(Format::F32).flops, 9 * 2 * 64 * 10);
    }
}
