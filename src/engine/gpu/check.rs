//! STUB
#![allow(missing_docs, unused_variables)]
use super::backend::*;
#[derive(Debug, Clone, serde::Serialize)]
pub struct CheckResult {
    pub kernel: &'static str,
    pub case: String,
    pub max_error: f64,
    pub tolerance: f64,
    pub worst_index: usize,
    pub ok: bool,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    Full,
    Small,
}
pub fn run(
    b: &dyn GpuBackend,
    half: HalfType,
    seed: u64,
    filter: Option<&str>,
    scale: Scale,
    progress: &mut dyn FnMut(&CheckResult),
) -> Vec<CheckResult> {
    Vec::new()
}
