//! Whether two subjects did the same work under the same conditions.
//!
//! Facts of equal name are compared. What each is worth stands in one table, `fact_rules`; a fact that it does not know is a note.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::attribution::normal_name;
use super::fact_rules::{self, ModelNames};
use super::import::trace::GRAPH_STATE;
use super::pairing::{self, CasePair};
use super::result::{Difference, DifferenceKind};
use super::settings::CompareSettings;
use super::subject::{Subject, SubjectKind, fact};
use super::words;

/// Counts of tokens may differ by this share before the work counts as other work: generation that ends by itself never ends twice at the
/// same total.
pub const TOKEN_TOLERANCE: f64 = 0.005;

/// Clocks within this share of each other are the same.
pub const CLOCK_TOLERANCE: f64 = 0.02;

/// Name of the difference that two lone cases of different names are.
pub const CASE: &str = "case";

/// All differences between two subjects, the ones that matter most first.
///
/// A fact known of one side only is a flag (a note, for facts that do not change times); a fact that neither tells is silent, but a note
/// for the model, its format, the hardware and the lengths. Keys in `settings.studied` make their facts [`DifferenceKind::Studied`];
/// `settings.allow_unequal` makes flags of work that is not the same.
pub fn differences(baseline: &Subject, candidate: &Subject, settings: &CompareSettings) -> Vec<Difference> {
    let pairs = pairing::case_pairs(baseline, candidate);
    let sides = Sides { baseline, candidate, pairs: &pairs };
    let mut found: Vec<Difference> = sides.names().iter().filter_map(|name| sides.difference(name, settings)).collect();
    found.extend(pairs.iter().filter(|pair| pair.is_renamed()).map(|pair| sides.renamed(pair)));
    found.extend(other_kernels(baseline, candidate, settings));
    drop_outputs_of_other_work(&mut found);
    if settings.allow_unequal {
        for difference in found.iter_mut().filter(|difference| difference.kind == DifferenceKind::NotTheSameWork) {
            difference.kind = DifferenceKind::Flag;
            difference.meaning.push_str("; winners are named all the same, as was asked for");
        }
    }
    found.sort_by_key(|difference| Reverse(difference.kind));
    found
}

/// Other prompts or another model give other tokens: that the outputs differ is then no finding.
fn drop_outputs_of_other_work(found: &mut Vec<Difference>) {
    let explains = |row: &Difference| {
        let fact = split_case(&row.fact).1;
        matches!(row.kind, DifferenceKind::NotTheSameWork | DifferenceKind::Studied)
            && (fact == fact::MODEL || fact_rules::is_work(fact))
    };
    let explained: Vec<Option<String>> =
        found.iter().filter(|row| explains(row)).map(|row| split_case(&row.fact).0.map(str::to_owned)).collect();
    found.retain(|row| {
        let (case, fact) = split_case(&row.fact);
        fact != fact::OUTPUT_SHA256 || !explained.iter().any(|of| of.is_none() || of.as_deref() == case)
    });
}

/// Name of the difference that two traces without common kernels are.
pub const KERNELS_IN_COMMON: &str = "kernels_in_common";

/// Two traces of which either spends less than this share of its kernel time in kernels that the other has too did not visibly do the same.
const LEAST_IN_COMMON: f64 = 0.1;

/// A trace does not say which model it is of. Where it shares next to no kernel with the other, nothing shows that the work was the same.
fn other_kernels(baseline: &Subject, candidate: &Subject, settings: &CompareSettings) -> Option<Difference> {
    let hidden = |subject: &Subject| subject.facts.get(GRAPH_STATE).cloned().flatten().as_deref() == Some("hidden");
    let sides = [baseline, candidate];
    if sides.iter().any(|side| side.kind != SubjectKind::Trace || hidden(side) || side.facts.contains_key(fact::MODEL))
    {
        return None;
    }
    let times = sides.map(|side| {
        let mut times: BTreeMap<String, u64> = BTreeMap::new();
        for row in side.operators.iter().filter(|row| !matches!(row.class.as_str(), "memcpy" | "memset" | "graph")) {
            let time = times.entry(normal_name(&row.name)).or_default();
            *time = time.saturating_add(row.total_ns);
        }
        times
    });
    let share = |of: usize| {
        let all: u64 = times[of].values().sum();
        let common: u64 = times[of].iter().filter(|(name, _)| times[1 - of].contains_key(*name)).map(|row| row.1).sum();
        (all > 0).then(|| common as f64 / all as f64)
    };
    let shares = [share(0)?, share(1)?];
    if shares.iter().all(|share| *share >= LEAST_IN_COMMON) {
        return None;
    }
    let studied = settings.studied.iter().any(|key| key == KERNELS_IN_COMMON);
    let text = |share: f64| Some(format!("{} of its kernel time", words::percent(share)));
    Some(Difference {
        fact: KERNELS_IN_COMMON.to_owned(),
        baseline: text(shares[0]),
        candidate_label: candidate.label.clone(),
        candidate: text(shares[1]),
        kind: if studied { DifferenceKind::Studied } else { DifferenceKind::NotTheSameWork },
        meaning: format!(
            "`{KERNELS_IN_COMMON}`: the traces have next to no kernels in common, so nothing shows that they did the same work"
        ),
    })
}

/// The case a fact belongs to, and its name without it: `case:p128.prompt_tokens` is `prompt_tokens` of `p128`.
pub fn split_case(name: &str) -> (Option<&str>, &str) {
    let Some(rest) = name.strip_prefix("case:") else { return (None, name) };
    // Names of cases may hold dots, and so may those of facts.
    let dotted = [fact::OPS, fact::THREADS].iter().find_map(|known| {
        let case = rest.strip_suffix(known)?.strip_suffix('.')?;
        Some((Some(case), *known))
    });
    dotted.or_else(|| rest.rsplit_once('.').map(|(case, fact)| (Some(case), fact))).unwrap_or((None, name))
}

/// Differences of `kind` that apply to a case: those of the whole subject and its own.
pub(super) fn of_case<'a>(
    differences: &'a [Difference],
    kind: DifferenceKind,
    case: Option<&'a str>,
) -> impl Iterator<Item = &'a Difference> {
    differences.iter().filter(move |difference| {
        let (of, _) = split_case(&difference.fact);
        difference.kind == kind && (of.is_none() || of == case)
    })
}

struct Sides<'a> {
    baseline: &'a Subject,
    candidate: &'a Subject,
    pairs: &'a [CasePair],
}

impl Sides<'_> {
    /// Facts of both, by the names the baseline gives its cases; facts of a case that only one side has are left out.
    fn names(&self) -> BTreeSet<String> {
        let paired = |name: &str, of_pair: fn(&CasePair) -> &Option<String>| -> Option<String> {
            let (Some(case), fact) = split_case(name) else { return Some(name.to_owned()) };
            let pair = self.pairs.iter().find(|pair| of_pair(pair).as_deref() == Some(case))?;
            Some(pair.name().map_or_else(|| fact.to_owned(), |case| format!("case:{case}.{fact}")))
        };
        let left = self.baseline.facts.keys().filter_map(|name| paired(name, |pair| &pair.baseline));
        let right = self.candidate.facts.keys().filter_map(|name| paired(name, |pair| &pair.candidate));
        let mut names: BTreeSet<String> = left.chain(right).collect();
        // Facts whose absence is worth a note.
        names.extend([fact::MODEL, fact::DTYPE].map(str::to_owned));
        for fact in [fact::PROMPT_TOKENS, fact::NEW_TOKENS] {
            if !names.iter().any(|name| split_case(name).1 == fact) {
                names.insert(fact.to_owned());
            }
        }
        if ![fact::CPU, fact::GPU, fact::DEVICE].iter().any(|name| names.contains(*name)) {
            names.insert(fact::DEVICE.to_owned());
        }
        names
    }

    /// The value of each side. A fact of a case falls back on that of the whole subject, where there is one case only.
    fn values(&self, name: &str) -> [Option<String>; 2] {
        let known = |facts: &BTreeMap<String, Option<String>>, name: &str| {
            facts.get(name).cloned().flatten().map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
        };
        let (case, fact) = split_case(name);
        let pair = match case {
            Some(case) => self.pairs.iter().find(|pair| pair.name().as_deref() == Some(case)),
            None => None,
        };
        // Where each side has one case, a fact of the case and one of the subject are the same thing.
        let lone = pairing::lone_pair(self.pairs);
        let of = |subject: &Subject, of_pair: fn(&CasePair) -> &Option<String>| {
            let own = pair.or(lone).and_then(|pair| of_pair(pair).as_ref());
            let of_case = own.and_then(|case| known(&subject.facts, &format!("case:{case}.{fact}")));
            if case.is_some() {
                of_case.or_else(|| lone.and_then(|_| known(&subject.facts, fact)))
            } else {
                known(&subject.facts, fact).or(of_case)
            }
        };
        [of(self.baseline, |pair| &pair.baseline), of(self.candidate, |pair| &pair.candidate)]
    }

    fn difference(&self, name: &str, settings: &CompareSettings) -> Option<Difference> {
        let (case, fact) = split_case(name);
        if case.is_some() && pairing::lone_pair(self.pairs).is_some() && self.names_whole(fact) {
            return None;
        }
        let rule = fact_rules::rule(fact);
        let values = self.values(name);
        let of_case = case.map(|case| format!(" in case `{case}`")).unwrap_or_default();
        let labels = [&self.baseline.label, &self.candidate.label];
        let (kind, meaning) = match &values {
            [Some(left), Some(right)] => {
                let verdict = judge(fact, left, right)?;
                let studied = settings.studied.iter().find(|key| fact_rules::studies(key, fact));
                match (studied, verdict) {
                    (Some(key), _) => (DifferenceKind::Studied, studied_meaning(fact, key)),
                    (None, Apart::Little(meaning)) => (DifferenceKind::Flag.min(rule.kind), meaning),
                    (None, Apart::NamedOtherwise(meaning)) => (DifferenceKind::Note, meaning),
                    (None, Apart::Wholly) => (rule.kind, rule.meaning.to_owned()),
                }
            }
            [None, None] if rule.important => {
                (DifferenceKind::Note, "not known of either side, so it may differ".to_owned())
            }
            [None, None] => return None,
            [left, _] => {
                if fact_rules::is_of_a_gpu(fact) && self.both_on_a_processor() {
                    return None;
                }
                let unknown = if left.is_none() { labels[0] } else { labels[1] };
                (rule.one_unknown, format!("not known of `{unknown}`, so it may differ"))
            }
        };
        let [left, right] = values;
        Some(Difference {
            fact: name.to_owned(),
            baseline: left,
            candidate_label: self.candidate.label.clone(),
            candidate: right,
            kind,
            meaning: format!("`{fact}`{of_case}: {meaning}"),
        })
    }

    /// Whether a side tells `fact` of the whole subject, so that the lone case need not be compared again.
    fn names_whole(&self, fact: &str) -> bool {
        [self.baseline, self.candidate].iter().any(|subject| subject.facts.contains_key(fact))
    }

    fn both_on_a_processor(&self) -> bool {
        self.values(fact::DEVICE).iter().all(|device| device.as_deref().is_some_and(|device| device.starts_with("cpu")))
    }

    /// Two lone cases of different names are the same work only if their lengths say so.
    fn renamed(&self, pair: &CasePair) -> Difference {
        let known = |fact: &str| {
            let name = pair.name().map_or_else(|| fact.to_owned(), |case| format!("case:{case}.{fact}"));
            self.values(&name).iter().all(Option::is_some)
        };
        let (kind, meaning) = if known(fact::PROMPT_TOKENS) && known(fact::NEW_TOKENS) {
            (DifferenceKind::Flag, "the lone cases have different names; their lengths are compared apart")
        } else {
            (
                DifferenceKind::NotTheSameWork,
                "the lone cases have different names, and the lengths of both are not known",
            )
        };
        Difference {
            fact: CASE.to_owned(),
            baseline: pair.baseline.clone(),
            candidate_label: self.candidate.label.clone(),
            candidate: pair.candidate.clone(),
            kind,
            meaning: format!("`{CASE}`: {meaning}"),
        }
    }
}

/// How far two values are apart that are not the same.
enum Apart {
    /// Less than makes other work of it.
    Little(String),
    /// In name only.
    NamedOtherwise(String),
    /// Wholly.
    Wholly,
}

/// `None` for values that are the same.
fn judge(fact: &str, left: &str, right: &str) -> Option<Apart> {
    if left == right {
        return None;
    }
    let numbers = left.parse::<f64>().ok().zip(right.parse::<f64>().ok());
    let finite = numbers.filter(|(left, right)| left.is_finite() && right.is_finite());
    if let Some((left, right)) = finite {
        let apart = if left == right { 0.0 } else { (left - right).abs() / left.abs().max(right.abs()) };
        match fact {
            _ if apart == 0.0 => return None,
            fact::CLOCK_MHZ if apart <= CLOCK_TOLERANCE => return None,
            fact::PROMPT_TOKENS | fact::NEW_TOKENS if apart <= TOKEN_TOLERANCE => {
                let apart = words::percent(apart);
                let most = words::percent(TOKEN_TOLERANCE);
                return Some(Apart::Little(format!(
                    "the counts are {apart} apart; up to {most} it counts as the same work"
                )));
            }
            _ => {}
        }
    } else if fact == fact::NEW_TOKENS
        && let Some((left, right)) = mean_length(left).zip(mean_length(right))
        && (left - right).abs() <= TOKEN_TOLERANCE * left.max(right)
    {
        let most = words::percent(TOKEN_TOLERANCE);
        return Some(Apart::Little(format!(
            "the requests differ in length, but the means by no more than {most}; that counts as the same work"
        )));
    }
    if fact == fact::MODEL {
        match fact_rules::same_model(left, right) {
            Some(ModelNames::Same) => return None,
            Some(ModelNames::OtherFormat) => {
                return Some(Apart::NamedOtherwise(
                    "the names differ in the format of the weights only and are taken for one model".to_owned(),
                ));
            }
            None => {}
        }
    }
    Some(Apart::Wholly)
}

/// The mean in `60 to 64, mean 62.50`.
fn mean_length(text: &str) -> Option<f64> {
    let mean = text.split_once(" to ")?.1.split_once(", mean ")?.1;
    mean.parse::<f64>().ok().filter(|mean| mean.is_finite())
}

fn studied_meaning(fact: &str, key: &str) -> String {
    if fact_rules::is_work(fact) {
        return format!(
            "varied on purpose (`{key}`), so that only measures of one token, and none of a whole request, name a winner"
        );
    }
    if fact == key {
        "varied on purpose".to_owned()
    } else {
        format!("follows from `{key}`, which is varied on purpose")
    }
}

#[cfg(test)]
mod tests {
    use super::super::subject::OperatorTime;
    use super::super::testing::{measure_of, subject, with_facts};
    use super::*;

    const WHOLE: [(&str, &str); 8] = [
        (fact::MODEL, "SmolLM2-135M"),
        (fact::DTYPE, "f32"),
        (fact::PROMPT_TOKENS, "128"),
        (fact::NEW_TOKENS, "64"),
        (fact::DEVICE, "cpu"),
        (fact::PROMPTS_SHA256, "aa"),
        (fact::BATCH, "1"),
        (fact::TOOL, "perfprof 0.1.0"),
    ];

    /// The kinds of all differences after `name` of the candidate became `value`.
    fn changed(name: &str, value: Option<&str>, settings: &CompareSettings) -> Vec<(String, DifferenceKind)> {
        let baseline = with_facts("a", &WHOLE);
        let mut candidate = with_facts("b", &WHOLE);
        candidate.facts.insert(name.to_owned(), value.map(str::to_owned));
        let found = differences(&baseline, &candidate, settings);
        found.into_iter().map(|difference| (difference.fact, difference.kind)).collect()
    }

    fn one(name: &str, kind: DifferenceKind) -> Vec<(String, DifferenceKind)> {
        vec![(name.to_owned(), kind)]
    }

    #[test]
    fn equal_facts_are_no_difference_however_they_are_written() {
        let settings = CompareSettings::default();
        for (name, value) in [
            (fact::PROMPT_TOKENS, "128.0"),
            (fact::MODEL, "HuggingFaceTB/smollm2-135m"),
            (fact::DTYPE, " f32 "),
            (fact::BATCH, "1"),
        ] {
            assert_eq!(changed(name, Some(value), &settings), [], "{name}");
        }
    }

    #[test]
    fn another_amount_of_work_is_not_the_same_work() {
        let settings = CompareSettings::default();
        for (name, value) in [
            (fact::MODEL, "SmolLM2-360M"),
            (fact::PROMPT_TOKENS, "256"),
            (fact::NEW_TOKENS, "63"),
            (fact::PROMPTS_SHA256, "bb"),
            (fact::BATCH, "8"),
        ] {
            assert_eq!(changed(name, Some(value), &settings), one(name, DifferenceKind::NotTheSameWork));
        }
        assert_eq!(changed(fact::NEW_TOKENS, Some("63.8"), &settings), one(fact::NEW_TOKENS, DifferenceKind::Flag));
    }

    #[test]
    fn answers_that_end_by_themselves_are_the_same_work_if_their_mean_length_is() {
        let kind = |left: &str, right: &str, name: &str| {
            let [a, b] = [("a", left), ("b", right)].map(|(label, value)| with_facts(label, &[(name, value)]));
            let found = differences(&a, &b, &CompareSettings::default());
            found.into_iter().find(|row| row.fact == name).map(|row| row.kind)
        };
        let (one, near, far) = ("3 to 128, mean 100.00", "5 to 128, mean 100.40", "5 to 128, mean 101.00");
        assert_eq!(kind(one, one, fact::NEW_TOKENS), None);
        assert_eq!(kind(one, near, fact::NEW_TOKENS), Some(DifferenceKind::Flag));
        assert_eq!(kind(one, far, fact::NEW_TOKENS), Some(DifferenceKind::NotTheSameWork));
        assert_eq!(kind(one, "100", fact::NEW_TOKENS), Some(DifferenceKind::NotTheSameWork), "none varies");
        assert_eq!(kind(one, near, fact::PROMPT_TOKENS), Some(DifferenceKind::NotTheSameWork), "prompts are given");
    }

    #[test]
    fn other_conditions_are_flags_and_the_rest_notes() {
        let settings = CompareSettings::default();
        let mut baseline = with_facts("a", &WHOLE);
        let mut candidate = with_facts("b", &WHOLE);
        for (name, left, right) in [
            (fact::DTYPE, "f32", "q4_1"),
            (fact::CLOCK_MHZ, "1980", "1900"),
            (fact::TOOL, "x 1", "x 2"),
            (fact::OUTPUT_SHA256, "1", "2"),
            (fact::SEED, "0", "1"),
            (fact::OPS, "reference", "fused"),
            ("scheduler", "fifo", "chunked"),
        ] {
            baseline.facts.insert(name.to_owned(), Some(left.to_owned()));
            candidate.facts.insert(name.to_owned(), Some(right.to_owned()));
        }
        let found = differences(&baseline, &candidate, &settings);
        let of = |kind| found.iter().filter(|row| row.kind == kind).map(|row| row.fact.as_str()).collect::<Vec<_>>();
        assert_eq!(of(DifferenceKind::Flag), [fact::CLOCK_MHZ, fact::DTYPE, fact::OUTPUT_SHA256, fact::TOOL]);
        assert_eq!(of(DifferenceKind::Note), [fact::OPS, "scheduler", fact::SEED]);
        candidate.facts.insert(fact::CLOCK_MHZ.to_owned(), Some("1945".to_owned()));
        assert!(!differences(&baseline, &candidate, &settings).iter().any(|row| row.fact == fact::CLOCK_MHZ));
    }

    #[test]
    fn what_one_side_does_not_tell_is_flagged_and_what_neither_tells_is_not() {
        let settings = CompareSettings::default();
        assert_eq!(changed(fact::BATCH, None, &settings), one(fact::BATCH, DifferenceKind::Flag));
        assert_eq!(changed(fact::OUTPUT_SHA256, Some("x"), &settings), one(fact::OUTPUT_SHA256, DifferenceKind::Note));
        // No run on a processor has a driver.
        assert_eq!(changed(fact::DRIVER, Some("570"), &settings), []);
        let found = differences(&subject("a"), &subject("b"), &settings);
        let notes: Vec<&str> = found.iter().map(|row| row.fact.as_str()).collect();
        assert_eq!(notes, [fact::DEVICE, fact::DTYPE, fact::MODEL, fact::NEW_TOKENS, fact::PROMPT_TOKENS]);
        assert!(found.iter().all(|row| row.kind == DifferenceKind::Note));
    }

    #[test]
    fn what_a_study_varies_is_meant_to_differ() {
        let studied = |key: &str| CompareSettings { studied: vec![key.to_owned()], ..CompareSettings::default() };
        assert_eq!(
            changed(fact::DTYPE, Some("q4_1"), &studied("model.dtype")),
            one(fact::DTYPE, DifferenceKind::Studied)
        );
        assert_eq!(changed(fact::BATCH, Some("8"), &studied("batch")), one(fact::BATCH, DifferenceKind::Studied));
        assert_eq!(
            changed(fact::BATCH, Some("8"), &studied("model.dtype")),
            one(fact::BATCH, DifferenceKind::NotTheSameWork)
        );
    }

    #[test]
    fn other_prompts_explain_other_tokens() {
        let settings = CompareSettings::default();
        let baseline = with_facts("a", &WHOLE);
        let mut candidate = with_facts("b", &WHOLE);
        candidate.facts.insert(fact::OUTPUT_SHA256.to_owned(), Some("x".to_owned()));
        let mut known = baseline.clone();
        known.facts.insert(fact::OUTPUT_SHA256.to_owned(), Some("y".to_owned()));
        let facts = |candidate: &Subject| {
            differences(&known, candidate, &settings).into_iter().map(|row| row.fact).collect::<Vec<_>>()
        };
        assert_eq!(facts(&candidate), [fact::OUTPUT_SHA256]);
        candidate.facts.insert(fact::PROMPTS_SHA256.to_owned(), Some("bb".to_owned()));
        assert_eq!(facts(&candidate), [fact::PROMPTS_SHA256]);
    }

    #[test]
    fn traces_without_common_kernels_are_not_the_same_work() {
        let trace = |label: &str, kernels: &[(&str, &str, u64)]| {
            let operators = kernels.iter().map(|(name, class, ns)| OperatorTime {
                case: None,
                phase: "decode".to_owned(),
                layer: None,
                module: None,
                class: (*class).to_owned(),
                name: (*name).to_owned(),
                shape: None,
                repeats: 1,
                calls: 1,
                total_ns: *ns,
            });
            Subject { kind: SubjectKind::Trace, operators: operators.collect(), ..with_facts(label, &[]) }
        };
        let kind = |left: &Subject, right: &Subject, settings: &CompareSettings| {
            let found = differences(left, right, settings);
            found.into_iter().find(|row| row.fact == KERNELS_IN_COMMON).map(|row| (row.kind, row.baseline))
        };
        let settings = CompareSettings::default();
        let model = trace("a", &[("gemm_128x64", "gemm", 900), ("softmax", "softmax", 100), ("copy", "memcpy", 5000)]);
        // Other tiles are the same kernel, and half of the time is enough.
        let tuned = trace("b", &[("gemm_256x64", "gemm", 500), ("fused_attention", "attention", 400)]);
        assert_eq!(kind(&model, &tuned, &settings), None);
        let other =
            trace("c", &[("advec_mom", "unclassified", 960), ("softmax", "softmax", 40), ("copy", "memcpy", 9000)]);
        let text = Some("10 % of its kernel time".to_owned());
        assert_eq!(kind(&model, &other, &settings), Some((DifferenceKind::NotTheSameWork, text.clone())));
        let allowed = CompareSettings { allow_unequal: true, ..CompareSettings::default() };
        assert_eq!(kind(&model, &other, &allowed), Some((DifferenceKind::Flag, text)));
        // What graphs hide cannot be held against anybody.
        let mut hidden = other;
        hidden.facts.insert(GRAPH_STATE.to_owned(), Some("hidden".to_owned()));
        assert_eq!(kind(&model, &hidden, &settings), None);
    }

    #[test]
    fn unequal_work_can_be_allowed_and_stays_flagged() {
        let settings = CompareSettings { allow_unequal: true, ..CompareSettings::default() };
        assert_eq!(changed(fact::BATCH, Some("8"), &settings), one(fact::BATCH, DifferenceKind::Flag));
    }

    #[test]
    fn facts_of_a_case_speak_for_that_case() {
        let side = |label: &str, tokens: &str| {
            let mut side = with_facts(label, &WHOLE[..2]);
            side.facts.insert("case:p1.5k.prompt_tokens".to_owned(), Some(tokens.to_owned()));
            side.facts.insert("case:short.prompt_tokens".to_owned(), Some("16".to_owned()));
            side.measures = ["p1.5k", "short"].map(|case| measure_of(Some(case), "tpot_ms", "ms", &[1.0])).to_vec();
            side
        };
        let found = differences(&side("a", "1500"), &side("b", "1600"), &CompareSettings::default());
        assert_eq!(
            (found[0].fact.as_str(), found[0].kind),
            ("case:p1.5k.prompt_tokens", DifferenceKind::NotTheSameWork)
        );
        let of = |case| of_case(&found, DifferenceKind::NotTheSameWork, case).count();
        assert_eq!((of(Some("p1.5k")), of(Some("short")), of(None)), (1, 0, 0));
    }

    #[test]
    fn lone_cases_of_other_names_need_lengths() {
        let side = |label: &str, case: &str, tokens: Option<&str>| {
            let mut side = with_facts(label, &WHOLE[..2]);
            for fact in ["prompt_tokens", "new_tokens"] {
                side.facts.insert(format!("case:{case}.{fact}"), tokens.map(str::to_owned));
            }
            side.measures = vec![measure_of(Some(case), "tpot_ms", "ms", &[1.0])];
            side
        };
        let kinds = |left: Option<&str>, right: Option<&str>| {
            let found = differences(&side("a", "x", left), &side("b", "y", right), &CompareSettings::default());
            let of = |name: &str| found.iter().find(|row| row.fact == name).map(|row| row.kind);
            (of(CASE), of("case:x.prompt_tokens"))
        };
        assert_eq!(kinds(Some("16"), Some("16")), (Some(DifferenceKind::Flag), None));
        assert_eq!(kinds(Some("16"), Some("32")).1, Some(DifferenceKind::NotTheSameWork));
        assert_eq!(kinds(None, Some("32")), (Some(DifferenceKind::NotTheSameWork), Some(DifferenceKind::Flag)));
    }

    #[test]
    fn a_fact_of_the_lone_case_meets_that_of_the_whole() {
        let mut case = with_facts("a", &[]);
        case.facts.insert("case:default.prompt_tokens".to_owned(), Some("128".to_owned()));
        case.measures = vec![measure_of(Some("default"), "tpot_ms", "ms", &[1.0])];
        let mut whole = with_facts("b", &[(fact::PROMPT_TOKENS, "256")]);
        whole.measures = vec![measure_of(None, "tpot_ms", "ms", &[1.0])];
        let found = differences(&case, &whole, &CompareSettings::default());
        let work: Vec<_> = found.iter().filter(|row| row.kind == DifferenceKind::NotTheSameWork).collect();
        assert_eq!(work.len(), 1);
        assert_eq!((work[0].baseline.as_deref(), work[0].candidate.as_deref()), (Some("128"), Some("256")));
    }
}
