//! Where a server is best used: what the stages of a run say when they are laid side by side.

use crate::record::load::metrics::{Knee, MaxUnderSlo, Peak, Saturation, StageBlock};
use crate::runner::load::summary::ERRORS_WORTH_A_WORD;
use crate::stats::knee::two_lines;

/// How many times the p99 of the first stage a later one must have for it to have risen.
pub const P99_RISES: f64 = 2.0;
/// A stage this share beyond the end of the interval of the knee still lies at the knee.
const KNEE_MARGIN: f64 = 0.05;
/// Throughput stops to grow where it grows by at most this share of what it grew by before: every curve bends, and one that still pays has no knee.
const KNEE_SLOPE: f64 = 0.15;
/// The best stage is the lightest with this share of the most throughput.
const ENOUGH: f64 = 0.95;
/// Seed of the interval of the knee, so that a rebuilt report says the same.
const SEED: u64 = 0x10ad;

/// One stage with its place on the axis.
struct Place<'a> {
    x: f64,
    stage: &'a StageBlock,
}

impl Place<'_> {
    fn peak(&self, value: f64) -> Peak {
        Peak { stage: self.stage.plan.label.clone(), value }
    }
    fn p99(&self) -> Option<f64> {
        self.stage.measures.get("e2e_ms").and_then(|measure| measure.summary.p99)
    }
}

/// What the stages differ in, and each stage's place on it, in rising order; `None` if they have no common axis.
fn places(stages: &[StageBlock]) -> Option<(&'static str, Vec<Place<'_>>)> {
    let along = |get: fn(&StageBlock) -> Option<f64>| {
        let found: Option<Vec<Place<'_>>> = stages.iter().map(|stage| Some(Place { x: get(stage)?, stage })).collect();
        found.map(|mut found| {
            found.sort_by(|a, b| a.x.total_cmp(&b.x));
            found
        })
    };
    along(|stage| stage.plan.concurrency.map(f64::from))
        .map(|found| ("concurrency", found))
        .or_else(|| along(|stage| stage.plan.rate).map(|found| ("rate", found)))
}

/// A number as it is read: whole numbers without a point, others with three figures.
fn figure(value: f64) -> String {
    if value == value.round() || value.abs() >= 1000.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}

/// The place with the largest value, of equal ones the first.
fn largest<'a, 'b>(
    places: impl Iterator<Item = &'b Place<'a>>,
    get: impl Fn(&Place<'a>) -> Option<f64>,
) -> Option<(&'b Place<'a>, f64)>
where
    'a: 'b,
{
    places.filter_map(|place| Some((place, get(place)?))).fold(None, |best: Option<(&Place<'a>, f64)>, next| match best
    {
        Some(best) if best.1 >= next.1 => Some(best),
        _ => Some(next),
    })
}

/// The throughput the knee is looked for in: of the steady parts where all stages have one, else of the whole stages; tokens where they are
/// known, else requests.
struct Throughput {
    unit: &'static str,
    part: &'static str,
    values: Vec<f64>,
}

fn throughput(places: &[Place<'_>]) -> Option<Throughput> {
    let all = |get: &dyn Fn(&StageBlock) -> Option<f64>| {
        places.iter().map(|place| get(place.stage)).collect::<Option<Vec<f64>>>()
    };
    let steady = |stage: &StageBlock| stage.steady.as_ref().map(|steady| steady.rates.clone());
    let made = |unit, part, values: Option<Vec<f64>>| values.map(|values| Throughput { unit, part, values });
    made("output tok/s", "steady parts", all(&|stage| steady(stage)?.output_tok_per_s))
        .or_else(|| made("output tok/s", "whole stages", all(&|stage| stage.rates.output_tok_per_s)))
        .or_else(|| made("req/s", "steady parts", all(&|stage| steady(stage)?.request_per_s)))
        .or_else(|| made("req/s", "whole stages", all(&|stage| stage.rates.request_per_s)))
}

/// Where the server is best used; `None` for fewer than two stages or stages of different kinds. `sought` is what a search found.
pub fn saturation(stages: &[StageBlock], sought: Option<MaxUnderSlo>) -> Option<Saturation> {
    if stages.len() < 2 {
        return None;
    }
    let (axis, places) = places(stages)?;
    let mut evidence = Vec::new();
    let left_out = places.iter().filter(|place| !place.stage.validity.is_valid()).count();
    if left_out > 0 {
        evidence.push(format!("{left_out} of {} stages are INVALID; none of them can be the best", places.len()));
    }
    let knee = knee(axis, &places, &mut evidence);
    let most = |name: &str, get: fn(&StageBlock) -> Option<f64>, evidence: &mut Vec<String>| {
        let (place, value) = largest(places.iter(), |place| get(place.stage))?;
        evidence.push(format!("most {name}: {} at {axis} {}", figure(value), figure(place.x)));
        Some(place.peak(value))
    };
    let peak_request_per_s = most("requests per second", |stage| stage.rates.request_per_s, &mut evidence);
    let peak_output_tok_per_s = most("output tokens per second", |stage| stage.rates.output_tok_per_s, &mut evidence);
    let lowest = largest(places.iter(), |place| place.p99().map(|ms| -ms));
    let lowest_p99_e2e_ms = lowest.map(|(place, ms)| place.peak(-ms));
    if let Some((place, ms)) = lowest {
        evidence.push(format!("lowest p99 of the end-to-end time: {} ms at {axis} {}", figure(-ms), figure(place.x)));
    }
    let first_p99 = places[0].p99();
    let risen = first_p99.and_then(|first| {
        places[1..].iter().find_map(|place| Some((place, place.p99().filter(|ms| *ms >= P99_RISES * first)?)))
    });
    evidence.extend(first_p99.map(|first| match risen {
        Some((place, ms)) => format!(
            "p99 of the end-to-end time is {:.1} times that of {axis} {} from {axis} {} on: {} ms after {} ms",
            ms / first,
            figure(places[0].x),
            figure(place.x),
            figure(ms),
            figure(first)
        ),
        None => format!(
            "p99 of the end-to-end time nowhere reaches {P99_RISES} times the {} ms of {axis} {}",
            figure(first),
            figure(places[0].x)
        ),
    }));
    let failing = places
        .iter()
        .find_map(|place| Some((place, place.stage.error_rate.filter(|rate| *rate > ERRORS_WORTH_A_WORD)?)));
    evidence.push(match failing {
        Some((place, rate)) => format!("errors exceed 1 % from {axis} {} on: {:.1} %", figure(place.x), rate * 100.0),
        None => "no stage has more than 1 % of errors".to_owned(),
    });
    if let Some(sought) = &sought {
        evidence.push(words_of_sought(axis, sought));
    }
    let (best, best_because) = best(axis, &places, knee.as_ref());
    Some(Saturation {
        axis: axis.to_owned(),
        knee,
        peak_request_per_s,
        peak_output_tok_per_s,
        lowest_p99_e2e_ms,
        p99_rises_at: risen.map(|(place, ms)| place.peak(ms)),
        errors_rise_at: failing.map(|(place, rate)| place.peak(rate)),
        best,
        best_because,
        max_under_slo: sought,
        evidence,
    })
}

/// The knee of throughput, if it flattens anywhere.
fn knee(axis: &str, places: &[Place<'_>], evidence: &mut Vec<String>) -> Option<Knee> {
    let Some(throughput) = throughput(places) else {
        evidence.push("no knee: throughput is not known in every stage".to_owned());
        return None;
    };
    let x: Vec<f64> = places.iter().map(|place| place.x).collect();
    let found = two_lines(&x, &throughput.values, SEED).filter(|lines| lines.slope_after < lines.slope_before);
    let Some(lines) = found else {
        evidence.push(format!(
            "no knee: two lines fit the {} of the {} no better than one does",
            throughput.unit, throughput.part
        ));
        return None;
    };
    if lines.slope_after > KNEE_SLOPE * lines.slope_before {
        evidence.push(format!(
            "no knee: the {} of the {} grow more slowly beyond {axis} {:.1} (by {} per unit after {}), but go on",
            throughput.unit,
            throughput.part,
            lines.at,
            figure(lines.slope_after),
            figure(lines.slope_before)
        ));
        return None;
    }
    evidence.push(format!(
        "{} of the {} grow by {} per unit of {axis} up to {axis} {:.1} (95 % interval {:.1} to {:.1}), by {} beyond",
        throughput.unit,
        throughput.part,
        figure(lines.slope_before),
        lines.at,
        lines.ci95[0],
        lines.ci95[1],
        figure(lines.slope_after)
    ));
    Some(Knee {
        at: lines.at,
        ci95: lines.ci95,
        value: lines.value,
        slope_before: lines.slope_before,
        slope_after: lines.slope_after,
    })
}

/// The best stage and why. Only VALID stages can be it.
fn best(axis: &str, places: &[Place<'_>], knee: Option<&Knee>) -> (Option<Peak>, String) {
    let valid = || places.iter().filter(|place| place.stage.validity.is_valid());
    if valid().next().is_none() {
        return (None, "no stage is VALID".to_owned());
    }
    if let Some(level) = places[0].stage.goodput.first() {
        return match largest(valid(), |place| place.stage.goodput_per_s.filter(|rate| *rate > 0.0)) {
            Some((place, rate)) => {
                let share = place.stage.goodput.first().and_then(|goodput| goodput.share).unwrap_or(0.0) * 100.0;
                let because = format!(
                    "the most requests per second that keep `{}`: {} at {axis} {}, {share:.1} % of its requests",
                    level.slo,
                    figure(rate),
                    figure(place.x)
                );
                (Some(place.peak(rate)), because)
            }
            None => (None, format!("no request of any VALID stage kept `{}`", level.slo)),
        };
    }
    let end = knee.map_or(f64::INFINITY, |knee| knee.ci95[1] * (1.0 + KNEE_MARGIN));
    let rate = |place: &Place<'_>| place.stage.rates.output_tok_per_s.or(place.stage.rates.request_per_s);
    match largest(valid().filter(|place| place.x <= end), rate) {
        Some((top, most)) => {
            // What the last per cent of throughput cost is paid in waiting.
            let enough = |place: &&Place<'_>| rate(place).is_some_and(|value| value >= ENOUGH * most);
            let lightest = valid().filter(enough).min_by(|a, b| a.x.total_cmp(&b.x)).unwrap_or(top);
            let (place, value) = (lightest, rate(lightest).unwrap_or(most));
            let unit = if place.stage.rates.output_tok_per_s.is_some() { "output tokens" } else { "requests" };
            let before = knee
                .map_or_else(String::new, |knee| format!(" up to the end of the knee at {axis} {:.1}", knee.ci95[1]));
            let because = if value < most {
                format!(
                    "the smallest load with {:.0} % of the most {unit} per second{before}: {} at {axis} {}, of {} at {axis} {}",
                    ENOUGH * 100.0,
                    figure(value),
                    figure(place.x),
                    figure(most),
                    figure(top.x)
                )
            } else {
                format!("the most {unit} per second{before}: {} at {axis} {}", figure(value), figure(place.x))
            };
            (Some(place.peak(value)), because)
        }
        None => (None, "no VALID stage before the end of the knee has a throughput".to_owned()),
    }
}

fn words_of_sought(axis: &str, sought: &MaxUnderSlo) -> String {
    let name = &sought.slo;
    match (sought.value, sought.broken_at) {
        (Some(value), Some(broken)) => {
            format!("`{name}` is kept up to {axis} {} and broken at {axis} {}", figure(value), figure(broken))
        }
        (Some(value), None) => format!("`{name}` is kept up to {axis} {}, the highest that was tried", figure(value)),
        (None, Some(broken)) => format!("`{name}` is broken at {axis} {}, the lowest that was tried", figure(broken)),
        (None, None) => format!("whether `{name}` is kept is not known of any stage"),
    }
}

/// The greatest load that kept the level `slo`, as the stages have it; `None` if they have no common axis or no such level.
///
/// A VALID stage keeps it or does not; of an INVALID one only a broken level counts, as a fault of the client cannot make a server faster. What
/// was kept above the first that broke it counts as luck.
pub fn max_under_slo(stages: &[StageBlock], slo: &str) -> Option<MaxUnderSlo> {
    let (_, places) = places(stages)?;
    let told: Vec<(f64, bool)> = places
        .iter()
        .filter_map(|place| {
            let goodput = place.stage.goodput.iter().find(|goodput| goodput.slo == slo)?;
            (goodput.of > 0 && (place.stage.validity.is_valid() || !goodput.kept)).then_some((place.x, goodput.kept))
        })
        .collect();
    let broken_at = told.iter().find(|(_, kept)| !kept).map(|(x, _)| *x);
    let below = broken_at.unwrap_or(f64::INFINITY);
    let value = told.iter().filter(|(x, kept)| *kept && *x < below).map(|(x, _)| *x).next_back();
    (!told.is_empty()).then(|| MaxUnderSlo { slo: slo.to_owned(), value, broken_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::load::outcome::Outcome;
    use crate::record::load::row::RequestRow;
    use crate::runner::load::summary::{Extras, summarize};
    use crate::runner::load::testing::{closed, context, even, failed, open, stage, ttft_level};

    /// A server of 8 slots: 10 requests in each slot of the client, 100 ms each while the server has room; beyond, the wait for a slot is in the TTFT.
    fn rows(index: u32, concurrency: u64) -> Vec<RequestRow> {
        let wait = 100 * concurrency.saturating_sub(8) / 8;
        (0..concurrency * 10)
            .map(|id| {
                let turn = id / concurrency;
                let mut row = even(id, turn * (100 + wait), 10 + wait, 10, 9);
                row.stage = index;
                row.end_us = row.chunks.at_us.last().copied();
                row
            })
            .collect()
    }

    fn stages(levels: &[u64], limit_ms: Option<f64>) -> Vec<StageBlock> {
        let all: Vec<Vec<RequestRow>> = levels.iter().zip(0..).map(|(level, index)| rows(index, *level)).collect();
        let records = levels.iter().zip(&all).map(|(level, rows)| stage(closed(*level as u32), rows)).collect();
        let mut context = context(records);
        context.levels = limit_ms.map(ttft_level).into_iter().collect();
        summarize(&context, &all.concat(), &Extras { status: "complete", ..Extras::default() }).stages
    }

    const LEVELS: [u64; 8] = [1, 2, 4, 6, 8, 12, 16, 24];

    #[test]
    fn a_server_of_eight_slots_has_its_knee_at_eight() {
        let found = saturation(&stages(&LEVELS, None), None).unwrap();
        assert_eq!(found.axis, "concurrency");
        // 9 tokens each 100 ms in a slot; the last request of a stage ends 10 ms before its turn is over.
        let knee = found.knee.unwrap();
        assert!((knee.at - 8.0).abs() < 0.5, "{knee:?}");
        assert!((knee.slope_before - 90.0).abs() < 3.0 && knee.slope_after.abs() < 3.0, "{knee:?}");
        assert!(knee.ci95[0] <= 8.0 && knee.ci95[1] < 12.0, "{knee:?}");
        assert_eq!(found.lowest_p99_e2e_ms.unwrap(), Peak { stage: "c=1".to_owned(), value: 90.0 });
        // e2e is 90 ms up to 8, 140 at 12, 190 at 16.
        assert_eq!(found.p99_rises_at.unwrap(), Peak { stage: "c=16".to_owned(), value: 190.0 });
        assert_eq!(found.errors_rise_at, None);
        assert_eq!(found.best.unwrap().stage, "c=8");
        assert!(found.best_because.contains("end of the knee"), "{}", found.best_because);
        let text = found.evidence.join("\n");
        for part in [
            "up to concurrency 8.",
            "2.1 times that of concurrency 1 from concurrency 16 on",
            "no stage has more than 1 % of errors",
        ] {
            assert!(text.contains(part), "`{part}` is not in\n{text}");
        }
    }

    #[test]
    fn throughput_that_bends_and_goes_on_has_no_knee_and_its_best_stage_is_the_last() {
        // A batch costs 10 ms and 0.05 ms for each request in it: 1000·c/(10 + 0.05·c) tokens a second, which bends all the way.
        let levels: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];
        let mut stages = stages(&levels, None);
        for (stage, level) in stages.iter_mut().zip(levels) {
            let noise = 1.0 + 0.01 * if level % 3 == 0 { 1.0 } else { -1.0 };
            let level = level as f64;
            stage.rates.output_tok_per_s = Some(1000.0 * level / (10.0 + 0.05 * level) * noise);
            stage.steady = None;
        }
        let found = saturation(&stages, None).unwrap();
        assert_eq!(found.knee, None, "{:?}", found.evidence);
        assert!(found.evidence.iter().any(|text| text.contains("no knee")), "{:?}", found.evidence);
        assert_eq!(found.best.unwrap().stage, "c=64");
    }

    #[test]
    fn the_last_per_cent_of_throughput_is_not_worth_any_wait() {
        let levels: [u64; 5] = [1, 2, 4, 8, 16];
        let mut stages = stages(&levels, None);
        for (stage, rate) in stages.iter_mut().zip([121.8, 119.0, 137.6, 141.1, 140.8]) {
            stage.rates.output_tok_per_s = Some(rate);
            stage.steady = None;
        }
        let found = saturation(&stages, None).unwrap();
        assert_eq!(found.best.unwrap().stage, "c=4");
        assert!(
            found.best_because.contains("137.600 at concurrency 4, of 141.100 at concurrency 8"),
            "{}",
            found.best_because
        );
    }

    #[test]
    fn with_a_level_the_best_stage_is_the_one_with_the_most_goodput() {
        // TTFT is 10 ms up to 8, 60 at 12, 110 at 16, 210 at 24.
        let stages = stages(&LEVELS, Some(70.0));
        let sought = max_under_slo(&stages, "slo").unwrap();
        assert_eq!(sought, MaxUnderSlo { slo: "slo".to_owned(), value: Some(12.0), broken_at: Some(16.0) });
        let found = saturation(&stages, Some(sought)).unwrap();
        let best = found.best.unwrap();
        let kept = |label: &str| stages.iter().find(|stage| stage.plan.label == label).unwrap().goodput_per_s.unwrap();
        assert_eq!(best.value, kept(&best.stage));
        assert!(kept(&best.stage) >= kept("c=8") && kept(&best.stage) >= kept("c=12") && kept("c=16") == 0.0);
        assert!(found.best_because.contains("keep `slo`"), "{}", found.best_because);
        assert!(
            found.evidence.iter().any(|text| text.contains("kept up to concurrency 12 and broken at concurrency 16"))
        );
        let strict = saturation(&self::stages(&[1, 2], Some(1.0)), None).unwrap();
        assert_eq!((strict.best, strict.best_because.as_str()), (None, "no request of any VALID stage kept `slo`"));
    }

    #[test]
    fn stages_in_any_order_say_the_same() {
        let mut stages = stages(&LEVELS, None);
        let found = saturation(&stages, None);
        stages.reverse();
        assert_eq!(saturation(&stages, None), found);
    }

    #[test]
    fn an_invalid_stage_is_not_the_best() {
        let mut stages = stages(&[1, 2, 4], None);
        stages[2].validity = crate::diagnostics::Validity::from_reasons(vec!["client-limited".to_owned()]);
        let found = saturation(&stages, None).unwrap();
        assert_eq!(found.best.unwrap().stage, "c=2");
        assert_eq!(found.peak_request_per_s.unwrap().stage, "c=4", "what was measured is still said");
        assert!(found.evidence[0].contains("1 of 3 stages are INVALID"));
        assert_eq!(found.knee, None);
    }

    #[test]
    fn errors_are_seen_where_they_begin_and_rates_are_an_axis() {
        let good: Vec<RequestRow> = (0..40).map(|id| even(id, id * 50, 10, 10, 5)).collect();
        let mut bad = good.clone();
        for row in &mut bad {
            row.stage = 1;
        }
        for id in 0..4 {
            bad[id * 10] = RequestRow { stage: 1, ..failed(id as u64 * 10, 50, Outcome::Http5xx, "status", "busy") };
        }
        let records = vec![stage(open(20.0), &good), stage(open(25.0), &bad)];
        let metrics =
            summarize(&context(records), &[good, bad].concat(), &Extras { status: "complete", ..Extras::default() });
        let found = metrics.saturation.unwrap();
        assert_eq!(found.axis, "rate");
        assert_eq!(found.errors_rise_at.unwrap(), Peak { stage: "25/s".to_owned(), value: 0.1 });
        assert!(
            found.evidence.iter().any(|text| text == "errors exceed 1 % from rate 25 on: 10.0 %"),
            "{:?}",
            found.evidence
        );
    }

    #[test]
    fn one_stage_or_stages_of_two_kinds_have_no_saturation() {
        let mut stages = stages(&[1, 2], None);
        assert_eq!(saturation(&stages[..1], None), None);
        stages[1].plan = open(3.0);
        assert_eq!(saturation(&stages, None), None);
    }

    #[test]
    fn a_level_kept_above_one_that_broke_it_is_luck() {
        let mut stages = stages(&[1, 2, 4, 8], Some(70.0));
        stages[1].goodput[0].kept = false;
        let sought = max_under_slo(&stages, "slo").unwrap();
        assert_eq!((sought.value, sought.broken_at), (Some(1.0), Some(2.0)));
        assert_eq!(max_under_slo(&stages, "other"), None);
    }
}
