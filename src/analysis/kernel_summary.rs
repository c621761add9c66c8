//! Operator summary: where the device time goes, by kernel name and class and, as asked, by phase, module, device and stream.
//!
//! Times are sums of durations: work that overlaps on several streams counts as often as it runs. `total_ns` of all rows is therefore no
//! wall-clock time; see the analyses of busy time for unions. Shares are of the summed time of kernels, as in `nsys stats
//! cuda_gpu_kern_sum`; copies and memory sets stand beside it, as there. Percentiles are type 7 (see [`crate::stats::quantile`]), over
//! every call: no sampling. Kernels inside graphs that were traced as a whole are not in the trace and so not here; see
//! [`KernelSummary::whole_graphs`].

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::classify::{Classified, KernelClass};
use super::kernel_names::{demangle, prefix, shorten};
use crate::stats::quantile::{quantile_of_sorted, supported};
use crate::trace::activity::CopyKind;
use crate::trace::timeline::Timeline;

/// Names in the result are cut to this.
const MAX_FULL_NAME_BYTES: usize = 4096;

/// Names listed in [`Coverage::top_unclassified`].
const TOP_UNCLASSIFIED: usize = 20;

/// "No phase" in a phase column.
pub const NO_PHASE: u16 = u16::MAX;

/// Columns beside the timeline that rows may be grouped by; all `None` for none. Each has one entry for each row of its table.
#[derive(Debug, Clone, Copy, Default)]
pub struct SummaryKeys<'a> {
    /// Names the phase columns point into.
    pub phase_names: &'a [String],
    /// Phase of each kernel, or [`NO_PHASE`].
    pub kernel_phase: Option<&'a [u16]>,
    /// Phase of each copy, or [`NO_PHASE`].
    pub copy_phase: Option<&'a [u16]>,
    /// Phase of each memory set, or [`NO_PHASE`].
    pub memset_phase: Option<&'a [u16]>,
    /// Names the module column points into (modules or layers).
    pub module_names: &'a [String],
    /// Module of each kernel, or [`crate::trace::places::NO_ROW`].
    pub kernel_module: Option<&'a [u32]>,
    /// A row for each device instead of one over all.
    pub by_device: bool,
    /// A row for each stream instead of one over all; implies `by_device`.
    pub by_stream: bool,
    /// Rows kept, largest total first; 0 for all. The rest is summed up in `KernelSummary::remainder`.
    pub max_rows: usize,
}

/// Which table of the timeline a row sums up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Kernels.
    Kernel,
    /// Copies, by kind.
    Copy,
    /// Memory sets.
    Memset,
}

/// One row: the calls of one kernel name (or one kind of copy) in one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelSummaryRow {
    /// Which table it sums up.
    pub activity: Activity,
    /// What it does.
    pub class: KernelClass,
    /// Rule that gave the class; none if unclassified and for copies and memory sets.
    pub rule: Option<String>,
    /// Shortened name, with ` #2` and so on where two kernels shorten to the same; or the label of a copy kind.
    pub name: String,
    /// Demangled name, cut at 4096 bytes.
    pub full_name: String,
    /// Phase, where grouped by it and known.
    pub phase: Option<String>,
    /// Module or layer, where grouped by it and known.
    pub module: Option<String>,
    /// Row of `Timeline::devices`, where grouped by it.
    pub device: Option<u32>,
    /// Row of `Timeline::streams`, where grouped by it.
    pub stream: Option<u32>,
    /// Number of calls.
    pub calls: u64,
    /// Sum of durations, ns.
    pub total_ns: i64,
    /// Mean duration, ns.
    pub mean_ns: f64,
    /// Shortest, ns.
    pub min_ns: i64,
    /// Median, ns (type 7, see [`crate::stats::quantile`]).
    pub p50_ns: f64,
    /// 95th percentile, ns.
    pub p95_ns: f64,
    /// 99th percentile, ns.
    pub p99_ns: f64,
    /// Longest, ns.
    pub max_ns: i64,
    /// Sample standard deviation (n − 1), ns; `None` for one call.
    pub std_ns: Option<f64>,
    /// Whether `calls` supports the 95th percentile ([`crate::stats::quantile::supported`]).
    pub p95_supported: bool,
    /// Whether `calls` supports the 99th percentile.
    pub p99_supported: bool,
    /// Share of the kernel time of its phase; `None` without phases, for copies and memory sets, and where that time is 0.
    pub share_of_phase: Option<f64>,
    /// Share of the time of all kernels; `None` for copies and memory sets, and where that time is 0.
    pub share: Option<f64>,
    /// Bytes moved or set, for copies and memory sets.
    pub bytes: Option<u64>,
}

/// Totals of a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClassTotal {
    /// Which table it sums up.
    pub activity: Activity,
    /// The class.
    pub class: KernelClass,
    /// Phase, where grouped by it and known.
    pub phase: Option<String>,
    /// Distinct names, or kinds of copy.
    pub names: u64,
    /// Number of calls.
    pub calls: u64,
    /// Sum of durations, ns.
    pub total_ns: i64,
    /// As for a row.
    pub share_of_phase: Option<f64>,
    /// As for a row.
    pub share: Option<f64>,
}

/// How much of the kernels the classes cover.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// Kernels launched.
    pub kernels: u64,
    /// Kernels of a known class.
    pub classified: u64,
    /// Time of all kernels (sum), ns.
    pub kernel_ns: i64,
    /// Time of the kernels of a known class (sum), ns.
    pub classified_ns: i64,
    /// Unclassified names with the most time, at most 20.
    pub top_unclassified: Vec<UnclassifiedName>,
    /// Distinct unclassified names.
    pub unclassified_names: u64,
}

/// A name no rule knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnclassifiedName {
    /// Demangled name, cut at 4096 bytes.
    pub full_name: String,
    /// Number of calls.
    pub calls: u64,
    /// Sum of durations, ns.
    pub total_ns: i64,
}

/// Calls and their time, together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryRemainder {
    /// Rows left out, or distinct graphs.
    pub rows: u64,
    /// Their calls.
    pub calls: u64,
    /// Their sum of durations, ns.
    pub total_ns: i64,
}

/// The operator summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KernelSummary {
    /// Rows by total time, descending; ties by name, then by group.
    pub rows: Vec<KernelSummaryRow>,
    /// What `max_rows` left out.
    pub remainder: SummaryRemainder,
    /// Totals of classes (by phase where grouped by it), descending; never cut.
    pub classes: Vec<ClassTotal>,
    /// How much is classified.
    pub coverage: Coverage,
    /// Launches of graphs recorded as a whole: their kernels are in no row.
    pub whole_graphs: SummaryRemainder,
}

/// Classifies every kernel name of a timeline once: one entry for each row of `Timeline::kernel_names`.
pub fn classify_names(timeline: &Timeline, classifier: &super::classify::Classifier) -> Vec<Classified> {
    timeline
        .kernel_names
        .iter()
        .map(|name| classifier.classify(timeline.text(name.demangled), timeline.text(name.short)))
        .collect()
}

/// Summarises the kernels, copies and memory sets of a timeline.
///
/// `classified` has one entry for each row of `Timeline::kernel_names`, see [`classify_names`]; missing entries count as unclassified. Takes
/// time O(n log n) for n calls and, beside the result, 12 bytes for each.
pub fn kernel_summary(timeline: &Timeline, classified: &[Classified], keys: &SummaryKeys<'_>) -> KernelSummary {
    let unknown = Classified::default();
    let class_of = |name: u32| classified.get(name as usize).unwrap_or(&unknown);
    let mut groups = kernel_groups(timeline, keys);
    groups.extend(copy_groups(timeline, keys));
    groups.extend(memset_groups(timeline, keys));

    let kernel_ns =
        sum(groups.iter().filter(|group| group.key.activity == Activity::Kernel).map(|group| group.stats.total_ns));
    let mut phase_ns = vec![0_i64; keys.phase_names.len()];
    for group in groups.iter().filter(|group| group.key.activity == Activity::Kernel) {
        if let Some(total) = group.key.phase.and_then(|phase| phase_ns.get_mut(usize::from(phase))) {
            *total = total.saturating_add(group.stats.total_ns);
        }
    }
    let shares = |key: &Key, total_ns: i64| {
        let is_kernel = key.activity == Activity::Kernel;
        let of = |whole: i64| (is_kernel && whole > 0).then(|| total_ns as f64 / whole as f64);
        (key.phase.and_then(|phase| of(phase_ns[usize::from(phase)])), of(kernel_ns))
    };

    let classes = class_totals(&groups, class_of, &shares, keys);
    let coverage = coverage(timeline, &groups, class_of, kernel_ns);
    let (names, full_names) = row_names(timeline, classified, &groups);
    let mut rows: Vec<(&Group, &str)> = groups.iter().zip(names.iter().map(String::as_str)).collect();
    rows.sort_by(|(a, a_name), (b, b_name)| {
        (b.stats.total_ns, *a_name, a.key).cmp(&(a.stats.total_ns, *b_name, b.key))
    });
    let kept = if keys.max_rows == 0 { rows.len() } else { keys.max_rows.min(rows.len()) };
    let rest = &rows[kept..];
    let remainder = SummaryRemainder {
        rows: rest.len() as u64,
        calls: rest.iter().map(|(group, _)| group.stats.calls).sum(),
        total_ns: sum(rest.iter().map(|(group, _)| group.stats.total_ns)),
    };
    let row = |(group, name): &(&Group, &str)| {
        let Group { key, stats, bytes } = group;
        let (class, rule) = match key.activity {
            Activity::Kernel => (class_of(key.name).class, class_of(key.name).rule.clone()),
            Activity::Copy => (KernelClass::Memcpy, None),
            Activity::Memset => (KernelClass::Memset, None),
        };
        let (share_of_phase, share) = shares(key, stats.total_ns);
        KernelSummaryRow {
            activity: key.activity,
            class,
            rule,
            name: (*name).to_owned(),
            full_name: full_names.get(&(key.activity, key.name)).cloned().unwrap_or_default(),
            phase: key.phase.map(|phase| keys.phase_names[usize::from(phase)].clone()),
            module: key.module.map(|module| keys.module_names[module as usize].clone()),
            device: key.device,
            stream: key.stream,
            calls: stats.calls,
            total_ns: stats.total_ns,
            mean_ns: stats.mean_ns,
            min_ns: stats.min_ns,
            p50_ns: stats.p50_ns,
            p95_ns: stats.p95_ns,
            p99_ns: stats.p99_ns,
            max_ns: stats.max_ns,
            std_ns: stats.std_ns,
            p95_supported: supported(0.95, stats.calls),
            p99_supported: supported(0.99, stats.calls),
            share_of_phase,
            share,
            bytes: *bytes,
        }
    };
    KernelSummary {
        rows: rows[..kept].iter().map(row).collect(),
        remainder,
        classes,
        coverage,
        whole_graphs: whole_graphs(timeline),
    }
}

/// What a row is grouped by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key {
    activity: Activity,
    /// Row of `kernel_names`, or kind of copy.
    name: u32,
    phase: Option<u16>,
    module: Option<u32>,
    device: Option<u32>,
    stream: Option<u32>,
}

/// The calls of one key.
#[derive(Debug, Clone)]
struct Group {
    key: Key,
    stats: Stats,
    bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Stats {
    calls: u64,
    total_ns: i64,
    mean_ns: f64,
    min_ns: i64,
    p50_ns: f64,
    p95_ns: f64,
    p99_ns: f64,
    max_ns: i64,
    std_ns: Option<f64>,
}

/// Sum that stays at the end of the range instead of wrapping: durations come from files.
fn sum(values: impl Iterator<Item = i64>) -> i64 {
    let total: i128 = values.map(i128::from).sum();
    i64::try_from(total).unwrap_or(if total < 0 { i64::MIN } else { i64::MAX })
}

/// Statistics of the durations of one group, which it sorts; `None` for no call.
fn stats(durations: &mut [i64]) -> Option<Stats> {
    durations.sort_unstable();
    let (min_ns, max_ns) = (*durations.first()?, *durations.last()?);
    let calls = durations.len();
    let total: i128 = durations.iter().copied().map(i128::from).sum();
    let mean_ns = total as f64 / calls as f64;
    // Two passes, corrected for the rounding of the mean (Chan, Golub & LeVeque, The American Statistician 37, 1983).
    let (mut squares, mut deviations) = (0.0_f64, 0.0_f64);
    for duration in durations.iter() {
        let deviation = *duration as f64 - mean_ns;
        squares += deviation * deviation;
        deviations += deviation;
    }
    let variance = (squares - deviations * deviations / calls as f64) / (calls as f64 - 1.0);
    let quantile = |p: f64| {
        let position = (calls - 1) as f64 * p;
        let below = (position.floor() as usize).min(calls - 1);
        let neighbours = [durations[below] as f64, durations[(below + 1).min(calls - 1)] as f64];
        quantile_of_sorted(&neighbours, position - below as f64).unwrap_or(neighbours[0])
    };
    Some(Stats {
        calls: calls as u64,
        total_ns: sum(durations.iter().copied()),
        mean_ns,
        min_ns,
        p50_ns: quantile(0.5),
        p95_ns: quantile(0.95),
        p99_ns: quantile(0.99),
        max_ns,
        std_ns: (calls > 1).then(|| variance.max(0.0).sqrt()),
    })
}

/// Groups the calls of one table: numbers the keys as they come, then sorts durations by group (counting sort) and within each.
fn grouped(calls: usize, key_of: impl Fn(usize) -> Key, duration_of: impl Fn(usize) -> i64) -> (Vec<u32>, Vec<Group>) {
    let mut numbers: FxHashMap<Key, u32> = FxHashMap::default();
    let mut keys: Vec<Key> = Vec::new();
    let mut sizes: Vec<usize> = Vec::new();
    let mut group_of: Vec<u32> = Vec::with_capacity(calls);
    for call in 0..calls {
        let key = key_of(call);
        let number = *numbers.entry(key).or_insert_with(|| {
            keys.push(key);
            sizes.push(0);
            (keys.len() - 1) as u32
        });
        sizes[number as usize] += 1;
        group_of.push(number);
    }
    let mut next: Vec<usize> = Vec::with_capacity(sizes.len());
    let mut total = 0;
    for size in &sizes {
        next.push(total);
        total += size;
    }
    let mut durations = vec![0_i64; calls];
    for (call, group) in group_of.iter().enumerate() {
        let slot = &mut next[*group as usize];
        durations[*slot] = duration_of(call);
        *slot += 1;
    }
    let mut rest = durations.as_mut_slice();
    let mut groups = Vec::with_capacity(keys.len());
    for (key, size) in keys.into_iter().zip(sizes) {
        let (own, others) = rest.split_at_mut(size);
        rest = others;
        if let Some(stats) = stats(own) {
            groups.push(Group { key, stats, bytes: None });
        }
    }
    (group_of, groups)
}

/// Phase, device and stream of a call, as far as they are asked for and known.
fn place(timeline: &Timeline, keys: &SummaryKeys<'_>, stream: u32) -> (Option<u32>, Option<u32>) {
    let device = (keys.by_device || keys.by_stream)
        .then(|| timeline.streams.get(stream as usize).map(|row| row.device))
        .flatten();
    (device, keys.by_stream.then_some(stream))
}

fn phase_of(column: Option<&[u16]>, row: usize, keys: &SummaryKeys<'_>) -> Option<u16> {
    column?.get(row).copied().filter(|phase| usize::from(*phase) < keys.phase_names.len())
}

fn kernel_groups(timeline: &Timeline, keys: &SummaryKeys<'_>) -> Vec<Group> {
    let kernels = &timeline.kernels;
    let key_of = |row: usize| {
        let (device, stream) = place(timeline, keys, kernels.stream[row]);
        let module = keys.kernel_module.and_then(|column| column.get(row).copied());
        Key {
            activity: Activity::Kernel,
            name: kernels.name[row],
            phase: phase_of(keys.kernel_phase, row, keys),
            module: module.filter(|module| (*module as usize) < keys.module_names.len()),
            device,
            stream,
        }
    };
    grouped(kernels.len(), key_of, |row| kernels.end_ns[row].saturating_sub(kernels.start_ns[row])).1
}

fn copy_groups(timeline: &Timeline, keys: &SummaryKeys<'_>) -> Vec<Group> {
    let copies = &timeline.copies;
    let key_of = |row: usize| {
        let (device, stream) = place(timeline, keys, copies.stream[row]);
        let phase = phase_of(keys.copy_phase, row, keys);
        Key { activity: Activity::Copy, name: u32::from(copies.kind[row].0), phase, module: None, device, stream }
    };
    let duration_of = |row: usize| copies.end_ns[row].saturating_sub(copies.start_ns[row]);
    with_bytes(grouped(copies.len(), key_of, duration_of), &copies.bytes)
}

fn memset_groups(timeline: &Timeline, keys: &SummaryKeys<'_>) -> Vec<Group> {
    let memsets = &timeline.memsets;
    let key_of = |row: usize| {
        let (device, stream) = place(timeline, keys, memsets.stream[row]);
        let phase = phase_of(keys.memset_phase, row, keys);
        Key { activity: Activity::Memset, name: 0, phase, module: None, device, stream }
    };
    let duration_of = |row: usize| memsets.end_ns[row].saturating_sub(memsets.start_ns[row]);
    with_bytes(grouped(memsets.len(), key_of, duration_of), &memsets.bytes)
}

fn with_bytes((group_of, mut groups): (Vec<u32>, Vec<Group>), bytes: &[u64]) -> Vec<Group> {
    for (group, bytes) in group_of.iter().zip(bytes) {
        let total = groups[*group as usize].bytes.get_or_insert(0);
        *total = total.saturating_add(*bytes);
    }
    groups
}

fn class_totals<'a>(
    groups: &[Group],
    class_of: impl Fn(u32) -> &'a Classified,
    shares: &impl Fn(&Key, i64) -> (Option<f64>, Option<f64>),
    keys: &SummaryKeys<'_>,
) -> Vec<ClassTotal> {
    // Names of each class and phase: keys without what else rows are grouped by, each once.
    let mut named: Vec<(Activity, KernelClass, Option<u16>, u32, &Stats)> = groups
        .iter()
        .map(|group| {
            let class = match group.key.activity {
                Activity::Kernel => class_of(group.key.name).class,
                Activity::Copy => KernelClass::Memcpy,
                Activity::Memset => KernelClass::Memset,
            };
            (group.key.activity, class, group.key.phase, group.key.name, &group.stats)
        })
        .collect();
    named.sort_by_key(|(activity, class, phase, name, _)| (*activity, *class, *phase, *name));
    let mut totals: Vec<ClassTotal> = named
        .chunk_by(|a, b| (a.0, a.1, a.2) == (b.0, b.1, b.2))
        .map(|rows| {
            let (activity, class, phase, ..) = rows[0];
            let total_ns = sum(rows.iter().map(|row| row.4.total_ns));
            let key = Key { activity, name: 0, phase, module: None, device: None, stream: None };
            let (share_of_phase, share) = shares(&key, total_ns);
            ClassTotal {
                activity,
                class,
                phase: phase.map(|phase| keys.phase_names[usize::from(phase)].clone()),
                names: rows.chunk_by(|a, b| a.3 == b.3).count() as u64,
                calls: rows.iter().map(|row| row.4.calls).sum(),
                total_ns,
                share_of_phase,
                share,
            }
        })
        .collect();
    // Stable: classes of equal time keep their order.
    totals.sort_by_key(|total| std::cmp::Reverse(total.total_ns));
    totals
}

fn coverage<'a>(
    timeline: &Timeline,
    groups: &[Group],
    class_of: impl Fn(u32) -> &'a Classified,
    kernel_ns: i64,
) -> Coverage {
    let mut unknown: FxHashMap<u32, (u64, i64)> = FxHashMap::default();
    let (mut kernels, mut unclassified) = (0_u64, 0_u64);
    for group in groups.iter().filter(|group| group.key.activity == Activity::Kernel) {
        kernels += group.stats.calls;
        if class_of(group.key.name).class == KernelClass::Unclassified {
            unclassified += group.stats.calls;
            let entry = unknown.entry(group.key.name).or_default();
            *entry = (entry.0 + group.stats.calls, entry.1.saturating_add(group.stats.total_ns));
        }
    }
    let unclassified_ns = sum(unknown.values().map(|(_, total_ns)| *total_ns));
    let mut top: Vec<(u32, u64, i64)> =
        unknown.into_iter().map(|(name, (calls, total_ns))| (name, calls, total_ns)).collect();
    top.sort_by_key(|(name, _, total_ns)| (std::cmp::Reverse(*total_ns), *name));
    Coverage {
        kernels,
        classified: kernels - unclassified,
        kernel_ns,
        classified_ns: kernel_ns.saturating_sub(unclassified_ns),
        unclassified_names: top.len() as u64,
        top_unclassified: top
            .into_iter()
            .take(TOP_UNCLASSIFIED)
            .map(|(name, calls, total_ns)| UnclassifiedName { full_name: full_name(timeline, name), calls, total_ns })
            .collect(),
    }
}

fn full_name(timeline: &Timeline, name: u32) -> String {
    let Some(row) = timeline.kernel_names.get(name as usize) else { return String::new() };
    prefix(&demangle(timeline.text(row.demangled)), MAX_FULL_NAME_BYTES).to_owned()
}

/// The name of each group, and the full name of each kernel or kind of copy.
fn row_names(
    timeline: &Timeline,
    classified: &[Classified],
    groups: &[Group],
) -> (Vec<String>, FxHashMap<(Activity, u32), String>) {
    let mut full_names: FxHashMap<(Activity, u32), String> = FxHashMap::default();
    let mut short_names: FxHashMap<(Activity, u32), String> = FxHashMap::default();
    let mut taken: FxHashMap<String, u32> = FxHashMap::default();
    let mut used: Vec<(Activity, u32)> = groups.iter().map(|group| (group.key.activity, group.key.name)).collect();
    used.sort_unstable();
    used.dedup();
    for (activity, name) in used {
        let (short, full) = match activity {
            Activity::Kernel => {
                let full = full_name(timeline, name);
                let given = classified.get(name as usize).and_then(|known| known.display_name.clone());
                (given.unwrap_or_else(|| numbered(shorten(&full), &mut taken)), full)
            }
            Activity::Copy => {
                let kind = CopyKind(u8::try_from(name).unwrap_or(u8::MAX));
                let own = timeline.copy_labels.iter().find(|(known, label)| *known == kind.0 && !label.is_empty());
                let label = format!("[CUDA memcpy {}]", own.map_or(kind.label(), |(_, label)| label.as_str()));
                (label.clone(), label)
            }
            Activity::Memset => ("[CUDA memset]".to_owned(), "[CUDA memset]".to_owned()),
        };
        short_names.insert((activity, name), short);
        full_names.insert((activity, name), full);
    }
    let of = |group: &Group| short_names.get(&(group.key.activity, group.key.name)).cloned().unwrap_or_default();
    (groups.iter().map(of).collect(), full_names)
}

/// The name, with a number from the second kernel on that shortens to it.
fn numbered(short: String, taken: &mut FxHashMap<String, u32>) -> String {
    let count = taken.entry(short.clone()).or_insert(0);
    *count += 1;
    if *count == 1 { short } else { format!("{short} #{count}") }
}

fn whole_graphs(timeline: &Timeline) -> SummaryRemainder {
    let graphs = &timeline.graphs;
    let mut distinct = graphs.executable.clone();
    distinct.sort_unstable();
    distinct.dedup();
    SummaryRemainder {
        rows: distinct.len() as u64,
        calls: graphs.len() as u64,
        total_ns: sum(graphs.end_ns.iter().zip(&graphs.start_ns).map(|(end, start)| end.saturating_sub(*start))),
    }
}

#[cfg(test)]
#[path = "kernel_summary_tests.rs"]
mod tests;
