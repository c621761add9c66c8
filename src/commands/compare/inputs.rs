//! Opens what is to be compared: runs by id, tag or path, traces, and result files of other tools.

use std::path::{Path, PathBuf};

use crate::analysis::coverage::Coverage;
use crate::analysis::projection::Projection;
use crate::analysis::steps::Steps;
use crate::compare::subject::Subject;
use crate::diagnostics::{ExitStatus, Failure};
use crate::trace::timeline::Timeline;

/// What loading is told beside the name.
#[derive(Clone, Copy)]
pub struct LoadOptions<'a> {
    /// Where runs are looked for (`--output-root`).
    pub root: &'a Path,
    /// Read past damaged rows and count them as lost.
    pub salvage: bool,
    /// Asked now and then while a trace is read.
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
}

impl std::fmt::Debug for LoadOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadOptions").field("root", &self.root).field("salvage", &self.salvage).finish_non_exhaustive()
    }
}

/// A trace in memory with what was worked out about it, for the attribution of a difference.
#[derive(Debug)]
pub struct LoadedTrace {
    /// The files, in order.
    pub paths: Vec<PathBuf>,
    /// All of them as one.
    pub timeline: Timeline,
    /// Ranges and the work launched inside them.
    pub projection: Projection,
    /// Phases and steps.
    pub steps: Steps,
    /// What the trace can say.
    pub coverage: Coverage,
}

/// One side of a comparison as it was found.
#[derive(Debug)]
pub struct Loaded {
    /// The values.
    pub subject: Subject,
    /// The trace, where one was given or an analysed run names files that are still there.
    pub trace: Option<LoadedTrace>,
    /// Operator spans of a stage1 run that recorded some.
    pub spans: Option<Timeline>,
    /// The run directory, if it is one.
    pub run_dir: Option<PathBuf>,
}

/// Loads what `spec` names: a run (id, tag, `latest`, path), a trace, or a result file; `label` is what the user wants it called.
///
/// # Errors
/// If nothing of that name can be read, or what is there cannot be compared.
pub fn load_subject(spec: &str, label: Option<&str>, options: &LoadOptions<'_>) -> anyhow::Result<Loaded> {
    let _ = (label, options);
    Err(Failure::new(ExitStatus::Usage, format!("`{spec}` cannot be read yet")).into())
}
