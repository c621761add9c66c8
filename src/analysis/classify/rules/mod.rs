//! The built-in rules, in the order they are tried.
//!
//! Families whose names are anchored (a library's namespace, a fixed list of names) stand before those that look for a word. A kernel that
//! does several things is of the first class of this list it does: communication, expert product, product, attention, cache write, norm,
//! rotary embedding, activation, quantisation, the rest.

mod attention;
mod engines;
mod ggml;
mod math;
mod pytorch;
mod words;

use super::class::KernelClass;

/// A built-in rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Stable id, e.g. `cublas.gemv`: family and what it finds.
    pub id: &'static str,
    /// Class of the kernels it matches.
    pub class: KernelClass,
    /// Part of the name it looks at.
    pub part: Part,
    /// Regular expression, ASCII only.
    pub pattern: &'static str,
}

/// Part of a name a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The last component of the function: `reduce_kernel`.
    Base,
    /// The qualified name of the function, without template arguments and parameters: `at::native::reduce_kernel`.
    Function,
    /// The qualified name with template arguments but without parameters.
    Template,
}

/// One rule of a table.
const fn rule(id: &'static str, class: KernelClass, part: Part, pattern: &'static str) -> Rule {
    Rule { id, class, part, pattern }
}

/// All rules in order.
pub(super) fn all() -> Vec<Rule> {
    [
        pytorch::COMPILED,
        engines::ROUTING_METADATA,
        engines::COMMUNICATION,
        attention::RULES,
        engines::MIXTURE_OF_EXPERTS,
        engines::RECURRENT,
        engines::SAMPLING,
        pytorch::RULES,
        ggml::CANDLE,
        ggml::LLAMA_CPP,
        math::RULES,
        engines::LAYERS,
        words::RULES,
    ]
    .concat()
}
