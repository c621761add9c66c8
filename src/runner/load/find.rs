//! Stages beyond those that were given: on to the knee, or to the greatest load that keeps a service level.

use crate::config::schema::load::{ArrivalKind, FindChoice, LoadConfig, Slo};
use crate::record::load::context::{StagePlan, StageRecord};
use crate::record::load::outcome::Outcome;
use crate::record::load::row::{Phase, RequestRow};
use crate::runner::load::prepare::{at_concurrency, at_rate};
use crate::runner::load::search::Search;
use crate::runner::load::summary::broken_limits;

/// Doubling the load must raise throughput by this much for the knee to lie further on.
const STILL_GROWING: f64 = 1.05;
/// Stages in a row that do not grow, until the knee is taken as passed.
const FLAT: u32 = 2;

/// Chooses further stages by how those before went.
#[derive(Debug)]
pub struct Finder {
    choice: FindChoice,
    config: LoadConfig,
    closed: bool,
    search: Search,
    limit: f64,
    /// Load and throughput of the stages so far.
    seen: Vec<(f64, f64)>,
    flat: u32,
    asked: Vec<f64>,
}

impl Finder {
    /// A finder for the settings and the stages they name.
    pub fn new(config: &LoadConfig, stages: &[StagePlan]) -> Self {
        let first = stages.last();
        let start = first.and_then(value).unwrap_or(1.0);
        let closed = config.arrival == ArrivalKind::Closed;
        // More users than requests would never be in flight at once.
        let reachable = match (config.requests_per_stage, config.requests_per_user) {
            (Some(requests), None) if closed => requests,
            _ => u32::MAX,
        };
        let highest = config.find_limit.min(reachable);
        let limit = f64::from(highest);
        let search = if config.find == FindChoice::MaxRate {
            Search::rate(start, limit)
        } else {
            Search::concurrency(start as u32, highest)
        };
        Self {
            choice: if stages.is_empty() { FindChoice::None } else { config.find },
            config: config.clone(),
            closed,
            search,
            limit,
            seen: Vec::new(),
            flat: 0,
            asked: Vec::new(),
        }
    }

    /// Takes in how a stage went.
    pub fn saw(&mut self, stage: &StageRecord, rows: &[RequestRow]) {
        let Some(load) = value(&stage.plan) else { return };
        let measured: Vec<&RequestRow> = rows.iter().filter(|row| row.phase == Phase::Measured).collect();
        let kept = stage.stopped.is_none()
            && share_kept(&self.config.slo, &measured).is_some_and(|share| share >= self.config.slo.quantile);
        self.search.feed(load, kept);
        let seconds = stage.end_ns.saturating_sub(stage.begin_ns) as f64 / 1e9;
        let done = measured.iter().filter(|row| row.outcome == Outcome::Ok);
        let tokens: u64 = done.map(|row| row.output_tokens.unwrap_or(1)).sum();
        let throughput = if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        let best = self.seen.iter().map(|(_, throughput)| *throughput).fold(0.0, f64::max);
        self.flat = if throughput > best * STILL_GROWING { 0 } else { self.flat + 1 };
        self.seen.push((load, throughput));
    }

    /// The next stage; `None` when there is nothing more to find.
    pub fn further(&mut self) -> Option<StagePlan> {
        let load = match self.choice {
            FindChoice::None => return None,
            FindChoice::Knee => {
                let last = self.seen.iter().map(|(load, _)| *load).fold(0.0, f64::max);
                let next = (last * 2.0).min(self.limit);
                (self.flat < FLAT && next > last).then_some(next)?
            }
            FindChoice::MaxRate | FindChoice::MaxConcurrency => self.search.next()?,
        };
        // A stage that is asked for twice would be asked for for ever.
        if self.asked.iter().any(|asked| (asked - load).abs() <= 1e-3 * load) {
            return None;
        }
        self.asked.push(load);
        Some(if self.closed { at_concurrency(&self.config, load as u32) } else { at_rate(&self.config, load) })
    }
}

/// What stages differ in.
fn value(plan: &StagePlan) -> Option<f64> {
    plan.concurrency.map(f64::from).or(plan.rate)
}

/// The share of requests that kept `slo`; failed ones did not, cancelled ones are left out.
fn share_kept(slo: &Slo, rows: &[&RequestRow]) -> Option<f64> {
    let counted: Vec<_> = rows.iter().filter(|row| !row.outcome.is_cancelled()).collect();
    let good = counted.iter().filter(|row| row.outcome == Outcome::Ok && broken_limits(row, slo).is_empty()).count();
    (!counted.is_empty()).then(|| good as f64 / counted.len() as f64)
}
