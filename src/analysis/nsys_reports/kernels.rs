//! Names of kernels as a report wants them.

use rustc_hash::FxHashMap;

use super::enclosing::innermost_of_calls;
use super::nvtx::domain_name;
use super::{KernelNaming, KernelOptions};
use crate::trace::places::NO_ROW;
use crate::trace::strings::{StringId, StringTable};
use crate::trace::timeline::Timeline;

/// Kernels by name.
#[derive(Debug)]
pub(super) struct KernelGroups<'a> {
    timeline: &'a Timeline,
    texts: StringTable,
    /// Group of each row of `kernel_names`.
    by_name: Vec<u32>,
    /// Group of each kernel where a range is part of the name, else empty.
    by_row: Vec<u32>,
}

impl<'a> KernelGroups<'a> {
    pub(super) fn new(timeline: &'a Timeline, options: KernelOptions) -> Self {
        let mut texts = StringTable::default();
        let by_name: Vec<u32> = timeline
            .kernel_names
            .iter()
            .map(|name| {
                let text = match options.naming {
                    KernelNaming::Demangled => name.demangled,
                    KernelNaming::Base => name.short,
                    KernelNaming::Mangled => name.mangled.unwrap_or(name.demangled),
                };
                texts.intern(timeline.text(text)).0
            })
            .collect();
        let mut groups = Self { timeline, texts, by_name, by_row: Vec::new() };
        if options.nvtx_name {
            groups.add_ranges();
        }
        groups
    }
    /// Puts the name of the innermost range around the launch before the name of the kernel: `range/kernel`, or `domain:range/kernel`
    /// outside the default domain.
    fn add_ranges(&mut self) {
        let timeline = self.timeline;
        let innermost = innermost_of_calls(timeline);
        let mut known: FxHashMap<(StringId, StringId, u32), u32> = FxHashMap::default();
        self.by_row = (0..timeline.kernels.len())
            .map(|kernel| {
                let plain = self.by_name[timeline.kernels.name[kernel] as usize];
                let call = timeline.kernels.call[kernel];
                let range = innermost.get(call as usize).copied().unwrap_or(NO_ROW);
                if call == NO_ROW || range == NO_ROW {
                    return plain;
                }
                let (domain, name) = (timeline.ranges.domain[range as usize], timeline.ranges.name[range as usize]);
                *known.entry((domain, name, plain)).or_insert_with(|| {
                    let domain = domain_name(timeline, domain);
                    let colon = if domain.is_empty() { "" } else { ":" };
                    let text = format!("{domain}{colon}{}/{}", timeline.text(name), self.texts.get(StringId(plain)));
                    self.texts.intern(&text).0
                })
            })
            .collect();
    }
    /// How many groups there can be.
    pub(super) fn len(&self) -> usize {
        self.texts.len()
    }
    /// Group of a kernel.
    pub(super) fn group(&self, kernel: usize) -> u32 {
        match self.by_row.get(kernel) {
            Some(group) => *group,
            None => self.by_name[self.timeline.kernels.name[kernel] as usize],
        }
    }
    /// Name of a group.
    pub(super) fn name(&self, group: u32) -> &str {
        self.texts.get(StringId(group))
    }
}
