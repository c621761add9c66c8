//! What a comparison costs beyond reading its files: two timelines of a million kernels, and the intervals of fifty measures of a thousand rows.
//! `cargo bench --bench compare`.
//!
//! Times are CPU time of the process, all threads together, so that neighbours on the machine do not enter. Results with their machine are in
//! `docs/results/compare-speed.md`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark fails as a test does")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use perfprof::analysis::classify::Classifier;
use perfprof::analysis::coverage::coverage;
use perfprof::analysis::projection::project;
use perfprof::analysis::steps::{PhasePatterns, steps};
use perfprof::compare::attribution::{TraceSettings, TraceSide, attribute_traces};
use perfprof::compare::import::trace::{TraceParts, trace_subject};
use perfprof::compare::judge::judge;
use perfprof::compare::settings::CompareSettings;
use perfprof::compare::subject::Subject;
use perfprof::stats::bootstrap::{Bootstrap, Generator, RESAMPLES, Statistic};
use perfprof::stats::ratio::{Design, Groups, bca_interval, ratio_interval_with};
use perfprof::trace::builder::TimelineBuilder;
use perfprof::trace::timeline::Timeline;

const KERNELS: u32 = 1_000_000;
const LAYERS: u32 = 32;
/// Kernels of one layer: name, module, nanoseconds in a decode step.
const LAYER: [(&str, &str, u64); 13] = [
    ("void rmsnorm<__half>(const __half *)", "input_norm", 2_200),
    ("void cutlass::Kernel2<cutlass_80_tensorop_f16_s16816gemm_128x256>(Params)", "q_proj", 9_000),
    ("ampere_fp16_s16816gemm_fp16_64x64_sliced1x2_ldg8_f2f_stages_64x5_tn", "k_proj", 5_200),
    ("sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x128x64", "v_proj", 5_200),
    ("void rope_thd<__half>(const __half *)", "rope", 1_800),
    ("copy2d_f16", "kv_append", 1_600),
    ("void flash_fwd_splitkv_kernel<Flash_fwd_kernel_traits<(int)128>>(Flash_fwd_params)", "attn", 11_000),
    ("void gemvNSP_kernel<__half, __half, __half, float>(cublasGemvParamsEx<int>)", "o_proj", 8_800),
    ("badd_f16", "residual", 1_700),
    ("void rmsnorm<__half>(const __half *)", "post_norm", 2_200),
    ("void cutlass::device_kernel<GemmUniversal<>>(Params)", "gate_up", 21_000),
    ("void silu_and_mul<__half>(__half *)", "silu_mul", 2_000),
    ("void cublasLt::splitKreduce_kernel<(int)32>(cublasSplitKParams)", "down_proj", 12_000),
];

fn cpu_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is a valid, writable timespec for the length of the call, which keeps no pointer to it.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut now) }, 0);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Measures CPU time in place of time on the clock.
fn cpu<T>(bencher: &mut Bencher<'_>, mut work: impl FnMut() -> T) {
    bencher.iter_custom(|times| {
        let begin = cpu_time();
        for _ in 0..times {
            black_box(work());
        }
        cpu_time().saturating_sub(begin)
    });
}

/// Decode steps of a model, each launched kernel by kernel from inside named ranges; attention takes `slow` times as long.
fn timeline(seed: u64, slow: f64) -> Timeline {
    let mut random = Generator::new(seed);
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let thread = b.thread(process, 1);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    let (mut host, mut gpu, mut id) = (1_000_i64, 0_i64, 0);
    while id < KERNELS {
        let step = host;
        for layer in 0..LAYERS {
            let begin = host;
            for (name, module, ns) in LAYER {
                id += 1;
                let call = host;
                b.call(thread, "cudaLaunchKernel_v7000", call, call + 3_000, id);
                host += 3_500;
                gpu = (gpu + 700).max(call + 4_200);
                let slow = if module == "attn" { slow } else { 1.0 };
                let length = (ns as f64 * slow * (0.9 + 0.2 * random.uniform())) as i64;
                b.kernel(stream, name, gpu, gpu + length, id);
                gpu += length;
                b.range(thread, module, call, Some(host));
            }
            b.range(thread, &format!("layer.{layer}"), begin, Some(host));
        }
        host = host.max(gpu) + 5_000;
        b.range(thread, "decode", step, Some(host));
    }
    b.finish()
}

fn subject(label: &str, timeline: &Timeline) -> Subject {
    let (coverage, projection) = (coverage(timeline), project(timeline));
    let steps = steps(timeline, &projection, &PhasePatterns::default()).unwrap();
    let files = [format!("{label}.sqlite")];
    let parts = TraceParts { timeline, coverage: &coverage, steps: &steps, files: &files, diagnostics: &[] };
    Subject { label: label.to_owned(), ..trace_subject(&parts) }
}

fn traces(c: &mut Criterion) {
    let sides = [("base", timeline(1, 1.0)), ("slow", timeline(2, 1.2))];
    let (classifier, patterns) = (Classifier::builtin(), PhasePatterns::default());
    let settings = TraceSettings { classifier: &classifier, patterns: &patterns, max_rows: 200 };
    let [before, after] = [0, 1].map(|at: usize| TraceSide { label: sides[at].0, timeline: &sides[at].1 });
    let mut group = c.benchmark_group("two timelines of 1 M kernels, CPU time");
    group.sample_size(10).throughput(Throughput::Elements(u64::from(2 * KERNELS)));
    group.bench_function("attribute", |bencher| {
        cpu(bencher, || attribute_traces(&before, &after, &settings).unwrap());
    });
    group.bench_function("steps, subjects and verdicts", |bencher| {
        cpu(bencher, || {
            let subjects = [subject("base", &sides[0].1), subject("slow", &sides[1].1)];
            judge(&subjects, &[], Vec::new(), &CompareSettings::default()).unwrap()
        });
    });
    group.finish();
}

/// Fifty measures of a thousand rows, log-normal; of the candidate 1 % slower.
fn measures() -> Vec<[Vec<f64>; 2]> {
    let mut random = Generator::new(7);
    let mut rows = |scale: f64| -> Vec<f64> {
        // Twelve uniform numbers less six are normal enough for a benchmark.
        let normal = |random: &mut Generator| (0..12).map(|_| random.uniform()).sum::<f64>() - 6.0;
        (0..1000).map(|_| scale * (0.3 * normal(&mut random)).exp()).collect()
    };
    (0..50).map(|_| [rows(1.01), rows(1.0)]).collect()
}

fn intervals(c: &mut Criterion) {
    let measures = measures();
    let mut group = c.benchmark_group("10,000 resamples of 50 measures of 1,000 + 1,000 rows, CPU time");
    group.sample_size(10).throughput(Throughput::Elements(50));
    for (name, statistic) in
        [("mean", Statistic::Mean), ("median", Statistic::Median), ("p99", Statistic::Quantile { per_mille: 990 })]
    {
        group.bench_function(format!("BCa, {name}"), |bencher| {
            cpu(bencher, || {
                let mut bootstrap = Bootstrap::new(RESAMPLES, 1);
                let bca = |[candidate, baseline]: &[Vec<f64>; 2]| {
                    bca_interval(&mut bootstrap, candidate, baseline, statistic, 0.95).unwrap()
                };
                measures.iter().map(bca).collect::<Vec<_>>()
            });
        });
        let groups: Vec<[Groups; 2]> = measures.iter().map(|sides| sides.clone().map(Groups::single)).collect();
        group.bench_function(format!("what compare reports, {name}"), |bencher| {
            cpu(bencher, || {
                let mut bootstrap = Bootstrap::new(RESAMPLES, 1);
                let ratio = |[candidate, baseline]: &[Groups; 2]| {
                    ratio_interval_with(&mut bootstrap, candidate, baseline, statistic, Design::Independent, 0.95)
                        .unwrap()
                };
                groups.iter().map(ratio).collect::<Vec<_>>()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, traces, intervals);
criterion_main!(benches);
