//! The measures of a stage or of a part of it: one distribution for each name, over successful requests.

use std::collections::BTreeMap;

use crate::record::load::metrics::{Distribution, Measures};
use crate::record::load::row::RequestRow;
use crate::stats::quantile::quantile;
use crate::stats::summary::Summary;
use crate::stats::weighted::Weighted;

/// Names of all measures; each stage has all of them, with n = 0 where there is nothing to measure.
pub const MEASURES: [&str; 20] = [
    "ttfb_ms",
    "first_event_ms",
    "ttft_ms",
    "ttfo_ms",
    "tpot_ms",
    "itl_ms",
    "inter_chunk_ms",
    "e2e_ms",
    "response_end_ms",
    "dispatch_delay_ms",
    "queue_ms",
    "ttft_from_due_ms",
    "e2e_from_due_ms",
    "connect_ms",
    "input_tokens",
    "output_tokens",
    "output_tok_per_s_per_user",
    "server_prompt_ms",
    "server_decode_ms",
    "beyond_server_ms",
];

/// The distribution of values that count alike.
pub(super) fn distribution(unit: &str, values: &[f64]) -> Distribution {
    let summary = Summary::from_values(unit, values);
    // Null where the others are: a value was not finite.
    let p99_9 = summary.p99.and_then(|_| quantile(values, 0.999));
    Distribution { summary, p99_9 }
}

/// The distribution of values with weights.
fn weighted(unit: &str, samples: Vec<(f64, f64)>) -> Distribution {
    let weighted = Weighted::new(samples);
    Distribution { summary: weighted.summary(unit), p99_9: weighted.quantile(0.999) }
}

/// Milliseconds a request waited in this client: from due to its first attempt. Waits between attempts are the server's doing.
pub(super) fn waited_ms(row: &RequestRow) -> Option<f64> {
    let sent = row.first_sent_ns.or(row.sent_ns)?;
    Some(sent.saturating_sub(row.due_ns) as f64 / 1e6)
}

/// From due to an instant after sending, in ms: what a user waits who comes when the plan says so.
fn from_due_ms(row: &RequestRow, after_sending_ms: Option<f64>) -> Option<f64> {
    Some(row.sent_ns?.saturating_sub(row.due_ns) as f64 / 1e6 + after_sending_ms?)
}

/// Output tokens per second after the first chunk, as one user sees them.
pub(super) fn per_user_tok_per_s(row: &RequestRow) -> Option<f64> {
    row.tpot_ms().filter(|tpot| *tpot > 0.0).map(|tpot| 1e3 / tpot)
}

/// The gaps of a request as samples per token: (ms per token, tokens).
///
/// Where the server counts each chunk, a gap is split by the tokens of the chunk after it; a chunk without a token adds its gap to that of the
/// next. Else the tokens are spread evenly over the chunks, but no chunk counts as less than one.
pub(super) fn token_gaps(row: &RequestRow, into: &mut Vec<(f64, f64)>) {
    let chunks = row.chunks.len();
    if let Some(tokens) = row.chunks.tokens.as_ref().filter(|tokens| tokens.len() == chunks) {
        let mut waited = 0.0;
        for (gap, tokens) in row.gaps_ms().zip(tokens.iter().skip(1)) {
            waited += gap;
            if *tokens > 0 {
                into.push((waited / f64::from(*tokens), f64::from(*tokens)));
                waited = 0.0;
            }
        }
        return;
    }
    let each = row.tokens_in_chunks().map_or(1.0, |tokens| tokens as f64 / chunks as f64).max(1.0);
    into.extend(row.gaps_ms().map(|gap| (gap / each, each)));
}

/// All measures: over the successful requests `ok`, and the dispatch delay over all requests `issued` of an open loop.
pub(super) fn measures(ok: &[&RequestRow], issued: &[&RequestRow], open: bool) -> Measures {
    let mut map: Measures = BTreeMap::new();
    let us = |value: Option<u64>| value.map(|us| us as f64 / 1e3);
    let mut put = |name: &str, unit: &str, get: &dyn Fn(&RequestRow) -> Option<f64>| {
        let values: Vec<f64> = ok.iter().filter_map(|row| get(row)).collect();
        map.insert(name.to_owned(), distribution(unit, &values));
    };
    put("ttfb_ms", "ms", &|row| us(row.first_byte_us));
    put("first_event_ms", "ms", &|row| us(row.first_event_us));
    put("ttft_ms", "ms", &RequestRow::ttft_ms);
    put("ttfo_ms", "ms", &RequestRow::ttfo_ms);
    put("tpot_ms", "ms", &RequestRow::tpot_ms);
    put("e2e_ms", "ms", &RequestRow::e2e_ms);
    put("response_end_ms", "ms", &|row| us(row.end_us));
    put("queue_ms", "ms", &waited_ms);
    put("ttft_from_due_ms", "ms", &|row| from_due_ms(row, row.ttft_ms()));
    put("e2e_from_due_ms", "ms", &|row| from_due_ms(row, row.e2e_ms()));
    put("connect_ms", "ms", &|row| row.connect_ms);
    put("input_tokens", "tok", &|row| row.input_tokens.map(|tokens| tokens as f64));
    put("output_tokens", "tok", &|row| row.output_tokens.map(|tokens| tokens as f64));
    put("output_tok_per_s_per_user", "tok/s", &per_user_tok_per_s);
    put("server_prompt_ms", "ms", &|row| Some(row.server_timings?.prompt_ms));
    put("server_decode_ms", "ms", &|row| Some(row.server_timings?.predicted_ms));
    put("beyond_server_ms", "ms", &RequestRow::beyond_server_ms);

    let late: Vec<f64> = if open { issued.iter().filter_map(|row| waited_ms(row)).collect() } else { Vec::new() };
    map.insert("dispatch_delay_ms".to_owned(), distribution("ms", &late));
    let gaps: Vec<(f64, f64)> = ok.iter().flat_map(|row| row.gaps_ms()).map(|gap| (gap, 1.0)).collect();
    let mut tokens = Vec::new();
    for row in ok {
        token_gaps(row, &mut tokens);
    }
    let chunks = gaps.len();
    let inter_chunk = weighted("ms", gaps);
    // Where each chunk is one token the two are the same, and millions need not be sorted twice.
    let same = tokens.len() == chunks && tokens.iter().all(|(_, weight)| *weight == 1.0);
    let itl = if same { inter_chunk.clone() } else { weighted("ms", tokens) };
    map.insert("inter_chunk_ms".to_owned(), inter_chunk);
    map.insert("itl_ms".to_owned(), itl);
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::load::row::{ChunkKind, TokenSource};
    use crate::runner::load::testing::{even, row, stream};

    fn of(rows: &[RequestRow]) -> Measures {
        let rows: Vec<&RequestRow> = rows.iter().collect();
        measures(&rows, &rows, false)
    }

    #[test]
    fn an_end_token_that_is_counted_and_not_sent_is_no_part_of_a_gap() {
        // Seven chunks 20 ms apart; `usage` says 8, as the answer ended by itself.
        let mut request = stream(0, 0, &[100, 120, 140, 160, 180, 200, 220]);
        request.output_tokens = Some(8);
        request.token_source = Some(TokenSource::Usage);
        request.finish_reason = Some("stop".to_owned());
        let map = of(std::slice::from_ref(&request));
        assert_eq!((map["tpot_ms"].summary.p50, map["itl_ms"].summary.p50), (Some(20.0), Some(20.0)));
        assert_eq!((map["output_tokens"].summary.p50, map["itl_ms"].summary.n), (Some(8.0), 6));
        // Cut off by its length it has no end token: then a chunk held two.
        request.finish_reason = Some("length".to_owned());
        let cut = of(&[request]);
        assert!(cut["tpot_ms"].summary.p50.unwrap() < 20.0);
    }

    #[test]
    fn one_stream_gives_the_times_of_its_chunks() {
        // First chunk after 100 ms, three more 20, 30 and 40 ms apart: last at 190 ms, end at 191 ms.
        let mut request = stream(0, 1000, &[100, 120, 150, 190]);
        request.due_ns -= 7_000_000;
        request.first_event_us = Some(2_500);
        request.connect_ms = Some(0.75);
        let map = of(&[request]);
        assert_eq!(map.keys().map(String::as_str).collect::<Vec<_>>(), {
            let mut names = MEASURES;
            names.sort_unstable();
            names
        });
        let only = |name: &str| {
            let measure = &map[name].summary;
            assert_eq!(measure.n, 1, "{name}");
            measure.p50.unwrap()
        };
        assert_eq!(only("ttfb_ms"), 1.0);
        assert_eq!(only("first_event_ms"), 2.5);
        assert_eq!((only("ttft_ms"), only("ttfo_ms")), (100.0, 100.0));
        assert_eq!(only("tpot_ms"), 30.0, "(190 − 100) / 3");
        assert_eq!((only("e2e_ms"), only("response_end_ms")), (190.0, 191.0));
        assert_eq!((only("queue_ms"), only("ttft_from_due_ms"), only("e2e_from_due_ms")), (7.0, 107.0, 197.0));
        assert_eq!((only("connect_ms"), only("input_tokens"), only("output_tokens")), (0.75, 8.0, 4.0));
        assert!((only("output_tok_per_s_per_user") - 1e3 / 30.0).abs() < 1e-12);
        for name in ["itl_ms", "inter_chunk_ms"] {
            let gaps = &map[name].summary;
            assert_eq!((gaps.n, gaps.min, gaps.p50, gaps.max), (3, Some(20.0), Some(30.0), Some(40.0)), "{name}");
        }
        assert_eq!(map["dispatch_delay_ms"].summary.n, 0, "a closed loop has no schedule to be late for");
    }

    #[test]
    fn reasoning_counts_for_the_first_token_and_not_for_the_first_output() {
        let mut request = stream(0, 0, &[]);
        for (at, kind) in [(50, ChunkKind::Reasoning), (60, ChunkKind::Reasoning), (90, ChunkKind::Content)] {
            request.chunks.push(at * 1000, kind);
        }
        request.output_tokens = Some(3);
        let map = of(&[request]);
        assert_eq!((map["ttft_ms"].summary.p50, map["ttfo_ms"].summary.p50), (Some(50.0), Some(90.0)));
    }

    #[test]
    fn an_answer_in_one_piece_has_an_end_and_no_first_token() {
        let map = of(&[row(0, 0)]);
        for name in ["ttft_ms", "ttfo_ms", "tpot_ms", "itl_ms", "inter_chunk_ms", "first_event_ms", "ttft_from_due_ms"]
        {
            assert_eq!((map[name].summary.n, map[name].summary.p50), (0, None), "{name}");
        }
        assert_eq!((map["e2e_ms"].summary.p50, map["response_end_ms"].summary.p50), (Some(100.0), Some(100.0)));
    }

    #[test]
    fn a_gap_before_several_tokens_is_split_among_them() {
        // Counted by the server: 1 token, then 4 after 20 ms, then 2 after 30 ms.
        let mut counted = stream(0, 0, &[100, 120, 150]);
        counted.chunks.tokens = Some(vec![1, 4, 2]);
        counted.output_tokens = Some(7);
        let map = of(&[counted]);
        let itl = &map["itl_ms"].summary;
        assert_eq!((itl.n, itl.min, itl.max), (6, Some(5.0), Some(15.0)));
        // The samples are 5 four times and 15 twice: mean 50 / 6, and the tenth largest position 4.5 lies on 15.
        assert!((itl.mean.unwrap() - 50.0 / 6.0).abs() < 1e-12);
        assert_eq!((itl.p50, itl.p90), (Some(5.0), Some(15.0)));
        let chunk = &map["inter_chunk_ms"].summary;
        assert_eq!((chunk.n, chunk.min, chunk.max), (2, Some(20.0), Some(30.0)));
        assert_eq!(map["tpot_ms"].summary.p50, Some(50.0 / 6.0), "the mean of the tokens is the TPOT");
    }

    #[test]
    fn tokens_no_chunk_counts_are_spread_over_the_chunks() {
        // 12 tokens in 3 chunks: 4 each, so a gap of 20 ms is 5 ms for each of 4 tokens.
        let mut request = stream(0, 0, &[100, 120, 140]);
        request.output_tokens = Some(12);
        let map = of(&[request.clone()]);
        let itl = &map["itl_ms"].summary;
        assert_eq!((itl.n, itl.min, itl.max), (8, Some(5.0), Some(5.0)));
        // Fewer tokens than chunks: a chunk is not less than a token.
        request.output_tokens = Some(2);
        assert_eq!(of(&[request])["itl_ms"].summary.p50, Some(20.0));
    }

    #[test]
    fn a_chunk_without_a_token_lengthens_the_gap_of_the_next() {
        let mut request = stream(0, 0, &[100, 110, 130]);
        request.chunks.tokens = Some(vec![1, 0, 1]);
        request.output_tokens = Some(2);
        let itl = &of(&[request])["itl_ms"].summary;
        assert_eq!((itl.n, itl.p50), (1, Some(30.0)));
    }

    #[test]
    fn waits_between_attempts_are_not_this_clients_lateness() {
        let mut request = even(0, 3000, 50, 10, 4);
        request.due_ns = 1_000_000_000;
        request.first_sent_ns = Some(1_002_000_000);
        request.attempts = 2;
        let rows = [&request];
        let map = measures(&rows, &rows, true);
        assert_eq!(map["dispatch_delay_ms"].summary.p50, Some(2.0));
        assert_eq!(map["ttft_from_due_ms"].summary.p50, Some(2050.0), "but the user waits for both");
    }

    #[test]
    fn requests_pool_their_gaps_and_rows_without_tokens_count_as_one_each() {
        let mut second = even(1, 0, 10, 30, 2);
        second.output_tokens = None;
        second.token_source = None::<TokenSource>;
        let map = of(&[even(0, 0, 10, 10, 4), second]);
        let itl = &map["itl_ms"];
        // 10, 10, 10, 30; p99.9 at position 2.997.
        assert_eq!((itl.summary.n, itl.summary.mean), (4, Some(15.0)));
        assert!((itl.p99_9.unwrap() - (10.0 + 0.997 * 20.0)).abs() < 1e-9);
    }
}
