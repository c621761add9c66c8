//! One file per command: glue between settings, work and reports. No logic of the field lives here.

pub mod validate;

use std::path::PathBuf;

/// What every command gets beside its own options.
#[derive(Debug, Clone)]
pub struct Context {
    /// Print machine-readable JSON on stdout.
    pub json: bool,
    /// Show progress bars on stderr.
    pub progress: bool,
    /// A `configs/` directory that overrides the embedded one (`--config-dir`, else `./configs` if it exists).
    pub config_dir: Option<PathBuf>,
    /// Where run directories are made (`--output-root`, else `./tmp`).
    pub output_root: PathBuf,
}
