//! Kernel name → what the kernel does.
//!
//! An ordered table of rules; the first that matches decides, and what no rule knows stays [`KernelClass::Unclassified`] rather than be
//! guessed. Rules of the user go before the built-in ones.

mod class;
mod traits;

use serde::{Deserialize, Serialize};

pub use class::{Collective, KernelClass};
pub use traits::{KernelTraits, Tile};

/// A rule of the user, as the command reads it from YAML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRule {
    /// Regular expression searched in the demangled name.
    pub pattern: String,
    /// Class of the kernels it matches.
    pub class: KernelClass,
    /// Name to show instead of the shortened one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What is known of one kernel name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Classified {
    /// What the kernel does.
    pub class: KernelClass,
    /// Id of the rule that said so: one of [`Classifier::rules`], or `user:N` for the N-th rule of the user (from 1); none if unclassified.
    pub rule: Option<String>,
    /// Name the user's rule gives it.
    pub display_name: Option<String>,
    /// What else the name says.
    pub traits: KernelTraits,
}

/// A built-in rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rule {
    /// Stable id, e.g. `cublas.gemv`.
    pub id: &'static str,
    /// Class of the kernels it matches.
    pub class: KernelClass,
    /// Regular expression on the part of the name that `part` says.
    pub pattern: &'static str,
    /// Where it looks.
    pub part: Part,
}

/// Part of a name a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The qualified name of the function, without template arguments and parameters: `at::native::reduce_kernel`.
    Function,
    /// The name with template arguments but without its parameters.
    Template,
}

/// Why a classifier could not be built.
#[derive(Debug, thiserror::Error)]
pub enum ClassifierError {
    /// A pattern of the user is no regular expression, or too large.
    #[error("rule {number} of the kernel classes: `{pattern}` is no usable regular expression: {reason}")]
    Pattern {
        /// Number of the rule, from 1.
        number: usize,
        /// The pattern.
        pattern: String,
        /// What the expression engine says.
        reason: String,
    },
}

/// The built-in rules and those of a user.
#[derive(Debug, Clone)]
pub struct Classifier {}

impl Classifier {
    /// The built-in rules only.
    pub fn builtin() -> Self {
        Self {}
    }
    /// The rules of the user, then the built-in ones.
    ///
    /// # Errors
    /// If a pattern is no regular expression.
    pub fn with_user_rules(_rules: &[UserRule]) -> Result<Self, ClassifierError> {
        Ok(Self {})
    }
    /// The built-in rules in the order they are tried.
    pub fn rules() -> &'static [Rule] {
        &[]
    }
    /// Classifies a kernel by its demangled name; `short` is the base name where the format has it (equal to `demangled` otherwise).
    pub fn classify(&self, _demangled: &str, _short: &str) -> Classified {
        Classified::default()
    }
}
