//! The one door through which a live run is observed.
//!
//! The engine calls an [`Observer`]; whether that reads a host clock, records CUDA events, pushes NVTX ranges or does nothing is
//! not the engine's business. Calls nest: every `begin` has one `end`, innermost first.

use serde::{Deserialize, Serialize};

use crate::estimate::operator::Operator;

/// The part of a generation a span belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The prompt pass, up to and including the first sampled token.
    Prefill,
    /// One later token (all sequences of the batch advance together).
    Decode,
}

impl Phase {
    /// The name used in NVTX ranges and every artifact.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// Modules of a decoder, named after their Hugging Face attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the definition")]
pub enum Module {
    EmbedTokens,
    InputLayernorm,
    QProj,
    KProj,
    VProj,
    QkvProj,
    QNorm,
    KNorm,
    RotaryEmb,
    SelfAttn,
    OProj,
    PostAttentionLayernorm,
    Mlp,
    GateProj,
    UpProj,
    GateUpProj,
    DownProj,
    ActFn,
    Router,
    Experts,
    Residual,
    Norm,
    LmHead,
    Sampler,
    Model,
}

impl Module {
    /// The Hugging Face attribute name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EmbedTokens => "embed_tokens",
            Self::InputLayernorm => "input_layernorm",
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::QkvProj => "qkv_proj",
            Self::QNorm => "q_norm",
            Self::KNorm => "k_norm",
            Self::RotaryEmb => "rotary_emb",
            Self::SelfAttn => "self_attn",
            Self::OProj => "o_proj",
            Self::PostAttentionLayernorm => "post_attention_layernorm",
            Self::Mlp => "mlp",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::GateUpProj => "gate_up_proj",
            Self::DownProj => "down_proj",
            Self::ActFn => "act_fn",
            Self::Router => "router",
            Self::Experts => "experts",
            Self::Residual => "residual",
            Self::Norm => "norm",
            Self::LmHead => "lm_head",
            Self::Sampler => "sampler",
            Self::Model => "model",
        }
    }

    /// The modules whose work this one does where operators are fused; empty for a module that stands for itself.
    ///
    /// With it a comparison of fused with unfused operators can set the time of `qkv_proj` against that of q, k and v together.
    pub const fn parts(self) -> &'static [Self] {
        match self {
            Self::QkvProj => &[Self::QProj, Self::KProj, Self::VProj],
            Self::GateUpProj => &[Self::GateProj, Self::UpProj, Self::ActFn],
            _ => &[],
        }
    }
}

/// One span of a live run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// A phase; `step` is 0 for prefill and counts decode steps from 1.
    Phase(Phase, u32),
    /// A decoder layer, counted from 0.
    Layer(u32),
    /// A module inside a layer, or of the model where no layer is open.
    Module(Module),
    /// One operator with its dimensions; `Module` says which projection it is.
    Operator(Module, Operator),
}

/// Receives the spans of a live run, in order, on the thread that submits the work.
pub trait Observer {
    /// Whether layer, module and operator spans are wanted; phases are always reported.
    ///
    /// The engine asks once per forward pass and skips building spans nobody reads.
    fn wants_operators(&self) -> bool;
    /// Whether operators must be launched one by one for this observer. A step that is one launch, a recorded graph, is then taken apart.
    ///
    /// True for a clock that stamps the stream between operators; false for names that a tool reads, which sees the kernels inside a graph.
    fn separates_operators(&self) -> bool {
        self.wants_operators()
    }
    /// A span opens.
    fn begin(&mut self, span: Span);
    /// The innermost open span closes.
    fn end(&mut self);
}

/// Observes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoObserver;

impl Observer for NoObserver {
    fn wants_operators(&self) -> bool {
        false
    }
    fn begin(&mut self, _span: Span) {}
    fn end(&mut self) {}
}
