//! Reports on API calls, kernels and memory operations, one table at a time.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::KernelOptions;
use super::calls::{duration, without_version};
use super::csv::Csv;
use super::kernels::KernelGroups;
use super::summary::{Collector, Summary};
use crate::trace::activity::CopyKind;
use crate::trace::strings::{StringId, StringTable};
use crate::trace::timeline::Timeline;

const MEMSET: &str = "[CUDA memset]";
/// nsys event class of a call of the operating-system runtime library.
const OS_CALL: u8 = 27;

/// A line of a table by time: what is printed after the numbers, and the numbers.
pub(super) struct Line<'a> {
    pub(super) texts: Vec<&'a str>,
    pub(super) summary: Summary,
}

/// Writes lines with the share of their sum, largest first; lines of equal time keep their order.
pub(super) fn by_time(header: &'static [&'static str], mut lines: Vec<Line<'_>>) -> String {
    lines.sort_by_key(|line| Reverse(line.summary.total));
    by_time_in_order(header, &lines)
}

/// [`by_time`] without sorting.
fn by_time_in_order(header: &'static [&'static str], lines: &[Line<'_>]) -> String {
    let all: i128 = lines.iter().map(|line| line.summary.total).sum();
    let mut csv = Csv::new(header);
    for Line { texts, summary } in lines {
        if all == 0 {
            csv.empty();
        } else {
            csv.tenth(summary.total as f64 * 100.0 / all as f64);
        }
        csv.int(summary.total);
        csv.int(summary.count);
        csv.tenth(summary.mean);
        csv.tenth(summary.median);
        csv.int(summary.min);
        csv.int(summary.max);
        csv.tenth(summary.deviation);
        for text in texts {
            csv.text(text);
        }
        csv.end_row();
    }
    csv.finish()
}

/// `cuda_gpu_kern_sum`.
pub(super) fn kern_sum(timeline: &Timeline, options: KernelOptions) -> String {
    let names = KernelGroups::new(timeline, options);
    let summaries = kernel_summaries(timeline, &names);
    let mut lines: Vec<Line<'_>> = (0..names.len() as u32)
        .zip(summaries)
        .filter_map(|(group, summary)| Some(Line { texts: vec![names.name(group)], summary: summary? }))
        .collect();
    lines.sort_by(by_total_count_and_name);
    by_time_in_order(
        &[
            "Time (%)",
            "Total Time (ns)",
            "Instances",
            "Avg (ns)",
            "Med (ns)",
            "Min (ns)",
            "Max (ns)",
            "StdDev (ns)",
            "Name",
        ],
        &lines,
    )
}

/// Largest total first, then fewest instances, then the last text, which is the name.
fn by_total_count_and_name(a: &Line<'_>, b: &Line<'_>) -> std::cmp::Ordering {
    let key = |line: &Line<'_>| (-line.summary.total, line.summary.count);
    key(a).cmp(&key(b)).then_with(|| a.texts.last().cmp(&b.texts.last()))
}

fn kernel_summaries(timeline: &Timeline, names: &KernelGroups<'_>) -> Vec<Option<Summary>> {
    Collector::collect(names.len(), |out| {
        for kernel in 0..timeline.kernels.len() {
            out.add(names.group(kernel), duration(timeline, kernel));
        }
    })
}

/// `cuda_gpu_kern_gb_sum`.
pub(super) fn kern_gb_sum(timeline: &Timeline, options: KernelOptions) -> String {
    let names = KernelGroups::new(timeline, options);
    let mut shapes: Vec<([u32; 3], [u32; 3])> = Vec::new();
    let mut known_shapes = FxHashMap::default();
    let shape_of: Vec<u32> = timeline
        .launch_configs
        .iter()
        .map(|config| {
            let shape = (config.grid, config.block);
            *known_shapes.entry(shape).or_insert_with(|| {
                shapes.push(shape);
                (shapes.len() - 1) as u32
            })
        })
        .collect();
    let mut keys: Vec<(u32, u32)> = Vec::new();
    let mut known: FxHashMap<(u32, u32), u32> = FxHashMap::default();
    let groups: Vec<u32> = (0..timeline.kernels.len())
        .map(|kernel| {
            let key = (names.group(kernel), shape_of[timeline.kernels.config[kernel] as usize]);
            *known.entry(key).or_insert_with(|| {
                keys.push(key);
                (keys.len() - 1) as u32
            })
        })
        .collect();
    let summaries = Collector::collect(keys.len(), |out| {
        for (kernel, group) in groups.iter().enumerate() {
            out.add(*group, duration(timeline, kernel));
        }
    });
    let padded = |[x, y, z]: [u32; 3]| format!("{x:4} {y:4} {z:4}");
    let shape_texts: Vec<(String, String)> =
        shapes.iter().map(|(grid, block)| (padded(*grid), padded(*block))).collect();
    let mut order: Vec<usize> = (0..keys.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&keys[*a], &keys[*b]);
        let name = |key: &(u32, u32)| names.name(key.0);
        name(a).cmp(name(b)).then_with(|| shapes[a.1 as usize].cmp(&shapes[b.1 as usize]))
    });
    let mut lines: Vec<Line<'_>> = order
        .into_iter()
        .filter_map(|group| {
            let (name, shape) = keys[group];
            let (grid, block) = &shape_texts[shape as usize];
            Some(Line { texts: vec![grid, block, names.name(name)], summary: summaries[group]? })
        })
        .collect();
    lines.sort_by(by_total_count_and_name);
    by_time_in_order(
        &[
            "Time (%)",
            "Total Time (ns)",
            "Instances",
            "Avg (ns)",
            "Med (ns)",
            "Min (ns)",
            "Max (ns)",
            "StdDev (ns)",
            "GridXYZ",
            "BlockXYZ",
            "Name",
        ],
        &lines,
    )
}

/// Names of memory operations: group of each kind of copy, and of memory sets.
struct MemoryGroups {
    texts: StringTable,
    copy: [u32; 256],
    memset: u32,
}

impl MemoryGroups {
    fn new(timeline: &Timeline) -> Self {
        let mut texts = StringTable::default();
        let copy = std::array::from_fn(|kind| {
            let kind = kind as u8;
            let label = timeline
                .copy_labels
                .iter()
                .find(|(known, label)| *known == kind && !label.is_empty())
                .map_or(CopyKind(kind).label(), |(_, label)| label);
            texts.intern(&format!("[CUDA memcpy {label}]")).0
        });
        let memset = texts.intern(MEMSET).0;
        Self { texts, copy, memset }
    }
    fn name(&self, group: u32) -> &str {
        self.texts.get(StringId(group))
    }
    fn times(&self, timeline: &Timeline, out: &mut Collector) {
        let copies = &timeline.copies;
        for row in 0..copies.len() {
            let group = self.copy[copies.kind[row].0 as usize];
            out.add(group, copies.end_ns[row].saturating_sub(copies.start_ns[row]));
        }
        let memsets = &timeline.memsets;
        for row in 0..memsets.len() {
            out.add(self.memset, memsets.end_ns[row].saturating_sub(memsets.start_ns[row]));
        }
    }
    /// Groups that have rows, by name.
    fn by_name(&self, summaries: Vec<Option<Summary>>) -> Vec<Line<'_>> {
        let mut lines: Vec<Line<'_>> = (0_u32..)
            .zip(summaries)
            .filter_map(|(group, summary)| Some(Line { texts: vec![self.name(group)], summary: summary? }))
            .collect();
        lines.sort_by_key(|line| line.texts[0]);
        lines
    }
}

/// `cuda_gpu_mem_time_sum`.
pub(super) fn mem_time_sum(timeline: &Timeline) -> String {
    let groups = MemoryGroups::new(timeline);
    let summaries = Collector::collect(groups.texts.len(), |out| groups.times(timeline, out));
    by_time(
        &[
            "Time (%)",
            "Total Time (ns)",
            "Count",
            "Avg (ns)",
            "Med (ns)",
            "Min (ns)",
            "Max (ns)",
            "StdDev (ns)",
            "Operation",
        ],
        groups.by_name(summaries),
    )
}

/// `cuda_gpu_mem_size_sum`.
pub(super) fn mem_size_sum(timeline: &Timeline) -> String {
    let groups = MemoryGroups::new(timeline);
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    let summaries = Collector::collect(groups.texts.len(), |out| {
        for (kind, size) in timeline.copies.kind.iter().zip(&timeline.copies.bytes) {
            out.add(groups.copy[kind.0 as usize], bytes(*size));
        }
        timeline.memsets.bytes.iter().for_each(|size| out.add(groups.memset, bytes(*size)));
    });
    let mut lines = groups.by_name(summaries);
    lines.sort_by_key(|line| Reverse(line.summary.total));
    let mut csv =
        Csv::new(&["Total (MB)", "Count", "Avg (MB)", "Med (MB)", "Min (MB)", "Max (MB)", "StdDev (MB)", "Operation"]);
    for Line { texts, summary } in lines {
        csv.megabytes(summary.total as f64);
        csv.int(summary.count);
        csv.megabytes(summary.mean);
        csv.megabytes(summary.median);
        csv.megabytes(summary.min as f64);
        csv.megabytes(summary.max as f64);
        csv.megabytes(summary.deviation);
        csv.text(texts[0]);
        csv.end_row();
    }
    csv.finish()
}

fn api_duration(timeline: &Timeline, row: usize) -> i64 {
    timeline.api.end_ns[row].saturating_sub(timeline.api.start_ns[row])
}

/// Lines of functions in the order nsys groups them in: by the number of the name in the file, or where the timeline has none by the first
/// call, which mostly is the same.
fn functions<'a>(
    timeline: &'a Timeline,
    summaries: &[Option<Summary>],
    calls: impl Iterator<Item = (StringId, i64)>,
) -> Vec<Line<'a>> {
    let mut first_call = vec![i64::MAX; summaries.len()];
    for (name, start) in calls {
        let first = &mut first_call[name.0 as usize];
        *first = (*first).min(start);
    }
    let mut number = vec![i64::MAX; summaries.len()];
    for (name, id) in &timeline.string_ids {
        if let Some(number) = number.get_mut(name.0 as usize) {
            *number = *id;
        }
    }
    let mut names: Vec<usize> = (0..summaries.len()).filter(|name| summaries[*name].is_some()).collect();
    names.sort_by_key(|name| (number[*name], first_call[*name]));
    names
        .into_iter()
        .filter_map(|name| Some(Line { texts: vec![timeline.text(StringId(name as u32))], summary: summaries[name]? }))
        .collect()
}

const BY_FUNCTION: [&str; 9] =
    ["Time (%)", "Total Time (ns)", "Num Calls", "Avg (ns)", "Med (ns)", "Min (ns)", "Max (ns)", "StdDev (ns)", "Name"];

/// `cuda_api_sum`: grouped by the recorded name, printed without its version.
pub(super) fn api_sum(timeline: &Timeline) -> String {
    let summaries = Collector::collect(0, |out| {
        for (row, name) in timeline.api.name.iter().enumerate() {
            out.add(name.0, api_duration(timeline, row));
        }
    });
    let api = &timeline.api;
    let mut lines = functions(timeline, &summaries, api.name.iter().copied().zip(api.start_ns.iter().copied()));
    for line in &mut lines {
        line.texts[0] = without_version(line.texts[0]);
    }
    by_time(&BY_FUNCTION, lines)
}

/// `osrt_sum`.
pub(super) fn osrt_sum(timeline: &Timeline) -> String {
    let calls = &timeline.os_calls;
    let rows = || (0..calls.len()).filter(|row| calls.class[*row] == OS_CALL);
    let summaries = Collector::collect(0, |out| {
        for row in rows() {
            out.add(calls.name[row].0, calls.end_ns[row].saturating_sub(calls.start_ns[row]));
        }
    });
    by_time(&BY_FUNCTION, functions(timeline, &summaries, rows().map(|row| (calls.name[row], calls.start_ns[row]))))
}

/// `cuda_gpu_sum`, and with the API calls `cuda_api_gpu_sum`: grouped by the printed name.
pub(super) fn gpu_sum(timeline: &Timeline, options: KernelOptions, with_api: bool) -> String {
    const CATEGORIES: [&str; 3] = ["CUDA_API", "CUDA_KERNEL", "MEMORY_OPER"];
    let kernels = KernelGroups::new(timeline, options);
    let memory = MemoryGroups::new(timeline);
    let mut texts = StringTable::default();
    let mut category: Vec<usize> = Vec::new();
    let mut group_of = |text: &str, of: usize| {
        let group = texts.intern(text).0;
        if group as usize == category.len() {
            category.push(of);
        }
        group
    };
    let api_group: Vec<u32> = if with_api {
        let mut groups: Vec<Option<u32>> = vec![None; timeline.strings.len()];
        for name in &timeline.api.name {
            groups[name.0 as usize].get_or_insert_with(|| group_of(without_version(timeline.text(*name)), 0));
        }
        groups.into_iter().map(|group| group.unwrap_or(0)).collect()
    } else {
        Vec::new()
    };
    let kernel_group: Vec<u32> = (0..kernels.len() as u32).map(|group| group_of(kernels.name(group), 1)).collect();
    let memory_group: Vec<u32> = (0..memory.texts.len() as u32).map(|group| group_of(memory.name(group), 2)).collect();
    let memory = MemoryGroups {
        texts: StringTable::default(),
        copy: memory.copy.map(|group| memory_group[group as usize]),
        memset: memory_group[memory.memset as usize],
    };
    let summaries = Collector::collect(texts.len(), |out| {
        if with_api {
            for (row, name) in timeline.api.name.iter().enumerate() {
                out.add(api_group[name.0 as usize], api_duration(timeline, row));
            }
        }
        for kernel in 0..timeline.kernels.len() {
            out.add(kernel_group[kernels.group(kernel) as usize], duration(timeline, kernel));
        }
        memory.times(timeline, out);
    });
    let mut lines: Vec<Line<'_>> = (0_u32..)
        .zip(summaries)
        .filter_map(|(group, summary)| {
            let texts = vec![CATEGORIES[category[group as usize]], texts.get(StringId(group))];
            Some(Line { texts, summary: summary? })
        })
        .collect();
    lines.sort_by_key(|line| line.texts[1]);
    by_time(
        &[
            "Time (%)",
            "Total Time (ns)",
            "Instances",
            "Avg (ns)",
            "Med (ns)",
            "Min (ns)",
            "Max (ns)",
            "StdDev (ns)",
            "Category",
            "Operation",
        ],
        lines,
    )
}
