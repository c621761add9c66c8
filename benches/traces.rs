//! How long reading and the passes over a timeline take, for a generated trace of 200,000 kernels. `cargo bench --bench traces`.
//!
//! Absolute times of a shared machine are no results; the side-by-side with other tools is `scripts/trace-side-by-side.py`.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark fails as a test does")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use perfprof::analysis::classify::Classifier;
use perfprof::analysis::idle::{IdleOptions, idle};
use perfprof::analysis::intervals::Phases;
use perfprof::analysis::kernel_summary::{SummaryKeys, classify_names, kernel_summary};
use perfprof::analysis::launch::launch;
use perfprof::analysis::nsys_reports::render;
use perfprof::analysis::projection::project;
use perfprof::analysis::steps::PhasePatterns;
use perfprof::compare::attribution::{TraceSettings, TraceSide, attribute_traces};
use perfprof::trace::builder::TimelineBuilder;
use perfprof::trace::import::ReadOptions;
use perfprof::trace::timeline::Timeline;
use perfprof::trace::{chrome, nsys};

const KERNELS: u32 = 200_000;

fn timeline() -> Timeline {
    let mut b = TimelineBuilder::new();
    let process = b.process(1);
    let thread = b.thread(process, 1);
    let device = b.device(0);
    let stream = b.stream(process, device, 7);
    let names: Vec<String> = (0..40).map(|n| format!("void kernel_{n}<__half, (int){n}>(const __half *)")).collect();
    let (mut host, mut gpu) = (0_i64, 0_i64);
    for id in 1..=KERNELS {
        let begin = host;
        b.call(thread, "cudaLaunchKernel_v7000", host, host + 3_000, id);
        host += 4_000;
        gpu = gpu.max(host) + 700 + i64::from(id % 7) * 300;
        let length = 2_000 + i64::from(id % 97) * 50;
        b.kernel(stream, &names[id as usize % names.len()], gpu, gpu + length, id);
        gpu += length;
        b.range(thread, "op", begin, Some(host));
    }
    b.finish()
}

fn traces(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let timeline = timeline();
    let sqlite = directory.path().join("t.sqlite");
    nsys::writer::write(&timeline, &sqlite).unwrap();
    let json = directory.path().join("t.json");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&json).unwrap());
    chrome::writer::write(&timeline, &mut out, &chrome::writer::WriteOptions::default()).unwrap();
    drop(out);

    let mut group = c.benchmark_group("traces");
    group.sample_size(10).throughput(Throughput::Elements(u64::from(KERNELS)));
    group.bench_function("read nsys", |b| b.iter(|| nsys::read(&sqlite, &ReadOptions::default()).unwrap()));
    group.bench_function("read chrome", |b| b.iter(|| chrome::read(&json, &ReadOptions::default()).unwrap()));
    group.bench_function("project", |b| b.iter(|| project(&timeline)));
    let classified = classify_names(&timeline, &Classifier::builtin());
    group.bench_function("kernel summary", |b| {
        b.iter(|| kernel_summary(&timeline, &classified, &SummaryKeys::default()));
    });
    group.bench_function("idle", |b| b.iter(|| idle(&timeline, &IdleOptions::default())));
    let gaps = idle(&timeline, &IdleOptions::default());
    group.bench_function("launch", |b| b.iter(|| launch(&timeline, &gaps, Phases::default())));
    let (classifier, patterns) = (Classifier::builtin(), PhasePatterns::default());
    let settings = TraceSettings { classifier: &classifier, patterns: &patterns, max_rows: 200 };
    let side = TraceSide { label: "a", timeline: &timeline };
    group.bench_function("attribute", |b| b.iter(|| attribute_traces(&side, &side, &settings).unwrap()));
    let report = "cuda_gpu_kern_sum".parse().unwrap();
    group.bench_function("cuda_gpu_kern_sum", |b| b.iter(|| render(report, &timeline)));
    group.finish();
}

criterion_group!(benches, traces);
criterion_main!(benches);
