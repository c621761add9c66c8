//! The kernels compile for every device we support, without a warning and without a spilled register.
//!
//! nvcc is needed, a GPU is not: `CUDA_HOME`, or the toolkit that `scripts/cuda-toolkit.sh` puts into `.cuda/`. Without either the tests say
//! so and pass. `PERFPROF_ALL_KERNELS=1` compiles every combination of macros, which takes most of an hour on two cores.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests are tests, and a skipped one must say so"
)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use perfprof::engine::gpu::kernel::SOURCES;

/// One compilation.
#[derive(Debug, Clone)]
struct Unit {
    source: &'static str,
    architecture: u32,
    defines: Vec<(&'static str, u32)>,
}

impl Unit {
    fn new(source: &'static str, architecture: u32, defines: &[(&'static str, u32)]) -> Self {
        Self { source, architecture, defines: defines.to_vec() }
    }

    fn name(&self) -> String {
        let defines: Vec<String> = self.defines.iter().map(|(name, value)| format!("{name}={value}")).collect();
        format!("{} sm_{} {}", self.source, self.architecture, defines.join(" "))
    }
}

fn gemv(architecture: u32, half: u32, weight: u32, batch: u32, input: u32, output: u32) -> Unit {
    let defines =
        [("PP_T", half), ("PP_WEIGHT", weight), ("PP_BATCH", batch), ("PP_INPUT", input), ("PP_OUTPUT", output)];
    Unit::new("gemv.cu", architecture, &defines)
}

/// Sources whose only macro is the 16-bit type.
const PLAIN: [&str; 7] =
    ["embedding.cu", "rms_norm.cu", "rope_kv.cu", "swiglu.cu", "bias.cu", "sampling.cu", "memory.cu"];

/// Each source once, and the shapes whose registers are fewest to spare.
fn representative() -> Vec<Unit> {
    let mut units: Vec<Unit> = PLAIN.iter().map(|source| Unit::new(source, 90, &[("PP_T", 1)])).collect();
    units.push(Unit::new("dequantize.cu", 80, &[("PP_T", 0), ("PP_WEIGHT", 3)]));
    units.extend([
        gemv(90, 1, 0, 1, 1, 0),
        gemv(90, 1, 0, 1, 1, 2),
        gemv(90, 0, 1, 1, 0, 1),
        gemv(90, 1, 2, 1, 1, 2),
        gemv(80, 1, 3, 2, 1, 3),
        gemv(89, 0, 1, 3, 1, 2),
        gemv(90, 1, 0, 8, 1, 2),
        gemv(90, 1, 3, 8, 1, 2),
    ]);
    for (architecture, half, head_dim, group) in [(90, 1, 128, 4), (80, 0, 64, 7), (89, 1, 256, 16)] {
        let defines = [("PP_T", half), ("PP_HEAD_DIM", head_dim)];
        units.push(Unit::new("attention_prefill.cu", architecture, &defines));
        let defines = [("PP_T", half), ("PP_HEAD_DIM", head_dim), ("PP_GROUP", group)];
        units.push(Unit::new("attention_decode.cu", architecture, &defines));
    }
    units
}

/// Every combination a decoder may ask for.
fn all() -> Vec<Unit> {
    let mut units = Vec::new();
    for architecture in [80, 89, 90] {
        for half in [0, 1] {
            units.extend(PLAIN.iter().map(|source| Unit::new(source, architecture, &[("PP_T", half)])));
            for weight in 1..4 {
                units.push(Unit::new("dequantize.cu", architecture, &[("PP_T", half), ("PP_WEIGHT", weight)]));
            }
            for weight in 0..4 {
                for batch in 1..=8 {
                    for (input, output) in [(0, 0), (0, 1), (0, 3), (1, 0), (1, 2), (1, 3)] {
                        units.push(gemv(architecture, half, weight, batch, input, output));
                    }
                }
            }
            for head_dim in (16..=256).step_by(16) {
                let defines = [("PP_T", half), ("PP_HEAD_DIM", head_dim)];
                units.push(Unit::new("attention_prefill.cu", architecture, &defines));
                // 8 heads or fewer are one kernel, more another.
                for group in [1, 4, 7, 8, 16] {
                    let defines = [("PP_T", half), ("PP_HEAD_DIM", head_dim), ("PP_GROUP", group)];
                    units.push(Unit::new("attention_decode.cu", architecture, &defines));
                }
            }
        }
    }
    units
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The home of a toolkit with nvcc.
fn toolkit() -> Option<PathBuf> {
    let named = std::env::var_os("CUDA_HOME").map(PathBuf::from);
    let homes = named.into_iter().chain([root().join(".cuda/toolkit")]);
    homes.into_iter().find(|home| home.join("bin/nvcc").is_file())
}

/// What is wrong with a compilation; `None` if nothing is.
fn fault(home: &Path, source: &Path, unit: &Unit, out: &Path) -> Option<String> {
    let mut nvcc = Command::new(home.join("bin/nvcc"));
    nvcc.args(["-std=c++17", "-cubin", "-Werror", "all-warnings", "-Xptxas", "-v,-warn-spills"]);
    nvcc.env("CUDA_HOME", home).arg(format!("-arch=sm_{}", unit.architecture));
    nvcc.args(unit.defines.iter().map(|(name, value)| format!("-D{name}={value}")));
    let output = nvcc.arg("-o").arg(out).arg(source).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    let spills = text.lines().filter(|line| line.contains("bytes spill stores"));
    let mut reports = 0;
    let mut is_clean = output.status.success() && !text.contains("warning");
    for line in spills {
        reports += 1;
        is_clean &= line.contains(" 0 bytes spill stores, 0 bytes spill loads");
    }
    // Without a report nothing was learned.
    (!is_clean || reports == 0).then(|| format!("{}:\n{text}", unit.name()))
}

/// Compiles on all cores; what is wrong.
fn faults(home: &Path, directory: &Path, units: &[Unit]) -> Vec<String> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let out = tempfile::tempdir().unwrap();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(unit) = units.get(at) else { break };
                    let source = directory.join(unit.source);
                    let fault = fault(home, &source, unit, &out.path().join(format!("{at}.cubin")));
                    found.lock().unwrap().extend(fault);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// The toolkit, or a word on why nothing is compiled.
fn toolkit_or_word() -> Option<PathBuf> {
    let home = toolkit();
    if home.is_none() {
        eprintln!("skipped: no nvcc in CUDA_HOME or .cuda/toolkit; scripts/cuda-toolkit.sh fetches one");
    }
    home
}

#[test]
fn kernels_compile_without_warnings_or_spills() {
    for units in [representative(), all()] {
        let named: BTreeSet<_> = units.iter().map(|unit| unit.source).collect();
        assert_eq!(named, SOURCES.iter().map(|source| source.name).collect(), "sources that are compiled");
    }
    let Some(home) = toolkit_or_word() else { return };
    let every = std::env::var("PERFPROF_ALL_KERNELS").is_ok_and(|value| value == "1");
    let units = if every { all() } else { representative() };
    let faults = faults(&home, &root().join("kernels"), &units);
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), units.len(), faults.join("\n"));
}

#[test]
fn warnings_and_spills_are_found() {
    let Some(home) = toolkit_or_word() else { return };
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("right.cu", "extern \"C\" __global__ void right(int* x) { *x = 1; }\n");
    write("warns.cu", "extern \"C\" __global__ void warns(int* x) { int unused = 1; *x = 1; }\n");
    // 64 values alive at once where two blocks of 1024 threads leave each thread 32 registers.
    write(
        "spills.cu",
        "extern \"C\" __global__ void __launch_bounds__(1024, 2) spills(float* x) {\n\
         float v[64];\n\
         _Pragma(\"unroll\") for (int i = 0; i < 64; i++) v[i] = x[i * 7];\n\
         __syncthreads();\n\
         _Pragma(\"unroll\") for (int i = 0; i < 64; i++) x[i] = v[63 - i] * v[i];\n}\n",
    );
    let faults = |name| faults(&home, directory.path(), &[Unit::new(name, 90, &[])]);
    assert_eq!(faults("right.cu"), Vec::<String>::new());
    assert!(faults("warns.cu").concat().contains("never referenced"));
    assert!(faults("spills.cu").concat().contains("spill"));
}
