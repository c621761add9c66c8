//! When a study has measured enough.
//!
//! Looking at the verdicts after every block and stopping at the first winner finds one sooner or later even where there is none. So the rule
//! never looks at where an interval lies, only at how wide it is: the study ends when every interval is narrow enough, or when its blocks or
//! its budget are used up. It looks only after whole rounds, so that every variant stood equally often in every position.

use serde::{Deserialize, Serialize};

/// Why a study ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Every interval is at most as wide as asked for.
    PreciseEnough,
    /// No time for another block.
    Budget,
    /// All blocks are done.
    Blocks,
    /// The user.
    Interrupted,
    /// A variant failed too often.
    Failed,
}

impl StopReason {
    /// In words, as `StudyBlock::stopped_because` has it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::PreciseEnough => "precise enough",
            Self::Budget => "budget",
            Self::Blocks => "blocks",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
    /// From the words.
    pub fn from_words(words: &str) -> Option<Self> {
        [Self::PreciseEnough, Self::Budget, Self::Blocks, Self::Interrupted, Self::Failed]
            .into_iter()
            .find(|reason| reason.words() == words)
    }
}

/// Limits of a study.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StopRule {
    /// Blocks before the intervals are looked at.
    pub min_blocks: u32,
    /// Blocks after which the study ends.
    pub max_blocks: u32,
    /// Blocks of a round: the intervals are looked at after whole rounds only.
    pub round: u32,
    /// Seconds after which no block is begun.
    pub budget_s: f64,
    /// Half width of an interval of the ratio that is narrow enough, e.g. 0.01.
    pub precision: f64,
}

impl StopRule {
    /// Whether the intervals are to be looked at after `blocks` whole blocks.
    pub fn looks_at(&self, blocks: u32) -> bool {
        blocks >= self.min_blocks && blocks.is_multiple_of(self.round.max(1)) && blocks < self.max_blocks
    }

    /// Whether to end after `blocks` whole blocks and `elapsed_s` seconds, where a block takes about `block_s` seconds.
    ///
    /// `half_widths` holds the half width of the interval of every judged ratio, `None` where it has none; it is asked for only when the rule
    /// looks. Without any ratio nothing is ever precise enough.
    pub fn after_block(
        &self,
        blocks: u32,
        elapsed_s: f64,
        block_s: f64,
        half_widths: impl FnOnce() -> Vec<Option<f64>>,
    ) -> Option<StopReason> {
        if blocks >= self.max_blocks {
            return Some(StopReason::Blocks);
        }
        if self.looks_at(blocks) {
            let widths = half_widths();
            if !widths.is_empty() && widths.iter().all(|width| width.is_some_and(|width| width <= self.precision)) {
                return Some(StopReason::PreciseEnough);
            }
        }
        (elapsed_s + block_s > self.budget_s).then_some(StopReason::Budget)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: StopRule = StopRule { min_blocks: 6, max_blocks: 20, round: 2, budget_s: 100.0, precision: 0.01 };

    #[test]
    fn the_rule_looks_after_whole_rounds_only_and_never_before_the_shortest_study() {
        let looks: Vec<u32> = (1..=20).filter(|blocks| RULE.looks_at(*blocks)).collect();
        assert_eq!(looks, [6, 8, 10, 12, 14, 16, 18]);
        let never = || -> Vec<Option<f64>> { panic!("nothing may be looked at") };
        assert_eq!(RULE.after_block(7, 0.0, 1.0, never), None);
        assert_eq!(RULE.after_block(20, 0.0, 1.0, never), Some(StopReason::Blocks));
    }

    #[test]
    fn every_interval_must_be_narrow_enough() {
        let after = |widths: &[Option<f64>]| RULE.after_block(6, 0.0, 1.0, || widths.to_vec());
        assert_eq!(after(&[Some(0.01), Some(0.001)]), Some(StopReason::PreciseEnough));
        for wide in [&[Some(0.011), Some(0.001)][..], &[Some(0.001), None], &[Some(f64::NAN)], &[]] {
            assert_eq!(after(wide), None, "{wide:?}");
        }
    }

    #[test]
    fn no_block_is_begun_that_the_budget_would_not_see_end() {
        let after = |elapsed_s, block_s| RULE.after_block(1, elapsed_s, block_s, Vec::new);
        assert_eq!(after(90.0, 10.0), None);
        assert_eq!(after(90.0, 10.1), Some(StopReason::Budget));
        for reason in [StopReason::Budget, StopReason::PreciseEnough, StopReason::Interrupted] {
            assert_eq!(StopReason::from_words(reason.words()), Some(reason));
        }
    }
}
