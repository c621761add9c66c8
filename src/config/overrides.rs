//! The grammar of command-line overrides.

use super::ConfigError;

/// Every combination of the alternatives in `arguments` (`a=1,2`, `a=choice(1,2)`, `a=range(1,4)`), the last varying fastest.
pub fn expand_multirun(arguments: &[String]) -> Result<Vec<Vec<String>>, ConfigError> {
    let _ = arguments;
    todo!("follows in the next commit")
}
