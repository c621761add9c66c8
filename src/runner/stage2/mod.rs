//! The workload under nsys and ncu: which commands are run, which kernels are chosen, what became of all of it, and what it says together.
//!
//! How a command is run and where its files go is up to whoever implements [`Stage2Host`].

mod assumptions;
mod drive;
mod examine;
mod kernel_launches;
mod kernel_pattern;
mod metrics;
mod ncu;
mod nsys;
mod profile;
mod select;
mod summary;
pub mod tool;

pub use assumptions::assumptions;
pub use drive::{Ended, Job, Stage2End, Stage2Host, Tools, advice, run};
pub use examine::{Examined, ExaminedProfile, examine, profiles, workload};
pub use metrics::{
    CaptureBlock, KernelProfileBlock, OverheadBasis, OverheadBlock, STAGE2_METRICS_SCHEMA_VERSION, Stage2Metrics,
    WorkloadBlock,
};
pub use summary::{Read, summarize};
