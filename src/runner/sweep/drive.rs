//! Runs the points of a sweep one after the other; starts no process and writes no file by itself.

use crate::record::rows::RowStatus;
use crate::record::sweep::{CaseResult, SWEEP_SCHEMA_VERSION, SweepPlanFile, SweepRow};

/// What became of one attempt at a point.
#[derive(Debug, Clone, PartialEq)]
pub struct PointEnd {
    /// Its run.
    pub child: String,
    /// How it ended.
    pub status: RowStatus,
    /// What went wrong.
    pub error: Option<String>,
    /// Whether its run calls itself VALID; null without a run.
    pub valid: Option<bool>,
    /// Wall-clock start, RFC 3339 UTC.
    pub started_at: String,
    /// Seconds it took.
    pub took_s: f64,
    /// Measures by case; empty unless it ended well.
    pub cases: Vec<CaseResult>,
}

/// Where a sweep stands, for those who wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outlook {
    /// Points that are done, those of earlier times included.
    pub done: u32,
    /// Points planned.
    pub planned: u32,
    /// Seconds the points that are left will take, if each takes as long as those so far; null before the first ended.
    pub rest_s: Option<f64>,
}

/// What a sweep needs of its surroundings: one implementation for each command that can run a point.
pub trait PointRunner {
    /// What it returns when it cannot go on.
    type Error;
    /// Tries one point. A point that fails is a [`PointEnd`]; an error is for what ends the sweep, such as a full disk.
    fn run(&mut self, point: u32, attempt: u32) -> Result<PointEnd, Self::Error>;
    /// A point begins.
    fn begins(&mut self, point: u32, outlook: &Outlook);
    /// A row is complete; it must be with the system when this returns.
    fn row(&mut self, row: &SweepRow) -> Result<(), Self::Error>;
    /// Seconds since the sweep began, or was gone on with.
    fn elapsed_s(&self) -> f64;
    /// True when the user wants to stop; asked between points.
    fn interrupted(&self) -> bool;
}

/// When a sweep may end early.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SweepLimits {
    /// Points that are tried before the rest is left for later.
    pub points: Option<u32>,
    /// Seconds after which no further point is begun.
    pub budget_s: Option<f64>,
    /// Also try points again that ran out of memory.
    pub retry_oom: bool,
}

/// Why a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SweepStop {
    /// Every point was tried.
    Complete,
    /// A limit was reached; the rest is left for later.
    Limit,
    /// The user stopped it.
    Interrupted,
}

/// How a sweep ended.
#[derive(Debug, Clone, PartialEq)]
pub struct SweepEnd {
    /// Why.
    pub stop: SweepStop,
    /// Points that were tried this time.
    pub tried: u32,
}

/// The points that are still to be tried, in the order of the plan: all but those whose last attempt is final.
pub fn to_do(plan: &SweepPlanFile, rows: &[SweepRow], retry_oom: bool) -> Vec<u32> {
    let last = plan.last_attempts(rows);
    let is_done = |row: &SweepRow| row.is_final() && !(retry_oom && row.status == RowStatus::Oom);
    let open = |point: &u32| last.get(*point as usize).is_some_and(|row| !row.is_some_and(is_done));
    plan.order.iter().copied().filter(open).collect()
}

/// Tries every point of `plan` that `before`, the rows so far, do not settle.
///
/// # Errors
/// What the runner returns where it cannot go on; the rows so far are with the system.
pub fn run<R: PointRunner>(
    plan: &SweepPlanFile,
    before: &[SweepRow],
    limits: SweepLimits,
    runner: &mut R,
) -> Result<SweepEnd, R::Error> {
    let open = to_do(plan, before, limits.retry_oom);
    let settled = plan.points.len() - open.len();
    let mut tried = 0;
    let mut last = RowStatus::Ok;
    for (index, point) in open.iter().copied().enumerate() {
        if runner.interrupted() {
            return Ok(SweepEnd { stop: SweepStop::Interrupted, tried });
        }
        let elapsed_s = runner.elapsed_s();
        let spent = limits.budget_s.is_some_and(|budget| elapsed_s >= budget);
        if spent || limits.points.is_some_and(|most| tried >= most) {
            return Ok(SweepEnd { stop: SweepStop::Limit, tried });
        }
        let rest_s = (tried > 0).then(|| elapsed_s / f64::from(tried) * (open.len() - index) as f64);
        let outlook = Outlook { done: (settled + index) as u32, planned: plan.points.len() as u32, rest_s };
        runner.begins(point, &outlook);
        let attempts = before.iter().filter(|row| plan.point_of(row) == Some(point)).count();
        let end = runner.run(point, attempts as u32)?;
        last = end.status;
        runner.row(&SweepRow {
            schema_version: SWEEP_SCHEMA_VERSION,
            run_id: plan.run_id.clone(),
            point,
            attempt: attempts as u32,
            fingerprint: plan.points[point as usize].fingerprint.clone(),
            child: end.child,
            status: end.status,
            error: end.error,
            valid: end.valid,
            started_at: end.started_at,
            took_s: end.took_s,
            cases: end.cases,
        })?;
        tried += 1;
    }
    // A signal behind the end of the last point has nothing left to interrupt.
    let stop = if last == RowStatus::Interrupted { SweepStop::Interrupted } else { SweepStop::Complete };
    Ok(SweepEnd { stop, tried })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::sweep::PlannedPoint;

    fn plan(points: u32) -> SweepPlanFile {
        let point = |index: u32| PlannedPoint {
            settings: vec![("batch".to_owned(), index.to_string())],
            overrides: Vec::new(),
            fingerprint: format!("f{index}"),
        };
        SweepPlanFile {
            schema_version: 1,
            run_id: "s".to_owned(),
            runs: "stage1".to_owned(),
            name: "grid".to_owned(),
            points: (0..points).map(point).collect(),
            order: (0..points).rev().collect(),
            objective: None,
            constraints: Vec::new(),
            pareto: Vec::new(),
            allow_invalid: false,
            diagnostics: Vec::new(),
        }
    }

    /// Ends each attempt as the script says, and dies after so many rows.
    struct Script {
        ends: Box<dyn Fn(u32, u32) -> RowStatus>,
        rows: Vec<SweepRow>,
        dies_after: usize,
        stops_after: usize,
        ran: Vec<u32>,
    }

    impl PointRunner for Script {
        type Error = String;
        fn run(&mut self, point: u32, attempt: u32) -> Result<PointEnd, String> {
            self.ran.push(point);
            if self.ran.len() > self.dies_after {
                return Err("killed".to_owned());
            }
            Ok(PointEnd {
                child: format!("p{point}-{attempt}"),
                status: (self.ends)(point, attempt),
                error: None,
                valid: None,
                started_at: String::new(),
                took_s: 1.0,
                cases: Vec::new(),
            })
        }
        fn begins(&mut self, _: u32, _: &Outlook) {}
        fn row(&mut self, row: &SweepRow) -> Result<(), String> {
            self.rows.push(row.clone());
            Ok(())
        }
        fn elapsed_s(&self) -> f64 {
            self.ran.len() as f64
        }
        fn interrupted(&self) -> bool {
            self.ran.len() >= self.stops_after
        }
    }

    fn script(ends: impl Fn(u32, u32) -> RowStatus + 'static, rows: Vec<SweepRow>) -> Script {
        Script { ends: Box::new(ends), rows, dies_after: usize::MAX, stops_after: usize::MAX, ran: Vec::new() }
    }

    #[test]
    fn points_that_are_settled_are_not_tried_again_and_the_others_are() {
        let plan = plan(4);
        let ends = |point: u32, attempt: u32| match (point, attempt) {
            (0, 0) => RowStatus::Failed,
            (1, _) => RowStatus::Oom,
            (2, 0) => RowStatus::Interrupted,
            _ => RowStatus::Ok,
        };
        let mut first = script(ends, Vec::new());
        assert_eq!(run(&plan, &[], SweepLimits::default(), &mut first).unwrap().stop, SweepStop::Complete);
        assert_eq!(first.ran, [3, 2, 1, 0], "the order of the plan");
        let before = first.rows.clone();
        let mut second = script(ends, before.clone());
        run(&plan, &before, SweepLimits::default(), &mut second).unwrap();
        assert_eq!(second.ran, [2, 0]);
        assert_eq!(second.rows.last().unwrap().attempt, 1);
        let all = second.rows.clone();
        assert!(to_do(&plan, &all, false).is_empty());
        assert_eq!(to_do(&plan, &all, true), [1], "memory may have become free");
    }

    #[test]
    fn limits_leave_the_rest_for_later() {
        let plan = plan(5);
        let mut two = script(|_, _| RowStatus::Ok, Vec::new());
        let end = run(&plan, &[], SweepLimits { points: Some(2), ..SweepLimits::default() }, &mut two).unwrap();
        assert_eq!((end.stop, end.tried, two.rows.len()), (SweepStop::Limit, 2, 2));
        let mut short = script(|_, _| RowStatus::Ok, Vec::new());
        let end = run(&plan, &[], SweepLimits { budget_s: Some(3.0), ..SweepLimits::default() }, &mut short).unwrap();
        assert_eq!((end.stop, end.tried), (SweepStop::Limit, 3));
        let mut stopped = script(|_, _| RowStatus::Ok, Vec::new());
        stopped.stops_after = 1;
        assert_eq!(
            run(&plan, &[], SweepLimits::default(), &mut stopped).unwrap(),
            SweepEnd { stop: SweepStop::Interrupted, tried: 1 }
        );
    }

    #[test]
    fn a_last_point_that_was_cut_short_leaves_the_sweep_interrupted() {
        let plan = plan(2);
        let mut cut = script(|point, _| if point == 0 { RowStatus::Interrupted } else { RowStatus::Ok }, Vec::new());
        let end = run(&plan, &[], SweepLimits::default(), &mut cut).unwrap();
        assert_eq!((end.stop, end.tried), (SweepStop::Interrupted, 2));
        let mut whole = script(|_, _| RowStatus::Ok, Vec::new());
        whole.stops_after = 2;
        assert_eq!(run(&plan, &[], SweepLimits::default(), &mut whole).unwrap().stop, SweepStop::Complete);
    }

    proptest! {
        /// However often it dies, every point ends well exactly once.
        #[test]
        fn no_finished_point_is_lost_or_tried_again(points in 1u32..12, deaths in proptest::collection::vec(0usize..6, 0..8)) {
            let plan = plan(points);
            let mut rows = Vec::new();
            for dies_after in deaths {
                let mut life = script(|_, _| RowStatus::Ok, rows.clone());
                life.dies_after = dies_after;
                let before = rows.clone();
                let _ = run(&plan, &before, SweepLimits::default(), &mut life);
                rows = life.rows;
            }
            let mut last = script(|_, _| RowStatus::Ok, rows.clone());
            run(&plan, &rows, SweepLimits::default(), &mut last).unwrap();
            let mut tried: Vec<u32> = last.rows.iter().map(|row| row.point).collect();
            tried.sort_unstable();
            prop_assert_eq!(tried, (0..points).collect::<Vec<_>>());
        }
    }
}
