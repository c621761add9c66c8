//! Which file and line, or which override, set each value.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::diagnostics::escape_control;

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file.
    File {
        /// The path as the user would name it; `configs/…` for a built-in file.
        file: Arc<str>,
        /// 1-based line; 0 where the file as a whole is meant.
        line: u64,
        /// True for a file inside the binary.
        embedded: bool,
    },
    /// An override of the command line.
    Override {
        /// 1-based position among the overrides.
        index: usize,
        /// The override as typed.
        text: Arc<str>,
    },
    /// A value that follows from another.
    Derived(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, embedded } => {
                f.write_str(&escape_control(file))?;
                if *line > 0 {
                    write!(f, ":{line}")?;
                }
                if *embedded {
                    f.write_str(", built in")?;
                }
                Ok(())
            }
            Self::Override { index, text } => {
                // A comment or a message stays on one line.
                let text = escape_control(text).replace('\n', "\\n").replace('\t', "\\t");
                write!(f, "override {index}: {text}")
            }
            Self::Derived(from) => write!(f, "follows from {from}"),
        }
    }
}

/// Where each node of a tree came from, by dotted path (list elements by their index: `cases.0.prompt`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Provenance(BTreeMap<String, Origin>);

impl Provenance {
    /// Who set the value at `path`, or, if nobody set exactly that, the nearest map or list round it.
    pub fn origin(&self, path: &str) -> Option<&Origin> {
        let mut path = path;
        loop {
            if let Some(origin) = self.0.get(path) {
                return Some(origin);
            }
            path = &path[..path.rfind('.')?];
        }
    }
    /// Notes who set the node at `path`.
    pub(super) fn set(&mut self, path: &str, origin: Origin) {
        self.0.insert(path.to_owned(), origin);
    }
    /// Forgets the node at `path` and all below it.
    pub(super) fn forget(&mut self, path: &str) {
        let below = format!("{path}.");
        self.0.retain(|known, _| known != path && !known.starts_with(&below));
    }
    /// All paths with their origins, sorted by path.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.0.iter().map(|(path, origin)| (path.as_str(), origin))
    }
}

/// `parent.key`, or `key` at the root.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_without_its_own_origin_has_that_of_its_parent() {
        let mut provenance = Provenance::default();
        let file = Origin::File { file: "a.yaml".into(), line: 3, embedded: false };
        provenance.set("cases", file.clone());
        assert_eq!(provenance.origin("cases.0.prompt"), Some(&file));
        assert_eq!(provenance.origin("case"), None);
        provenance.set("cases.0", Origin::Derived("x".into()));
        provenance.forget("cases");
        assert_eq!(provenance.origin("cases.0"), None);
    }

    #[test]
    fn an_origin_is_one_line_without_terminal_escapes() {
        let origin = Origin::Override { index: 2, text: "prompt=a\nb\u{1b}[0m".into() };
        assert_eq!(origin.to_string(), "override 2: prompt=a\\nb\\u{1b}[0m");
    }
}
