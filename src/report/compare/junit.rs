//! The gate and the comparisons as JUnit XML, which CI systems show as tests.

use super::model::CompareReport;
use super::words::{self, Outcome};
use crate::compare::result::{RuleOutcome, Verdict};
use crate::report::escape::{cut, xml};

/// Characters of a name or message that are written; the whole is in metrics.json.
const LIMIT: usize = 2_000;

/// How one test case came out.
enum Result<'a> {
    Passed(&'a str),
    Failed(&'a str),
    Skipped(&'a str),
}

/// A suite under construction.
struct Suite {
    name: &'static str,
    body: String,
    tests: u64,
    failures: u64,
    skipped: u64,
}

impl Suite {
    fn new(name: &'static str) -> Self {
        Self { name, body: String::new(), tests: 0, failures: 0, skipped: 0 }
    }
    fn case(&mut self, class: &str, name: &str, result: &Result<'_>) {
        let short = |text: &str| xml(&cut(text, LIMIT));
        self.tests += 1;
        self.body.push_str(&format!("    <testcase classname=\"{}\" name=\"{}\">", short(class), short(name)));
        match result {
            Result::Passed(text) => self.body.push_str(&format!("<system-out>{}</system-out>", short(text))),
            Result::Failed(text) => {
                self.failures += 1;
                self.body.push_str(&format!("<failure message=\"{0}\">{0}</failure>", short(text)));
            }
            Result::Skipped(text) => {
                self.skipped += 1;
                self.body.push_str(&format!("<skipped message=\"{}\"/>", short(text)));
            }
        }
        self.body.push_str("</testcase>\n");
    }
    fn finish(&self) -> String {
        format!(
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">\n{}  </testsuite>\n",
            self.name, self.tests, self.failures, self.skipped, self.body
        )
    }
}

/// `junit.xml`: one test case for each rule of the gate and for each comparison.
///
/// Only a rule that the evidence breaks is a failure: a comparison without a rule cannot fail. What is undecided, missing or not
/// comparable is skipped, with the reason.
pub fn junit_xml(report: &CompareReport<'_>) -> String {
    let metrics = report.metrics;
    let mut gate = Suite::new("perfprof.gate");
    for rule in metrics.gate.iter().flat_map(|gate| &gate.rules) {
        let case = rule.case.as_ref().map_or_else(String::new, |case| format!(" · {case}"));
        let name = format!("{} · {}{case}", rule.rule, rule.candidate_label);
        let result = match rule.outcome {
            RuleOutcome::Passed => Result::Passed(&rule.reason),
            RuleOutcome::Failed => Result::Failed(&rule.reason),
            RuleOutcome::Undecided | RuleOutcome::Missing => Result::Skipped(&rule.reason),
        };
        gate.case("perfprof.gate", &name, &result);
    }
    let mut comparisons = Suite::new("perfprof.comparisons");
    for row in &metrics.comparisons {
        let name = format!("{} · {} against {}", words::measured(row), row.candidate_label, row.baseline_label);
        let reason = words::reason(metrics, row);
        let text = format!("{}: {reason}", words::outcome(metrics, row).words());
        let open =
            matches!(words::outcome(metrics, row), Outcome::NotComparable | Outcome::Verdict(Verdict::CannotTell));
        let result = if open { Result::Skipped(&text) } else { Result::Passed(&text) };
        comparisons.case("perfprof.comparisons", &name, &result);
    }
    let suites = [gate, comparisons];
    let sum = |pick: fn(&Suite) -> u64| suites.iter().map(pick).sum::<u64>();
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"perfprof {}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\">\n{}</testsuites>\n",
        xml(&cut(&metrics.command, LIMIT)),
        sum(|suite| suite.tests),
        sum(|suite| suite.failures),
        sum(|suite| suite.skipped),
        suites.iter().map(Suite::finish).collect::<String>()
    )
}
