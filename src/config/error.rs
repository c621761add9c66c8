//! What can be wrong with the settings.

/// A mistake in a configuration file or an override; it says where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {}
