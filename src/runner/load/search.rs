//! The search for the greatest load that keeps a service level: doubling until it breaks, then halving what is between.

/// Rates are told apart down to this share.
pub const RATE_PRECISION: f64 = 0.05;
/// A rate this many times below the one the search began with is not looked for.
const LOWEST: f64 = 1024.0;

/// A search over concurrency (whole numbers) or rates. It asks, the caller runs a stage and tells; it takes that a level kept at one load is kept
/// at all lower ones, and where it was told otherwise, believes the lowest load that broke it.
#[derive(Debug, Clone)]
pub struct Search {
    start: f64,
    limit: f64,
    whole: bool,
    /// What was told: load, and whether the level was kept.
    told: Vec<(f64, bool)>,
}

impl Search {
    /// Over whole numbers from `start` up to `limit`, to the last one.
    pub fn concurrency(start: u32, limit: u32) -> Self {
        let limit = limit.max(1);
        Self { start: f64::from(start.clamp(1, limit)), limit: f64::from(limit), whole: true, told: Vec::new() }
    }

    /// Over rates per second from `start` up to `limit`, both above 0, to within [`RATE_PRECISION`].
    pub fn rate(start: f64, limit: f64) -> Self {
        Self { start: start.min(limit), limit, whole: false, told: Vec::new() }
    }

    /// Tells how a stage at `value` went; values nobody asked for count as well.
    pub fn feed(&mut self, value: f64, kept: bool) {
        self.told.push((value, kept));
    }

    /// The greatest load that kept the level and lies below all that broke it; `None` if there is none.
    pub fn kept(&self) -> Option<f64> {
        let below = self.broken().unwrap_or(f64::INFINITY);
        self.told.iter().filter(|(value, kept)| *kept && *value < below).map(|(value, _)| *value).reduce(f64::max)
    }

    /// The smallest load that broke the level; `None` if none did.
    pub fn broken(&self) -> Option<f64> {
        self.told.iter().filter(|(_, kept)| !kept).map(|(value, _)| *value).reduce(f64::min)
    }

    /// The load to try next; `None` when the answer is known as well as it can be.
    pub fn next(&self) -> Option<f64> {
        match (self.kept(), self.broken()) {
            (None, None) => Some(self.start),
            (Some(kept), None) => (kept < self.limit).then(|| (2.0 * kept).min(self.limit)),
            (None, Some(broken)) if self.whole => (broken > 1.0).then(|| (broken / 2.0).floor()),
            (None, Some(broken)) => (broken > self.start / LOWEST).then_some(broken / 2.0),
            (Some(kept), Some(broken)) if self.whole => {
                (broken - kept > 1.0).then(|| (f64::midpoint(kept, broken)).floor().max(kept + 1.0))
            }
            (Some(kept), Some(broken)) => (broken > kept * (1.0 + RATE_PRECISION)).then(|| (kept * broken).sqrt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Runs a search against a server that keeps the level up to `most`; the loads that were tried.
    fn run(mut search: Search, most: f64) -> (Search, Vec<f64>) {
        let mut tried = Vec::new();
        while let Some(value) = search.next() {
            assert!(!tried.contains(&value), "{value} was tried twice: {tried:?}");
            assert!(tried.len() < 200, "{tried:?}");
            tried.push(value);
            search.feed(value, value <= most);
        }
        (search, tried)
    }

    #[test]
    fn concurrency_is_doubled_and_then_halved_to_the_last_number() {
        let (search, tried) = run(Search::concurrency(1, 4096), 37.0);
        assert_eq!(tried, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 48.0, 40.0, 36.0, 38.0, 37.0]);
        assert_eq!((search.kept(), search.broken()), (Some(37.0), Some(38.0)));
    }

    #[test]
    fn the_limit_is_tried_and_not_passed() {
        let (search, tried) = run(Search::concurrency(4, 100), 1e9);
        assert_eq!(tried, [4.0, 8.0, 16.0, 32.0, 64.0, 100.0]);
        assert_eq!((search.kept(), search.broken()), (Some(100.0), None));
        let (search, tried) = run(Search::rate(200.0, 50.0), 1e9);
        assert_eq!((tried, search.kept()), (vec![50.0], Some(50.0)));
    }

    #[test]
    fn a_level_that_is_broken_at_the_start_is_looked_for_below() {
        let (search, tried) = run(Search::concurrency(16, 64), 3.0);
        assert_eq!(tried, [16.0, 8.0, 4.0, 2.0, 3.0]);
        assert_eq!((search.kept(), search.broken()), (Some(3.0), Some(4.0)));
        let (search, tried) = run(Search::concurrency(4, 64), 0.0);
        assert_eq!((tried, search.kept(), search.broken()), (vec![4.0, 2.0, 1.0], None, Some(1.0)));
        let (search, tried) = run(Search::rate(10.0, 100.0), 0.0);
        assert_eq!(search.kept(), None);
        assert!(tried.len() <= 12, "it ends: {tried:?}");
    }

    #[test]
    fn what_is_known_of_stages_before_the_search_counts() {
        let mut search = Search::concurrency(1, 4096);
        for (value, kept) in [(8.0, true), (16.0, true), (32.0, false)] {
            search.feed(value, kept);
        }
        assert_eq!(search.next(), Some(24.0));
    }

    #[test]
    fn a_load_that_broke_the_level_overrules_higher_ones_that_kept_it() {
        let mut search = Search::concurrency(1, 64);
        for (value, kept) in [(4.0, true), (16.0, true), (8.0, false), (16.0, false)] {
            search.feed(value, kept);
        }
        assert_eq!((search.kept(), search.broken(), search.next()), (Some(4.0), Some(8.0), Some(6.0)));
    }

    proptest! {
        #[test]
        fn the_answer_is_exact_for_concurrency_and_within_a_twentieth_for_rates(
            start in 1u32..200, most in 1u32..4096, rate in 0.5..500.0f64,
        ) {
            let (search, tried) = run(Search::concurrency(start, 4096), f64::from(most));
            prop_assert_eq!(search.kept(), Some(f64::from(most)));
            prop_assert!(tried.len() <= 25, "{:?}", tried);
            let (search, tried) = run(Search::rate(f64::from(start), 1000.0), rate);
            let (kept, broken) = (search.kept().unwrap(), search.broken().unwrap());
            prop_assert!(kept <= rate && rate < broken && broken <= 1.05 * kept);
            prop_assert!(tried.len() <= 20, "{:?}", tried);
        }
    }
}
