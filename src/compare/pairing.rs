//! Which case and which measure of one subject belongs to which of the other, and how the rows of a pair were gathered.

use std::collections::BTreeSet;

use super::subject::{MeasureValues, Subject};
use crate::stats::ratio::{Design, Groups};

/// A case of both subjects, by the name each gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CasePair {
    pub baseline: Option<String>,
    pub candidate: Option<String>,
}

impl CasePair {
    /// The name in the results: that of the baseline, or the candidate's where the baseline has none.
    pub(super) fn name(&self) -> Option<String> {
        self.baseline.clone().or_else(|| self.candidate.clone())
    }
    /// Whether both have a name, and not the same.
    pub(super) fn is_renamed(&self) -> bool {
        matches!((&self.baseline, &self.candidate), (Some(left), Some(right)) if left != right)
    }
}

/// The cases both subjects have, in the baseline's order. A lone case pairs with a lone case, whatever they are called.
///
/// What has no case (the time to load) stands beside the cases: a lone named case is still alone, and meets what has no case where the other
/// side has no named one.
pub(super) fn case_pairs(baseline: &Subject, candidate: &Subject) -> Vec<CasePair> {
    let (left, right) = (cases(baseline), cases(candidate));
    let both = left.iter().filter(|case| right.contains(case));
    let mut pairs: Vec<CasePair> =
        both.map(|case| CasePair { baseline: case.clone(), candidate: case.clone() }).collect();
    if let (Some(left), Some(right)) = (lone_case(&left), lone_case(&right))
        && left != right
    {
        pairs.insert(0, CasePair { baseline: left.clone(), candidate: right.clone() });
    }
    pairs
}

/// The one case of a subject: its only named one, or what has no case where nothing is named.
fn lone_case(cases: &[Option<String>]) -> Option<&Option<String>> {
    let mut named = cases.iter().filter(|case| case.is_some());
    match (named.next(), named.next()) {
        (Some(only), None) => Some(only),
        (None, _) => cases.first(),
        _ => None,
    }
}

/// The pair that is alone, if one is: facts of it and of the whole subject are the same thing.
pub(super) fn lone_pair(pairs: &[CasePair]) -> Option<&CasePair> {
    let mut named = pairs.iter().filter(|pair| pair.name().is_some());
    match (named.next(), named.next()) {
        (Some(only), None) => Some(only),
        (None, _) => pairs.first(),
        _ => None,
    }
}

/// Cases of a subject in order of appearance.
pub(super) fn cases(subject: &Subject) -> Vec<Option<String>> {
    let mut cases: Vec<Option<String>> = Vec::new();
    for measure in &subject.measures {
        if !cases.contains(&measure.case) {
            cases.push(measure.case.clone());
        }
    }
    cases
}

/// The measure `name` of `case`.
pub(super) fn measure<'a>(subject: &'a Subject, case: Option<&str>, name: &str) -> Option<&'a MeasureValues> {
    subject.measures.iter().find(|measure| measure.case.as_deref() == case && measure.name == name)
}

/// How the rows of a pair came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Blocks that hold both sides.
    Blocks {
        /// Whether all rows of each side come from one process.
        one_process: bool,
    },
    /// Several processes on both sides.
    Processes,
    /// One process on a side at least: what differs between processes is not seen.
    OneProcess,
}

/// The rows of one measure of both sides.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Pair {
    pub baseline: Groups,
    pub candidate: Groups,
    pub design: Design,
    pub layout: Layout,
    /// Processes of the baseline and of the candidate.
    pub processes: [u64; 2],
    /// Rows left out since their block has none of the other side.
    pub left_out: u64,
}

impl Pair {
    /// Groups the rows of two measures.
    pub(super) fn new(baseline: &MeasureValues, candidate: &MeasureValues) -> Self {
        let runs = [baseline, candidate].map(runs_of);
        let processes = [&runs[0], &runs[1]].map(|runs| runs.iter().collect::<BTreeSet<_>>().len() as u64);
        if let Some((blocks, left_out)) = common_blocks(baseline, candidate) {
            let of = |side: &MeasureValues| grouped(&side.values, &side.blocks, &blocks);
            return Self {
                baseline: of(baseline),
                candidate: of(candidate),
                design: Design::Blocked,
                layout: Layout::Blocks { one_process: processes == [1, 1] },
                processes,
                left_out,
            };
        }
        let several = processes.iter().all(|count| *count >= 2);
        let of = |side: &MeasureValues, runs: &[u32]| {
            if !several {
                return Groups::single(side.values.clone());
            }
            let units: Vec<u32> = runs.iter().copied().collect::<BTreeSet<_>>().into_iter().collect();
            grouped(&side.values, runs, &units)
        };
        let (baseline, candidate) = (of(baseline, &runs[0]), of(candidate, &runs[1]));
        let single_rows = |groups: &Groups| groups.units() == groups.rows();
        let design = match several {
            true if single_rows(&baseline) && single_rows(&candidate) => Design::Independent,
            true => Design::Hierarchical,
            false => Design::MovingBlocks { length: 0 },
        };
        let layout = if several { Layout::Processes } else { Layout::OneProcess };
        Self { baseline, candidate, design, layout, processes, left_out: 0 }
    }

    /// Rows of the baseline and of the candidate.
    pub(super) fn rows(&self) -> [u64; 2] {
        [self.baseline.rows() as u64, self.candidate.rows() as u64]
    }

    /// Independent units of the baseline and of the candidate: blocks or processes.
    pub(super) fn units(&self) -> [u64; 2] {
        match self.layout {
            Layout::Blocks { .. } => [self.baseline.units() as u64; 2],
            Layout::Processes | Layout::OneProcess => self.processes,
        }
    }
}

/// The process of each row; a source that does not say had one.
fn runs_of(side: &MeasureValues) -> Vec<u32> {
    if side.runs.len() == side.values.len() { side.runs.clone() } else { vec![0; side.values.len()] }
}

/// The blocks both sides have, and how many rows have no counterpart; `None` where fewer than two are common.
fn common_blocks(baseline: &MeasureValues, candidate: &MeasureValues) -> Option<(Vec<u32>, u64)> {
    let whole = |side: &MeasureValues| !side.blocks.is_empty() && side.blocks.len() == side.values.len();
    if !whole(baseline) || !whole(candidate) {
        return None;
    }
    let of = |side: &MeasureValues| side.blocks.iter().copied().collect::<BTreeSet<u32>>();
    let common: BTreeSet<u32> = of(baseline).intersection(&of(candidate)).copied().collect();
    let outside = |side: &MeasureValues| side.blocks.iter().filter(|block| !common.contains(block)).count() as u64;
    let left_out = outside(baseline) + outside(candidate);
    (common.len() >= 2).then(|| (common.into_iter().collect(), left_out))
}

/// The rows by unit, in the order of `units`.
fn grouped(values: &[f64], unit_of: &[u32], units: &[u32]) -> Groups {
    let mut groups = vec![Vec::new(); units.len()];
    for (value, unit) in values.iter().zip(unit_of) {
        if let Ok(at) = units.binary_search(unit) {
            groups[at].push(*value);
        }
    }
    Groups(groups)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{measure_of, subject};
    use super::*;

    fn rows(values: &[f64], runs: &[u32], blocks: &[u32]) -> MeasureValues {
        MeasureValues { runs: runs.to_vec(), blocks: blocks.to_vec(), ..measure_of(None, "tpot_ms", "ms", values) }
    }

    #[test]
    fn the_design_follows_from_how_the_rows_were_gathered() {
        let of = |baseline: MeasureValues, candidate: MeasureValues| {
            let pair = Pair::new(&baseline, &candidate);
            (pair.design, pair.layout, pair.units())
        };
        let one = rows(&[1.0, 2.0], &[0, 0], &[]);
        let two = rows(&[1.0, 2.0], &[0, 1], &[]);
        let four = rows(&[1.0, 2.0, 3.0, 4.0], &[0, 0, 1, 1], &[]);
        assert_eq!(of(one.clone(), one.clone()), (Design::MovingBlocks { length: 0 }, Layout::OneProcess, [1, 1]));
        assert_eq!(of(one, two.clone()).1, Layout::OneProcess);
        assert_eq!(of(two.clone(), two.clone()), (Design::Independent, Layout::Processes, [2, 2]));
        assert_eq!(of(two, four.clone()), (Design::Hierarchical, Layout::Processes, [2, 2]));
        let blocked = rows(&[1.0, 2.0, 3.0], &[0, 1, 2], &[0, 1, 2]);
        assert_eq!(of(blocked.clone(), blocked.clone()).0, Design::Blocked);
        assert_eq!(of(blocked, four).0, Design::Hierarchical);
    }

    #[test]
    fn a_block_of_one_side_only_is_left_out_and_counted() {
        let baseline = rows(&[1.0, 2.0, 3.0, 9.0], &[0, 1, 2, 3], &[0, 1, 2, 7]);
        let candidate = rows(&[2.0, 1.0, 4.0], &[0, 1, 2], &[1, 0, 2]);
        let pair = Pair::new(&baseline, &candidate);
        assert_eq!((pair.left_out, pair.units()), (1, [3, 3]));
        assert_eq!(pair.candidate.0, [[1.0], [2.0], [4.0]]);
    }

    #[test]
    fn a_lone_case_pairs_with_a_lone_case() {
        let with = |cases: &[Option<&str>]| {
            let mut subject = subject("a");
            subject.measures = cases.iter().map(|case| measure_of(*case, "tpot_ms", "ms", &[1.0])).collect();
            subject
        };
        let pairs = case_pairs(&with(&[Some("p128")]), &with(&[None]));
        assert_eq!((pairs[0].name(), pairs[0].is_renamed()), (Some("p128".to_owned()), false));
        assert!(case_pairs(&with(&[Some("p128")]), &with(&[Some("p512")]))[0].is_renamed());
        let pairs = case_pairs(&with(&[Some("a"), Some("b")]), &with(&[Some("b"), Some("c")]));
        assert_eq!(pairs, [CasePair { baseline: Some("b".to_owned()), candidate: Some("b".to_owned()) }]);
        assert!(case_pairs(&with(&[]), &with(&[Some("b")])).is_empty());
        // What has no case does not make a lone case one of two.
        let named = |pair: &CasePair| (pair.baseline.clone(), pair.candidate.clone());
        let pairs = case_pairs(&with(&[Some("a"), None]), &with(&[None]));
        assert_eq!(pairs.iter().map(named).collect::<Vec<_>>(), [(Some("a".to_owned()), None), (None, None)]);
        assert_eq!(lone_pair(&pairs).unwrap().name().as_deref(), Some("a"));
    }
}
