//! Kernel name → what the kernel does.
//!
//! An ordered table of rules; the first that matches decides, and what no rule knows stays [`KernelClass::Unclassified`] rather than be
//! guessed. Rules of the user go before the built-in ones. Every answer names the rule that gave it.

mod class;
mod rules;
mod traits;

use std::sync::LazyLock;

use regex::RegexSet;
use regex::bytes::{RegexSet as ByteSet, RegexSetBuilder};
use serde::{Deserialize, Serialize};

pub use class::{Collective, KernelClass};
pub use rules::{Part, Rule};
pub use traits::{KernelTraits, Tile};

use super::kernel_names::{MAX_PARSED_BYTES, NameParts, demangle, prefix};

/// A rule of the user, as the command reads it from YAML.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRule {
    /// Regular expression searched in the first 8 KiB of the demangled name, parameters included.
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

/// The built-in rules, compiled once: one set of expressions for each part of a name.
struct BuiltIn {
    rules: Vec<Rule>,
    /// For each part: rows of `rules` in order, and their expressions.
    sets: [(Part, Vec<usize>, ByteSet); 3],
}

/// Memory the lazily built automaton of a set may take: with the usual 2 MiB it is thrown away and built anew for every other name.
const DFA_BYTES: usize = 32 << 20;

static BUILT_IN: LazyLock<BuiltIn> = LazyLock::new(|| {
    let rules = rules::all();
    let sets = [Part::Base, Part::Function, Part::Template].map(|part| {
        let rows: Vec<usize> = (0..rules.len()).filter(|row| rules[*row].part == part).collect();
        let patterns = rows.iter().map(|row| rules[*row].pattern);
        // Names of kernels are ASCII; without Unicode classes the sets compile several times faster.
        let set = RegexSetBuilder::new(patterns).unicode(false).dfa_size_limit(DFA_BYTES).build();
        (part, rows, set.expect("the built-in patterns are regular expressions: a test compiles them"))
    });
    BuiltIn { rules, sets }
});

impl BuiltIn {
    /// The first rule that matches.
    fn first(&self, parts: &NameParts) -> Option<&Rule> {
        let first = |(part, rows, set): &(Part, Vec<usize>, ByteSet)| {
            let text = match part {
                Part::Base => &parts.base,
                Part::Function => &parts.function,
                Part::Template => &parts.template,
            };
            set.matches(text.as_bytes()).iter().next().map(|at| rows[at])
        };
        self.sets.iter().filter_map(first).min().map(|row| &self.rules[row])
    }
}

/// The built-in rules and those of a user.
#[derive(Debug, Clone, Default)]
pub struct Classifier {
    user_rules: Vec<UserRule>,
    user_set: Option<RegexSet>,
}

impl Classifier {
    /// The built-in rules only.
    pub fn builtin() -> Self {
        Self::default()
    }
    /// The rules of the user, then the built-in ones.
    ///
    /// # Errors
    /// If a pattern is no regular expression.
    pub fn with_user_rules(rules: &[UserRule]) -> Result<Self, ClassifierError> {
        // One at a time first, so that the message says which.
        for (at, rule) in rules.iter().enumerate() {
            if let Err(error) = regex::Regex::new(&rule.pattern) {
                return Err(ClassifierError::Pattern {
                    number: at + 1,
                    pattern: rule.pattern.clone(),
                    reason: error.to_string(),
                });
            }
        }
        let set = RegexSet::new(rules.iter().map(|rule| &rule.pattern)).map_err(|error| ClassifierError::Pattern {
            number: rules.len(),
            pattern: "all patterns together".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self { user_rules: rules.to_vec(), user_set: (!rules.is_empty()).then_some(set) })
    }
    /// The built-in rules in the order they are tried.
    pub fn rules() -> &'static [Rule] {
        &BUILT_IN.rules
    }
    /// Classifies a kernel by its demangled (or mangled) name; `short` is the base name where the format has it (equal to `demangled`
    /// otherwise) and is asked where the long name tells nothing.
    pub fn classify(&self, demangled: &str, short: &str) -> Classified {
        let name = demangle(demangled);
        let parts = NameParts::of(&name);
        let traits_of = |class| traits::of(class, &parts);
        if let Some(at) =
            self.user_set.as_ref().and_then(|set| set.matches(prefix(&name, MAX_PARSED_BYTES)).iter().next())
        {
            let rule = &self.user_rules[at];
            return Classified {
                class: rule.class,
                rule: Some(format!("user:{}", at + 1)),
                display_name: rule.name.clone(),
                traits: traits_of(rule.class),
            };
        }
        let rule = BUILT_IN.first(&parts).or_else(|| {
            (short != demangled && !short.is_empty())
                .then(|| BUILT_IN.first(&NameParts::of(&demangle(short))))
                .flatten()
        });
        let class = rule.map_or(KernelClass::Unclassified, |rule| rule.class);
        Classified { class, rule: rule.map(|rule| rule.id.to_owned()), display_name: None, traits: traits_of(class) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_the_user_goes_before_the_built_in_ones() {
        let rules = [
            UserRule { pattern: "never".to_owned(), class: KernelClass::Fill, name: None },
            UserRule {
                pattern: "^nvjet_.*_TNN$".to_owned(),
                class: KernelClass::MoeGemm,
                name: Some("experts".to_owned()),
            },
        ];
        let classifier = Classifier::with_user_rules(&rules).unwrap();
        let name = "nvjet_tst_32x64_64x16_4x1_v_bz_TNN";
        let classified = classifier.classify(name, name);
        assert_eq!((classified.class, classified.rule.as_deref()), (KernelClass::MoeGemm, Some("user:2")));
        assert_eq!(classified.display_name.as_deref(), Some("experts"));
        let other = "nvjet_tst_32x64_64x16_4x1_v_bz_TNT";
        assert_eq!(classifier.classify(other, other).rule.as_deref(), Some("cublas.nvjet"));
    }

    #[test]
    fn a_bad_pattern_is_named_by_its_number() {
        let good = UserRule { pattern: "a".to_owned(), class: KernelClass::Fill, name: None };
        let bad = UserRule { pattern: "(".to_owned(), ..good.clone() };
        let error = Classifier::with_user_rules(&[good, bad]).unwrap_err().to_string();
        assert!(error.contains("rule 2") && error.contains('('), "{error}");
    }

    #[test]
    fn the_short_name_is_asked_where_the_long_one_tells_nothing() {
        let classifier = Classifier::builtin();
        assert_eq!(classifier.classify("???", "gemv2T_kernel_val").class, KernelClass::Gemv);
        assert_eq!(classifier.classify("???", "").class, KernelClass::Unclassified);
    }

    #[test]
    fn a_user_rule_reads_from_a_map_and_refuses_unknown_keys() {
        let rule: UserRule = serde_json::from_str(r#"{"pattern": "x", "class": "kv_write"}"#).unwrap();
        assert_eq!(rule.class, KernelClass::KvWrite);
        assert!(serde_json::from_str::<UserRule>(r#"{"pattern": "x", "class": "kv_write", "nmae": "y"}"#).is_err());
        assert!(serde_json::from_str::<UserRule>(r#"{"pattern": "x", "class": "kvwrite"}"#).is_err());
    }
}
