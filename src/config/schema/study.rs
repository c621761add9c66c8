//! The settings of a study of variants (`ab`): how long, how precise, in which order. What the variants set are settings of `stage1`.

use serde::Deserialize;

use super::keys::{Key, Kind, Range};

/// More blocks than this are a mistake.
const MOST_BLOCKS: u64 = 10_000;

const fn key(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, nullable: false, meaning }
}
const fn optional(path: &'static str, kind: Kind, meaning: &'static str) -> Key {
    Key { path, kind, nullable: true, meaning }
}

/// The keys of a study beside `variants` and `shared`, which hold settings of `stage1`.
pub const STUDY: &[Key] = &[
    key(
        "blocks",
        Kind::Integer(1, MOST_BLOCKS),
        "Blocks at most. In a block every variant has one turn; the order is drawn anew, balanced over two blocks (ABBA) or, for more than two \
         variants, over as many blocks as variants.",
    ),
    key("min_blocks", Kind::Integer(1, MOST_BLOCKS), "Blocks before the study may end for being precise enough."),
    key(
        "budget_s",
        Kind::Number(Range::Positive),
        "Seconds after which no further block is begun, the control included, which may use two fifths of them.",
    ),
    key(
        "precision",
        Kind::Number(Range::NotNegative),
        "The study ends when the 95 % interval of every ratio of TTFT, TPOT and total time is at most this far to either side; 0 uses all blocks.",
    ),
    key("margin", Kind::Number(Range::Share), "δ: ratios this near to 1 count as the same."),
    key("seed", Kind::Integer(0, u64::MAX), "Seed of the order and of the statistics."),
    optional(
        "control",
        Kind::Integer(0, MOST_BLOCKS),
        "Blocks of the A/A control, which runs the baseline against itself first; 0 or `off` runs none. Null is `min_blocks`.",
    ),
    key(
        "isolation",
        Kind::Word(&["own_process", "in_process"]),
        "`own_process` gives each turn a process of its own; `in_process` keeps all variants loaded in one process and takes turns repeat by repeat.",
    ),
    key("quality", Kind::Bool, "Measure the quality of each variant's output once, where this version can."),
    key(
        "fail_on",
        Kind::Texts,
        "Rules of the gate, e.g. `tpot_ms.p50>+3%`: exit 1 if the evidence says that one is broken.",
    ),
];

/// How a study is run.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyConfig {
    /// Blocks at most.
    pub blocks: u32,
    /// Blocks before the study may end for being precise enough.
    pub min_blocks: u32,
    /// Seconds after which no further block is begun.
    pub budget_s: f64,
    /// Half width of the intervals, relative, that is narrow enough.
    pub precision: f64,
    /// δ within which a ratio counts as the same.
    pub margin: f64,
    /// Seed of the order and of the statistics.
    pub seed: u64,
    /// Blocks of the A/A control; `None` is [`StudyConfig::min_blocks`].
    pub control: Option<u32>,
    /// Whether variants share a process.
    pub isolation: IsolationChoice,
    /// Measure the quality of the output.
    pub quality: bool,
    /// Rules of the gate.
    pub fail_on: Vec<String>,
}

/// Whether variants share a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IsolationChoice {
    /// Each turn is a process.
    OwnProcess,
    /// One process holds all variants.
    InProcess,
}

impl StudyConfig {
    /// Blocks of the control.
    pub fn control_blocks(&self) -> u32 {
        self.control.unwrap_or(self.min_blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_lists_exactly_the_fields() {
        let mut fields = crate::config::schema::keys::tests::fields_of::<StudyConfig>();
        let mut paths: Vec<&str> = STUDY.iter().map(|key| key.path).collect();
        paths.sort_unstable();
        fields.sort_unstable();
        assert_eq!(paths, fields);
    }
}
