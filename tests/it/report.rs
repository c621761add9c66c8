//! The reports of a stage1 run, from values to text.

#![expect(clippy::unwrap_used, reason = "test support: a panic is how a test says no")]

use perfprof::record::rows::RowStatus;
use perfprof::report::{
    StepSpan, assumptions_md, console_summary, operators_csv, operators_md, report_html, report_md, rows_csv,
    stakeholder_summary_md,
};

use crate::chromium::poisoned;
use crate::report_sample::{Sample, far_from_ceilings, invalid, memory_bound};

fn summary_of(sample: &Sample) -> String {
    stakeholder_summary_md(&sample.report()).unwrap()
}

/// The numbered proposals.
fn proposals(sample: &Sample) -> Vec<String> {
    let text = summary_of(sample);
    let part = text.split("## What to try").nth(1).unwrap().split("## How far").next().unwrap();
    part.lines().filter(|line| line.starts_with(|c: char| c.is_ascii_digit())).map(str::to_owned).collect()
}

#[test]
fn markdown_reports_of_a_memory_bound_run() {
    let sample = memory_bound();
    insta::assert_snapshot!("memory_bound_report", report_md(&sample.report()).unwrap());
    insta::assert_snapshot!("memory_bound_operators", operators_md(&sample.report()).unwrap());
    insta::assert_snapshot!("memory_bound_summary", summary_of(&sample));
    insta::assert_snapshot!("memory_bound_assumptions", assumptions_md(&sample.report()).unwrap());
}

#[test]
fn markdown_reports_of_an_invalid_run() {
    let sample = invalid();
    insta::assert_snapshot!("invalid_report", report_md(&sample.report()).unwrap());
    insta::assert_snapshot!("invalid_operators", operators_md(&sample.report()).unwrap());
    insta::assert_snapshot!("invalid_summary", summary_of(&sample));
}

#[test]
fn a_run_far_from_the_ceilings_gets_its_own_advice() {
    insta::assert_snapshot!("far_from_ceilings_summary", summary_of(&far_from_ceilings()));
}

#[test]
fn advice_follows_the_numbers() {
    // Waiting for 16-bit weights at 69 % of the bandwidth: fewer bytes and more sequences help.
    let waiting = proposals(&memory_bound()).join("\n");
    assert!(
        waiting.contains("Quantize the weights") && waiting.contains("98.6 %") && waiting.contains("16.00 bits"),
        "{waiting}"
    );
    assert!(waiting.contains("side by side"), "{waiting}");
    assert!(!waiting.contains("threads busy") && !waiting.contains("between the passes"), "{waiting}");

    // Far from the bandwidth with 4-bit weights and idle threads: bytes are not what it waits for.
    let far = proposals(&far_from_ceilings()).join("\n");
    assert!(!far.contains("Quantize"), "{far}");
    assert!(far.contains("work 41.0 % of the time") && far.contains("2.4× faster"), "{far}");
    assert!(far.contains("between the passes of the model") && far.contains("305.0 ms"), "{far}");
    assert!(far.contains("attention operators of decode"), "{far}");
}

#[test]
fn quantized_weights_are_not_told_to_be_quantized_to_the_same_width() {
    let mut sample = memory_bound();
    sample.metrics.model.weights_bytes = 134_515_008 / 2;
    sample.metrics.model.dtype = "q4_0".to_owned();
    assert!(!proposals(&sample).join("").contains("Quantize"));
}

#[test]
fn a_long_context_moves_the_advice_to_the_cache() {
    let mut sample = memory_bound();
    let decode = &mut sample.metrics.phases[1];
    std::mem::swap(&mut decode.weight_bytes, &mut decode.kv_bytes);
    let text = proposals(&sample).join("\n");
    assert!(text.contains("Store the KV cache in half the width") && !text.contains("Quantize the weights"), "{text}");
}

#[test]
fn a_roofline_projection_is_the_time_minus_the_lost_share() {
    let sample = memory_bound();
    let decode = || sample.metrics.operators.iter().filter(|row| row.phase == "decode" && row.layer.is_none());
    let lost: f64 = decode().filter(|row| row.class == "linear").filter_map(|row| row.lost_ns).sum();
    let total: u64 = decode().map(|row| row.total_ns).sum();
    let time = sample.metrics.phases[1].time_ms.unwrap();
    let expected = time * (1.0 - lost / total as f64);
    let text = proposals(&sample).into_iter().find(|text| text.contains("linear operators of decode")).unwrap();
    let quoted: f64 = text.split("decode would take ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((quoted - expected).abs() < 0.06, "{text}: {expected}");
}

#[test]
fn proposals_are_ranked_by_their_bound() {
    for sample in [memory_bound(), far_from_ceilings()] {
        let bounds: Vec<f64> = proposals(&sample)
            .iter()
            .map(|text| text.split("at most ").nth(1).unwrap().split('×').next().unwrap().parse().unwrap())
            .collect();
        assert!(bounds.len() >= 3 && bounds.is_sorted_by(|a, b| a >= b), "{bounds:?}");
    }
}

#[test]
fn no_conclusion_is_drawn_from_what_cannot_carry_it() {
    // INVALID.
    let text = summary_of(&invalid());
    assert!(text.contains("Cannot tell") && text.contains("INVALID") && !text.contains("faster"), "{text}");
    // Valid by its own conditions, but most repeats disturbed.
    let mut disturbed = memory_bound();
    for row in disturbed.rows.iter_mut().take(4) {
        row.contention.disturbed = true;
    }
    let text = summary_of(&disturbed);
    assert!(text.contains("Cannot tell") && text.contains("2 of the 3 repeats") && !text.contains("faster"), "{text}");
    // One disturbed repeat is a caveat, not an end.
    let mut one = memory_bound();
    one.rows[0].contention.disturbed = true;
    assert!(summary_of(&one).contains("1 of 6 repeats were disturbed") && summary_of(&one).contains("faster"));
    // Unknown peaks.
    let mut unknown = memory_bound();
    let blocks = invalid().metrics;
    unknown.metrics.hardware = blocks.hardware;
    unknown.metrics.phases = blocks.phases;
    for row in &mut unknown.metrics.operators {
        (row.roofline_ns, row.lost_ns, row.bound) = (None, None, None);
    }
    let text = summary_of(&unknown);
    assert!(text.contains("Cannot tell what limits decode") && text.contains("hardware.peak_flops_per_s"), "{text}");
    assert!(text.contains("cannot be told without the peaks"), "{text}");
    // Nothing ended well.
    let mut failed = memory_bound();
    for row in &mut failed.rows {
        row.status = RowStatus::Failed;
    }
    assert!(summary_of(&failed).contains("no repeat without spans ended well"));
    // Faster than the ceiling: the ceiling is wrong.
    let mut above = memory_bound();
    above.metrics.phases[1].roofline_ms = Some(5000.0);
    assert!(summary_of(&above).contains("faster than its memory ceiling allows"));
}

#[test]
fn csv_survives_a_reader_and_a_spreadsheet() {
    let mut sample = memory_bound();
    let names = ["=HYPERLINK(\"http://x\")", "@SUM(1)", "+cmd", "-1+1", "\tx", "a,b\"c\nd"];
    for (row, name) in sample.metrics.operators.iter_mut().zip(names) {
        row.name = name.to_owned();
        row.lost_ns = Some(-1.5);
    }
    let text = operators_csv(&sample.report()).unwrap();
    assert!(text.contains("\r\n"));
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), sample.metrics.operators.len());
    for (record, name) in records.iter().zip(names) {
        let expected = if name.starts_with('a') { name.to_owned() } else { format!("'{name}") };
        assert_eq!(&record[column("name")], expected);
        assert_eq!(&record[column("lost_ns")], "-1.5", "numbers stay numbers");
    }
    let total: u64 = records.iter().map(|record| record[column("total_ns")].parse::<u64>().unwrap()).sum();
    assert_eq!(total, sample.metrics.operators.iter().map(|row| row.total_ns).sum::<u64>());

    let text = rows_csv(&invalid().report()).unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|header| header == name).unwrap();
    let records: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(&records[1][column("status")], "oom");
    assert_eq!(&records[1][column("ttft_ms")], "", "unknown is empty, not 0");
    assert_eq!(records[0][column("ttft_ms")].parse::<f64>().unwrap(), invalid().rows[0].ttft_ms.unwrap());
}

/// Splits a Markdown table line at its bare pipes.
fn columns(line: &str) -> usize {
    let mut count = 0;
    let mut escaped = false;
    for c in line.chars() {
        match c {
            '\\' => escaped = !escaped,
            '|' if !escaped => count += 1,
            _ => escaped = false,
        }
        if c != '\\' {
            escaped = false;
        }
    }
    count
}

#[test]
fn hostile_text_breaks_no_markdown() {
    let sample = poisoned();
    let report = sample.report();
    for text in [
        report_md(&report).unwrap(),
        operators_md(&report).unwrap(),
        summary_of(&sample),
        assumptions_md(&report).unwrap(),
    ] {
        assert!(!text.contains("<script") && !text.contains("<img") && !text.contains("<svg"), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\0', '\u{2028}', '\u{2029}']), "control characters are shown");
        assert!(text.contains("&lt;script&gt;"), "the text itself is there");
        let mut expected = None;
        for line in text.lines() {
            if !line.starts_with('|') {
                expected = None;
                continue;
            }
            let found = columns(line);
            assert_eq!(*expected.get_or_insert(found), found, "{line}");
        }
    }
    let console = console_summary(&report, false, 100);
    assert!(!console.contains(['\u{1b}', '\u{7}', '\0']), "{console:?}");
}

#[test]
fn percentiles_without_enough_values_are_never_bare() {
    let text = report_md(&memory_bound().report()).unwrap();
    let ttft = text.lines().find(|line| line.contains("Time to first token")).unwrap();
    assert!(ttft.contains("(n=3 < 90)"), "{ttft}");
    // 189 gaps support p95.
    let itl = text.lines().find(|line| line.contains("Inter-token latency")).unwrap();
    assert!(!itl.contains('<'), "{itl}");
    // 189 calls of lm_head do not support p99, the 5670 of q_proj do.
    let operators = operators_md(&memory_bound().report()).unwrap();
    let decode = operators.split("## decode").nth(1).unwrap();
    let line = |name: &str| decode.lines().find(|line| line.starts_with(&format!("| {name}"))).unwrap().to_owned();
    assert_eq!(line("lm_head").matches('†').count(), 1);
    assert_eq!(line("q_proj").matches('†').count(), 0);
}

#[test]
fn the_console_summary_fits_and_needs_no_colour() {
    for sample in [memory_bound(), invalid()] {
        for width in [40, 80, 200] {
            let plain = console_summary(&sample.report(), false, width);
            assert!(plain.lines().all(|line| line.chars().count() <= width), "{plain}");
            assert!(!plain.contains('\u{1b}'));
            let colored = console_summary(&sample.report(), true, width);
            assert!(colored.contains('\u{1b}'));
        }
    }
    insta::assert_snapshot!("memory_bound_console", console_summary(&memory_bound().report(), false, 100));
    insta::assert_snapshot!("invalid_console", console_summary(&invalid().report(), false, 100));
}

/// Addresses outside the file in anything a browser would follow or load.
fn outside_references(html: &str) -> Vec<&str> {
    ["src=", "href=\"http", "href=\"//", "url(", "@import", "<link", "<base", "<iframe"]
        .into_iter()
        .filter(|needle| html.contains(needle))
        .collect()
}

#[test]
fn the_html_report_is_one_file_with_a_policy() {
    let html = report_html(&memory_bound().report()).unwrap();
    assert_eq!(outside_references(&html), Vec::<&str>::new());
    assert!(!html.contains(" style=\""), "inline styles would need an exception in the policy");
    let policy = html.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.contains("script-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    let data = html.split("id=\"report-data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["metrics"], serde_json::to_value(&memory_bound().metrics).unwrap());
}

#[test]
fn values_that_are_not_numbers_leave_gaps() {
    let mut sample = memory_bound();
    for (row, value) in sample.rows.iter_mut().zip([f64::NAN, f64::INFINITY, f64::NEG_INFINITY]) {
        row.itl_ms[5] = value;
        row.ttft_ms = Some(value);
        row.energy_j = Some(value);
    }
    sample.rows[4].itl_ms = vec![19.0];
    sample.rows[5].itl_ms.clear();
    sample.metrics.operators[0].roofline_ns = Some(f64::NAN);
    sample.metrics.operators[0].p50_ns = f64::NAN;
    sample.metrics.phases[0].time_ms = Some(f64::NAN);
    if let Some(summary) = sample.metrics.measures.get_mut("ttft_ms") {
        summary.mean = Some(f64::NAN);
        summary.ci95 = Some([f64::NAN, f64::INFINITY]);
    }
    let html = report_html(&sample.report()).unwrap();
    for word in ["NaN", ">inf<", "\"inf\"", " inf "] {
        let around = html.find(word).map(|at| &html[html.floor_char_boundary(at.saturating_sub(200))..at]);
        assert_eq!(around, None, "`{word}` reaches the reader");
    }
    let data = html.split("id=\"report-data\">").nth(1).unwrap().split("</script>").next().unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert!(data["itl"]["itl-0"][0]["ms"][5].is_null(), "a gap is null in the data");
    let text = report_md(&sample.report()).unwrap();
    assert!(!text.contains("NaN") && !text.contains("inf "), "{text}");
}

#[test]
fn a_million_points_are_thinned_and_it_says_so() {
    let mut sample = memory_bound();
    sample.rows.truncate(2);
    for row in &mut sample.rows {
        row.itl_ms = (0..1_000_000).map(|step| 18.0 + f64::from(step % 97) / 100.0).collect();
    }
    sample.steps = (0..1_000_000_u32)
        .map(|step| StepSpan {
            phase: "decode".to_owned(),
            step: step + 1,
            start_ns: u64::from(step) * 1000,
            end_ns: u64::from(step) * 1000 + 990,
        })
        .collect();
    let html = report_html(&sample.report()).unwrap();
    assert!(html.len() < 1_500_000, "{} bytes", html.len());
    assert!(html.contains("1000000 gaps a line are drawn as at most 1200 points"));
    assert!(html.contains("1000000 steps are drawn as at most 400 blocks"));
}

#[test]
fn every_case_has_its_own_words_and_charts() {
    let mut sample = memory_bound();
    let mut second = sample.metrics.cases[0].clone();
    second.name = "long-512".to_owned();
    second.prompt_len = 512;
    sample.metrics.cases.push(second);
    for at in 0..2 {
        let mut block = sample.metrics.phases[at].clone();
        block.case = "long-512".to_owned();
        block.time_ms = block.time_ms.map(|time| time * 3.0);
        block.mbu = block.mbu.map(|mbu| mbu / 3.0);
        sample.metrics.phases.push(block);
    }
    let mut rows = sample.rows.clone();
    for row in &mut rows {
        row.case = "long-512".to_owned();
    }
    sample.rows.extend(rows);
    let text = summary_of(&sample);
    assert!(text.contains("Decode of chat-128 is memory bound and close to the ceiling"), "{text}");
    assert!(text.contains("Decode of long-512 is far from both ceilings"), "{text}");
    // One case does not wait for bytes, so quantization is not proposed for the run.
    assert!(!text.contains("Quantize"), "{text}");
    let html = report_html(&sample.report()).unwrap();
    assert!(html.contains("data-chart=\"itl-0\"") && html.contains("data-chart=\"itl-1\""));
    let report = report_md(&sample.report()).unwrap();
    assert_eq!(
        report.lines().filter(|line| line.starts_with("| long-512")).count(),
        1 + 2 + 1,
        "case, phases, memory: {report}"
    );
}

#[test]
fn a_run_without_anything_still_renders() {
    let mut sample = invalid();
    sample.rows.clear();
    sample.metrics.measures.clear();
    sample.metrics.cases.clear();
    sample.metrics.phases.clear();
    sample.metrics.diagnostics.clear();
    sample.assumptions.clear();
    let report = sample.report();
    let html = report_html(&report).unwrap();
    for chart in ["timeline", "repeats", "roofline", "memory"] {
        assert!(html.contains(&format!("data-empty-chart=\"{chart}\"")), "{chart}");
    }
    for text in [
        report_md(&report).unwrap(),
        operators_md(&report).unwrap(),
        summary_of(&sample),
        assumptions_md(&report).unwrap(),
    ] {
        assert!(text.contains("INVALID") || text.contains("None were recorded"), "{text}");
    }
    assert!(console_summary(&report, false, 80).contains("nothing was measured"));
    assert!(operators_csv(&report).unwrap().lines().count() == 1 && rows_csv(&report).unwrap().lines().count() == 1);
}
