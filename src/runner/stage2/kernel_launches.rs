//! Numbers the launches of each kernel as ncu counts them: per process, in the order in which they were launched.

use crate::trace::places::NO_ROW;
use crate::trace::timeline::Timeline;

/// The launches of a timeline, ordered.
#[derive(Debug)]
pub(super) struct Launches {
    /// Rows of kernels by process and time of launch.
    ordered: Vec<(u32, u32)>,
    names: Vec<u32>,
}

impl Launches {
    /// Of all kernels.
    pub(super) fn of(timeline: &Timeline) -> Self {
        let kernels = &timeline.kernels;
        let process =
            |row: usize| timeline.streams.get(kernels.stream[row] as usize).map_or(0, |stream| stream.process);
        // Nodes of a graph share a launch call and then follow their begin.
        let launched = |row: usize| match kernels.call.get(row) {
            Some(call) if *call != NO_ROW => timeline.api.start_ns[*call as usize],
            _ => kernels.start_ns[row],
        };
        let mut ordered: Vec<(u32, u32)> = (0..kernels.len()).map(|row| (process(row), row as u32)).collect();
        ordered
            .sort_by_key(|(process, row)| (*process, launched(*row as usize), kernels.start_ns[*row as usize], *row));
        Self { ordered, names: kernels.name.clone() }
    }

    /// The numbers, among all launches of the kernel `name` in one process, of those of which `wanted` is true: of the process that has the
    /// first of them.
    pub(super) fn numbers(&self, name: u32, wanted: &dyn Fn(usize) -> bool) -> Vec<u64> {
        let mut numbers = Vec::new();
        let mut of_process = None;
        let (mut process, mut number) = (u32::MAX, 0);
        for (owner, row) in &self.ordered {
            if self.names[*row as usize] != name {
                continue;
            }
            if *owner != process {
                (process, number) = (*owner, 0);
            }
            if wanted(*row as usize) && of_process.is_none_or(|of| of == process) {
                of_process = Some(process);
                numbers.push(number);
            }
            number += 1;
        }
        numbers
    }
}
