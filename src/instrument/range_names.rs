//! The names of our own ranges, in NVTX and in the files of the built-in tracer: written down here and nowhere else, so that what a run emits
//! is what `analyze` splits a trace by.
//!
//! | range | text | payload | inside |
//! |---|---|---|---|
//! | a measured repeat | `request` | its row in `per_run.jsonl` | |
//! | a repeat before them | `warmup` | its number | |
//! | prompt pass | `prefill` | 0 | `request` |
//! | each later token | `decode` | the step, from 1 | `request` |
//! | decoder layer | `layers.3` | the layer | a phase |
//! | module | `self_attn`, `mlp` | the layer, if inside one | a layer |
//! | operator | `self_attn.q_proj`, `self_attn.attention`, `lm_head` | the layer, if inside one | a module, layer or phase |
//!
//! No two kinds share a text, so that a table by name (`nsys stats -r nvtx_sum`) never adds a module to one of its operators. Steps share one
//! text, so that they are instances of one range, and a tool can start at `prefill@perfprof` or `decode@perfprof`. Layers do not: a table by
//! name has one row for each.

use std::borrow::Cow;

use super::observer::{Module, Phase, Span};
use crate::estimate::operator::OperatorClass;

/// The NVTX domain of all our ranges.
pub const DOMAIN: &str = "perfprof";
/// What a measured repeat is called.
pub const REQUEST: &str = "request";
/// What a repeat before the measured ones is called; it has no ranges inside, so that none of its work is taken for a step.
pub const WARMUP: &str = "warmup";
/// What stands before the number of a layer.
const LAYER: &str = "layers.";
/// What the thread that submits the work is called.
pub const SUBMITTING_THREAD: &str = "perfprof engine";

/// A range of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RangeName {
    /// A measured repeat.
    Request,
    /// A repeat before them.
    Warmup,
    /// The prompt pass or one decode step.
    Phase(Phase),
    /// A decoder layer.
    Layer(u32),
    /// A module.
    Module(Module),
    /// An operator of a module.
    Operator(Module, OperatorClass),
}

/// The categories of our NVTX domain: one for each kind of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the definition")]
pub enum RangeCategory {
    Request,
    Phase,
    Layer,
    Module,
    Operator,
}

impl RangeCategory {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Request, Self::Phase, Self::Layer, Self::Module, Self::Operator];

    /// The name a tool shows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Phase => "phase",
            Self::Layer => "layer",
            Self::Module => "module",
            Self::Operator => "operator",
        }
    }
}

/// The module that `module` is a part of, by its Hugging Face path.
const fn parent(module: Module) -> Option<Module> {
    match module {
        Module::QProj
        | Module::KProj
        | Module::VProj
        | Module::QkvProj
        | Module::QNorm
        | Module::KNorm
        | Module::RotaryEmb
        | Module::OProj => Some(Module::SelfAttn),
        Module::GateProj
        | Module::UpProj
        | Module::GateUpProj
        | Module::DownProj
        | Module::ActFn
        | Module::Router
        | Module::Experts => Some(Module::Mlp),
        _ => None,
    }
}

impl RangeName {
    /// The range of a span.
    pub fn of(span: Span) -> Self {
        match span {
            Span::Phase(phase, _) => Self::Phase(phase),
            Span::Layer(layer) => Self::Layer(layer),
            Span::Module(module) => Self::Module(module),
            Span::Operator(module, operator) => Self::Operator(module, operator.class()),
        }
    }

    /// What a tool shows; see the table of this module.
    pub fn text(self) -> Cow<'static, str> {
        match self {
            Self::Request => REQUEST.into(),
            Self::Warmup => WARMUP.into(),
            Self::Phase(phase) => phase.name().into(),
            Self::Layer(layer) => format!("{LAYER}{layer}").into(),
            Self::Module(module) => module.name().into(),
            Self::Operator(module, class) => match (module, parent(module)) {
                // These hold more than one operator: the class tells them apart, and them from the module.
                (Module::SelfAttn | Module::Mlp | Module::Model, _) => {
                    format!("{}.{}", module.name(), class.name()).into()
                }
                (_, Some(parent)) => format!("{}.{}", parent.name(), module.name()).into(),
                (_, None) => module.name().into(),
            },
        }
    }

    /// Its category.
    pub const fn category(self) -> RangeCategory {
        match self {
            Self::Request | Self::Warmup => RangeCategory::Request,
            Self::Phase(_) => RangeCategory::Phase,
            Self::Layer(_) => RangeCategory::Layer,
            Self::Module(_) => RangeCategory::Module,
            Self::Operator(..) => RangeCategory::Operator,
        }
    }
}

/// What the name of one of our ranges says to an analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning<'a> {
    /// A range around phases, which says nothing of them.
    Around,
    /// One step of a phase.
    Step(Phase),
    /// A decoder layer.
    Layer(u32),
    /// A module or an operator, by its path inside the layer.
    Module(&'a str),
}

/// What `label` (`domain:text`, as analyses label ranges) says, if it is one of ours.
pub fn meaning(label: &str) -> Option<Meaning<'_>> {
    let text = label.strip_prefix(DOMAIN)?.strip_prefix(':')?;
    Some(match text {
        REQUEST | WARMUP => Meaning::Around,
        _ if text == Phase::Prefill.name() => Meaning::Step(Phase::Prefill),
        _ if text == Phase::Decode.name() => Meaning::Step(Phase::Decode),
        _ => match text.strip_prefix(LAYER).and_then(|number| number.parse().ok()) {
            Some(layer) => Meaning::Layer(layer),
            None => Meaning::Module(text),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(name: RangeName) -> String {
        format!("{DOMAIN}:{}", name.text())
    }

    #[test]
    fn what_is_emitted_is_understood() {
        for (name, said) in [
            (RangeName::Request, Meaning::Around),
            (RangeName::Warmup, Meaning::Around),
            (RangeName::Phase(Phase::Prefill), Meaning::Step(Phase::Prefill)),
            (RangeName::Phase(Phase::Decode), Meaning::Step(Phase::Decode)),
            (RangeName::Layer(0), Meaning::Layer(0)),
            (RangeName::Layer(126), Meaning::Layer(126)),
            (RangeName::Module(Module::SelfAttn), Meaning::Module("self_attn")),
            (RangeName::Operator(Module::QProj, OperatorClass::Linear), Meaning::Module("self_attn.q_proj")),
            (RangeName::Operator(Module::SelfAttn, OperatorClass::Attention), Meaning::Module("self_attn.attention")),
            (RangeName::Operator(Module::SelfAttn, OperatorClass::KvWrite), Meaning::Module("self_attn.kv_write")),
            (RangeName::Operator(Module::DownProj, OperatorClass::Linear), Meaning::Module("mlp.down_proj")),
            (RangeName::Operator(Module::LmHead, OperatorClass::Linear), Meaning::Module("lm_head")),
            (RangeName::Operator(Module::Residual, OperatorClass::Elementwise), Meaning::Module("residual")),
        ] {
            assert_eq!(meaning(&label(name)), Some(said), "{name:?}");
        }
    }

    #[test]
    fn ranges_of_others_are_not_ours() {
        for other in ["prefill", "other:prefill", "perfprof2:decode", "perfprof", "perfprof.prefill", ""] {
            assert_eq!(meaning(other), None, "{other}");
        }
    }

    #[test]
    fn no_module_shares_its_text_with_an_operator() {
        let containers = [Module::SelfAttn, Module::Mlp, Module::Model].map(|module| RangeName::Module(module).text());
        for class in [OperatorClass::Attention, OperatorClass::KvWrite, OperatorClass::Linear, OperatorClass::Opaque] {
            for module in
                [Module::SelfAttn, Module::Mlp, Module::Model, Module::QProj, Module::Norm, Module::GateUpProj]
            {
                let text = RangeName::Operator(module, class).text();
                assert!(!containers.contains(&text), "{text}");
            }
        }
    }
}
