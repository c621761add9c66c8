//! Which kernels ncu looks at, and which of their launches.

use super::kernel_launches::Launches;
use super::ncu::{KernelFilter, Target};
use crate::analysis::kernel_summary::NO_PHASE;
use crate::config::schema::stage2::{CaptureChoice, GateChoice, Stage2Settings};
use crate::runner::analyze::Analysis;
use crate::trace::timeline::Timeline;

/// Phases that are looked at for themselves where nobody asks for others.
const PHASES: [&str; 2] = ["prefill", "decode"];
/// The domain of perfprof's own ranges.
const DOMAIN: &str = "perfprof";

/// A kernel to profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Phase it was chosen for; `None` for all work.
    pub phase: Option<String>,
    /// Demangled name.
    pub name: String,
    /// Mangled name, where the trace has it.
    pub mangled: Option<String>,
    /// How it is profiled.
    pub target: Target,
}

/// What a capture was opened by, and by whom it was run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin<'a> {
    /// Range that opened it, as NAME or NAME@DOMAIN.
    pub range: Option<&'a str>,
    /// True for `perfprof stage1`.
    pub own: bool,
}

/// The kernels of `timeline` to profile: of each phase those with the largest sum of durations.
///
/// Returns them with the phases that were asked for and that the timeline does not have.
pub(super) fn select(
    timeline: &Timeline,
    analysis: &Analysis,
    settings: &Stage2Settings,
    origin: Origin<'_>,
) -> (Vec<Wanted>, Vec<String>) {
    let phases = &analysis.steps.phases;
    let row_of = |name: &str| phases.iter().position(|phase| phase.name == name && phase.kernels > 0);
    let mut missing = Vec::new();
    let chosen: Vec<Option<usize>> = match &settings.ncu.phases {
        Some(names) if names.is_empty() => vec![None],
        Some(names) => {
            missing.extend(names.iter().filter(|name| row_of(name).is_none()).cloned());
            names.iter().filter_map(|name| row_of(name).map(Some)).collect()
        }
        None => {
            let found: Vec<Option<usize>> = PHASES.iter().filter_map(|name| row_of(name).map(Some)).collect();
            if found.is_empty() { vec![None] } else { found }
        }
    };
    let launches = Launches::of(timeline);
    let mut wanted = Vec::new();
    for phase in chosen {
        let of_phase = |row: usize| match phase {
            None => true,
            Some(phase) => analysis.steps.columns.kernel.get(row).copied().unwrap_or(NO_PHASE) == phase as u16,
        };
        let name = phase.and_then(|phase| phases.get(phase)).map(|phase| phase.name.clone());
        for kernel in longest(timeline, &of_phase, settings.ncu.top_n as usize) {
            let numbers = launches.numbers(kernel, &of_phase);
            let names = &timeline.kernel_names[kernel as usize];
            let demangled = timeline.text(names.demangled).to_owned();
            let target = target(settings, origin, name.as_deref(), &numbers, &demangled);
            let mangled = names.mangled.map(|mangled| timeline.text(mangled).to_owned());
            wanted.push(Wanted { phase: name.clone(), name: demangled, mangled, target });
        }
    }
    (wanted, missing)
}

/// Rows of `kernel_names` with the largest sums of durations among the kernels of which `of_phase` is true.
fn longest(timeline: &Timeline, of_phase: &dyn Fn(usize) -> bool, most: usize) -> Vec<u32> {
    let mut sums = vec![0_i64; timeline.kernel_names.len()];
    let mut launched = vec![false; sums.len()];
    for row in (0..timeline.kernels.len()).filter(|row| of_phase(*row)) {
        let name = timeline.kernels.name[row] as usize;
        sums[name] = sums[name].saturating_add(timeline.kernels.duration_ns(row));
        launched[name] = true;
    }
    let mut names: Vec<u32> = (0..sums.len() as u32).filter(|name| launched[*name as usize]).collect();
    let text = |name: u32| timeline.text(timeline.kernel_names[name as usize].demangled);
    names.sort_by(|a, b| sums[*b as usize].cmp(&sums[*a as usize]).then_with(|| text(*a).cmp(text(*b))));
    names.truncate(most);
    names
}

/// `numbers` are those of the launches of the kernel in its phase, among all of its launches.
fn target(settings: &Stage2Settings, origin: Origin<'_>, phase: Option<&str>, numbers: &[u64], name: &str) -> Target {
    let ncu = &settings.ncu;
    let count = ncu.launch_count;
    // Of few launches the last ones are better than none.
    let first = (numbers.len() as u64).saturating_sub(u64::from(count)).min(u64::from(ncu.launch_skip));
    let whole_run = settings.nsys.capture == CaptureChoice::None;
    let from_start = settings.nsys.capture != CaptureChoice::CudaProfilerApi;
    let nvtx = match (ncu.gate, origin.range, phase) {
        (GateChoice::None, _, _) | (GateChoice::Nvtx, None, None) | (GateChoice::Launches, None, _) => None,
        // Where the capture began in mid-run, nobody knows how many launches came before.
        (_, Some(range), _) => Some(include(range)),
        (GateChoice::Nvtx, None, Some(phase)) if origin.own => Some(include(&format!("{phase}@{DOMAIN}"))),
        (GateChoice::Nvtx, None, Some(phase)) => Some(include(phase)),
    };
    let by_number = ncu.gate == GateChoice::Launches && (whole_run || !from_start);
    let skip = if by_number && nvtx.is_none() { numbers.get(first as usize).copied().unwrap_or(first) } else { first };
    Target { filter: KernelFilter::Demangled(name.to_owned()), skip, count, nvtx, from_start }
}

/// NAME or NAME@DOMAIN of nsys as the push/pop range of ncu.
fn include(range: &str) -> String {
    match range.split_once('@') {
        Some((name, domain)) if domain != "*" && !domain.is_empty() => format!("{domain}@{name}/"),
        Some((name, _)) => format!("{name}/"),
        None => format!("{range}/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::classify::Classifier;
    use crate::analysis::steps::PhasePatterns;
    use crate::config::compose::{ComposeRequest, compose};
    use crate::estimate::format::Format;
    use crate::runner::analyze::{AnalyzeSettings, PeakSettings, analyze};
    use crate::trace::builder::TimelineBuilder;

    fn settings(overrides: &[&str]) -> Stage2Settings {
        let overrides = overrides.iter().map(|text| (*text).to_owned()).collect();
        let request = ComposeRequest { command: "stage2".to_owned(), overrides, ..ComposeRequest::default() };
        compose(&request).unwrap().stage2().unwrap().stage2
    }

    /// Two generations of a prefill and three decode steps. `gemm` runs in both phases, 3 times in prefill and twice in a decode step.
    fn timeline() -> Timeline {
        let mut b = TimelineBuilder::new();
        let process = b.process(7);
        let thread = b.thread(process, 7);
        let device = b.device(0);
        let stream = b.stream(process, device, 7);
        let (mut now, mut id) = (1_000_000_i64, 1_u32);
        for _ in 0..2 {
            for step in 0..4 {
                let (phase, kernels): (&str, &[(&str, i64)]) = if step == 0 {
                    ("prefill", &[("gemm", 90_000), ("gemm", 90_000), ("gemm", 90_000), ("flash", 50_000)])
                } else {
                    ("decode", &[("gemv", 30_000), ("gemm", 5_000), ("gemm", 5_000), ("tiny", 1_000)])
                };
                let begin = now;
                for (name, length) in kernels {
                    b.call(thread, "cudaLaunchKernel", now, now + 1_000, id);
                    b.kernel(stream, name, now + 2_000, now + 2_000 + length, id);
                    now += length + 3_000;
                    id += 1;
                }
                b.range(thread, phase, begin, Some(now));
                now += 10_000;
            }
        }
        b.finish()
    }

    fn selected(overrides: &[&str], range: Option<&str>) -> (Vec<Wanted>, Vec<String>) {
        let timeline = timeline();
        let (classifier, patterns) = (Classifier::builtin(), PhasePatterns::default());
        let peaks = PeakSettings { flops_per_s: None, bytes_per_s: None, dtype: Format::BF16 };
        let told = AnalyzeSettings {
            classifier: &classifier,
            patterns: &patterns,
            workload: None,
            peaks: &peaks,
            window_ns: None,
            progress: &|_| {},
        };
        let analysis = analyze(&timeline, &told).unwrap();
        select(&timeline, &analysis, &settings(overrides), Origin { range, own: true })
    }

    fn names(wanted: &[Wanted]) -> Vec<(&str, &str, u64)> {
        let phase = |wanted: &Wanted| match wanted.phase.as_deref() {
            Some("prefill") => "prefill",
            Some("decode") => "decode",
            _ => "all",
        };
        wanted.iter().map(|wanted| (phase(wanted), wanted.name.as_str(), wanted.target.skip)).collect()
    }

    #[test]
    fn the_longest_kernels_of_each_phase_are_met_at_their_launches() {
        let (wanted, missing) = selected(&["stage2.ncu.top_n=2"], None);
        // Launches of gemm by number: 0 1 2 in the first prefill, 3..=8 in its decode steps, 9 10 11 in the second prefill.
        // One launch of each phase is passed over.
        let expected = [("prefill", "gemm", 1), ("prefill", "flash", 1), ("decode", "gemv", 1), ("decode", "gemm", 4)];
        assert_eq!(names(&wanted), expected);
        assert!(missing.is_empty());
        assert!(wanted.iter().all(|wanted| wanted.target.nvtx.is_none() && wanted.target.from_start));
        let (wanted, _) = selected(&["stage2.ncu.top_n=1", "stage2.ncu.launch_skip=4"], None);
        assert_eq!(names(&wanted), [("prefill", "gemm", 10), ("decode", "gemv", 4)]);
        // Six launches of gemv are all there are: of two from the sixth on, the last two are taken.
        let (wanted, _) = selected(
            &[
                "stage2.ncu.phases=[decode]",
                "stage2.ncu.top_n=1",
                "stage2.ncu.launch_skip=9",
                "stage2.ncu.launch_count=2",
            ],
            None,
        );
        assert_eq!(names(&wanted), [("decode", "gemv", 4)]);
    }

    #[test]
    fn phases_are_those_asked_for() {
        let (wanted, missing) = selected(&["stage2.ncu.phases=[decode,encode]", "stage2.ncu.top_n=9"], None);
        assert_eq!(names(&wanted).iter().map(|row| row.1).collect::<Vec<_>>(), ["gemv", "gemm", "tiny"]);
        assert_eq!(missing, ["encode"]);
        let (wanted, _) = selected(&["stage2.ncu.phases=[]", "stage2.ncu.top_n=1", "stage2.ncu.launch_skip=0"], None);
        assert_eq!(names(&wanted), [("all", "gemm", 0)]);
    }

    #[test]
    fn a_filter_stands_where_numbers_mean_nothing() {
        let (wanted, _) = selected(&["stage2.ncu.top_n=1", "stage2.ncu.gate=nvtx"], None);
        let gates: Vec<_> = wanted.iter().map(|wanted| (wanted.target.nvtx.as_deref(), wanted.target.skip)).collect();
        assert_eq!(gates, [(Some("perfprof@prefill/"), 1), (Some("perfprof@decode/"), 1)]);
        let (wanted, _) = selected(
            &["stage2=per_phase", "stage2.ncu.top_n=1", "stage2.ncu.phases=[decode]"],
            Some("decode@perfprof"),
        );
        assert_eq!((wanted[0].target.nvtx.as_deref(), wanted[0].target.skip), (Some("perfprof@decode/"), 1));
        let (wanted, _) = selected(&["stage2.nsys.capture=cuda_profiler_api", "stage2.ncu.top_n=1"], None);
        assert!(!wanted[0].target.from_start);
        assert_eq!((include("a"), include("a@*"), include("a@b")), ("a/".into(), "a/".into(), "b@a/".into()));
    }
}
