//! What tokens cost: money from the price of the machine and the time they took, energy as measured or from the configured power.

use super::equal_work::split_case;
use super::pairing;
use super::result::CostRow;
use super::subject::{MeasureValues, Subject, fact};
use crate::stats::summary::mean;

/// `energy_source` of energy that was measured.
pub const MEASURED: &str = "measured";
/// `energy_source` of energy that is the configured power times the time.
pub const CONFIGURED: &str = "configured power";

/// The cost of each case of a subject; empty where neither a price nor energy nor power is known, or no rate.
///
/// The rate counts the whole time, processing of prompts included: `output_tok_per_s` of a server, `total_tok_per_s` of a run, or tokens over
/// `total_ms`; else what `prefill_tok_per_s` and `decode_tok_per_s` give for the lengths of the case. USD per million output tokens
/// = price / 3600 / rate × 10⁶; J per output token = measured energy / tokens, else configured power / rate.
pub fn cost_rows(subject: &Subject) -> Vec<CostRow> {
    let price = subject.price_usd_per_hour.filter(|price| *price >= 0.0 && price.is_finite());
    let power = subject.power_w.filter(|power| *power >= 0.0 && power.is_finite());
    let row = |case: Option<String>| {
        let of = Case { subject, case: case.as_deref() };
        let rate = of.output_rate();
        let measured = of.energy_per_token();
        let assumed = power.zip(rate).map(|(power, rate)| power / rate);
        let source = measured.map(|_| MEASURED).or(assumed.map(|_| CONFIGURED));
        let cost = CostRow {
            label: subject.label.clone(),
            output_tok_per_s: rate,
            usd_per_hour: price,
            usd_per_million_output_tokens: price.zip(rate).map(|(price, rate)| price / 3600.0 / rate * 1e6),
            joule_per_output_token: measured.or(assumed),
            energy_source: source.map(str::to_owned),
            case,
        };
        let known = cost.usd_per_million_output_tokens.is_some() || cost.joule_per_output_token.is_some();
        known.then_some(cost)
    };
    pairing::cases(subject).into_iter().filter_map(row).collect()
}

struct Case<'a> {
    subject: &'a Subject,
    case: Option<&'a str>,
}

impl Case<'_> {
    fn measure(&self, name: &str) -> Option<&MeasureValues> {
        pairing::measure(self.subject, self.case, name)
    }

    /// The mean of a measure, of its values or as reported.
    fn mean_of(&self, name: &str) -> Option<f64> {
        let measure = self.measure(name)?;
        let found = if measure.values.is_empty() { measure.reported.as_ref()?.mean } else { mean(&measure.values) };
        found.filter(|value| *value > 0.0 && value.is_finite())
    }

    /// The rate over all pieces together: tokens over the sum of the times, which is the harmonic mean where each made as many tokens.
    fn rate_of(&self, name: &str) -> Option<f64> {
        let measure = self.measure(name)?;
        if measure.values.is_empty() {
            return self.mean_of(name);
        }
        if measure.values.iter().any(|rate| *rate <= 0.0) {
            return None;
        }
        let times: Vec<f64> = measure.values.iter().map(|rate| 1.0 / rate).collect();
        mean(&times).map(|time| 1.0 / time).filter(|rate| rate.is_finite())
    }

    /// A number among the facts, of the case or of the subject.
    fn number(&self, name: &str) -> Option<f64> {
        let known = |fact: &str| self.subject.facts.get(fact)?.as_deref()?.trim().parse::<f64>().ok();
        let of_case = self.subject.facts.iter().find_map(|(fact, value)| {
            let (case, base) = split_case(fact);
            (case.is_some() && case == self.case && base == name)
                .then(|| value.as_deref()?.trim().parse::<f64>().ok())?
        });
        of_case.or_else(|| known(name)).filter(|value| *value > 0.0 && value.is_finite())
    }

    fn output_tokens(&self) -> Option<f64> {
        Some(self.number(fact::NEW_TOKENS)? * self.number(fact::BATCH).unwrap_or(1.0))
    }

    fn output_rate(&self) -> Option<f64> {
        let measured = self.rate_of("output_tok_per_s").or_else(|| self.rate_of("total_tok_per_s"));
        let of_total = || Some(self.output_tokens()? / (self.mean_of("total_ms")? * 1e-3));
        let of_phases = || {
            let batch = self.number(fact::BATCH).unwrap_or(1.0);
            let (prompt, new) = (self.number(fact::PROMPT_TOKENS)?, self.number(fact::NEW_TOKENS)?);
            let prefill = batch * prompt / self.rate_of("prefill_tok_per_s")?;
            // The prompt gives the first token.
            let decode = batch * (new - 1.0).max(0.0) / self.rate_of("decode_tok_per_s")?;
            Some(batch * new / (prefill + decode))
        };
        measured.or_else(of_total).or_else(of_phases).filter(|rate| *rate > 0.0 && rate.is_finite())
    }

    fn energy_per_token(&self) -> Option<f64> {
        self.mean_of("energy_per_token_j").or_else(|| Some(self.mean_of("energy_j")? / self.output_tokens()?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{measure_of, with_facts};
    use super::*;

    fn priced(measures: Vec<MeasureValues>) -> Subject {
        let facts = [(fact::PROMPT_TOKENS, "100"), (fact::NEW_TOKENS, "51"), (fact::BATCH, "2")];
        Subject { measures, price_usd_per_hour: Some(3.6), power_w: Some(200.0), ..with_facts("a", &facts) }
    }

    #[test]
    fn money_follows_from_price_and_rate() {
        // 3.6 USD/h is 0.001 USD/s; at 100 and 300 tok/s two tokens take 1/100 + 1/300 s, so 150 tok/s: 1e6 / 150 × 0.001 USD.
        let rows = cost_rows(&priced(vec![measure_of(Some("c"), "total_tok_per_s", "tok/s", &[100.0, 300.0])]));
        assert_eq!((rows.len(), rows[0].case.as_deref()), (1, Some("c")));
        assert!((rows[0].usd_per_million_output_tokens.unwrap() - 1000.0 / 150.0).abs() < 1e-9);
        assert!((rows[0].joule_per_output_token.unwrap() - 200.0 / 150.0).abs() < 1e-12);
        assert_eq!(rows[0].energy_source.as_deref(), Some(CONFIGURED));
    }

    #[test]
    fn prompt_processing_is_paid_for() {
        let of = |measures| cost_rows(&priced(measures))[0].output_tok_per_s.unwrap();
        // 2 × 51 tokens in 0.5 s.
        assert!((of(vec![measure_of(None, "total_ms", "ms", &[400.0, 600.0])]) - 204.0).abs() < 1e-9);
        // 200 prompt tokens at 1000/s, 2 × 50 more tokens at 500/s: 102 tokens in 0.4 s.
        let phases = vec![
            measure_of(None, "prefill_tok_per_s", "tok/s", &[1000.0]),
            measure_of(None, "decode_tok_per_s", "tok/s", &[500.0]),
        ];
        assert!((of(phases) - 255.0).abs() < 1e-9);
    }

    #[test]
    fn measured_energy_comes_before_assumed_power() {
        let measures =
            vec![measure_of(None, "total_ms", "ms", &[500.0]), measure_of(None, "energy_j", "J", &[50.0, 52.0])];
        let row = &cost_rows(&priced(measures))[0];
        assert!((row.joule_per_output_token.unwrap() - 0.5).abs() < 1e-12);
        assert_eq!(row.energy_source.as_deref(), Some(MEASURED));
    }

    #[test]
    fn nothing_known_costs_nothing_known() {
        let rates = vec![measure_of(None, "total_tok_per_s", "tok/s", &[100.0])];
        assert_eq!(cost_rows(&Subject { price_usd_per_hour: None, power_w: None, ..priced(rates) }), []);
        let zero = vec![measure_of(None, "total_tok_per_s", "tok/s", &[0.0, 100.0])];
        assert_eq!(cost_rows(&priced(zero)), []);
    }
}
