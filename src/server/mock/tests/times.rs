//! When things are sent, and what is told of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Client, End, get, quick, start, stats, stats_when};
use crate::net::clock::now_ns;
use crate::server::mock::{Mock, MockError, MockSettings, RoleChunk};
use crate::stats::quantile::quantile;

const MS: u64 = 1_000_000;

fn ns(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn list(value: &Value) -> Vec<u64> {
    value.as_array().unwrap().iter().map(ns).collect()
}

#[test]
fn chunks_leave_on_an_absolute_schedule_and_stats_tell_their_very_stamps() {
    let mock = start(MockSettings { ttft_ms: 40.0, itl_ms: 3.0, stamp: true, ..MockSettings::default() });
    let mut client = Client::new(&mock);
    let before = now_ns();
    client.chat(30);
    let (events, _) = client.stream();
    let after = now_ns();
    // The role, 30 tokens, their count, [DONE].
    let told: Vec<u64> = events[..32].iter().map(|event| ns(&event.json()["t_send_ns"])).collect();
    let stats = stats(&mock);
    let request = &stats["per_request"][0];
    assert_eq!(request["id"], "chatcmpl-1");
    assert_eq!(list(&request["sends_ns"]), told[1..31]);
    assert_eq!(ns(&request["t_role_ns"]), told[0]);
    let begin = ns(&request["t_request_ns"]);
    // The stamp of the arrival is converted from the wall clock, to some microseconds.
    assert!(begin + MS > before && begin < after);
    for (index, sent) in told[1..31].iter().enumerate() {
        let due = begin + 40 * MS + index as u64 * 3 * MS;
        assert!(*sent >= due, "chunk {index} left {} ns early", due - sent);
    }
    // Lateness does not add up: were each chunk sent 3 ms after the one before, 30 of them would lag by all the delays together.
    let last_due = begin + 40 * MS + 29 * 3 * MS;
    assert!(told[30] - last_due < 250 * MS, "the last chunk was {} ms late", (told[30] - last_due) / MS);
    assert!(told[30] <= after && ns(&request["t_end_ns"]) >= told[30]);

    let gaps: Vec<f64> = told[1..31].windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
    for (name, p) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
        assert_eq!(stats["itl_ms"][name].as_f64(), quantile(&gaps, p), "{name}");
    }
    assert_eq!(stats["ttft_ms"]["p50"].as_f64(), Some((told[1] - begin) as f64 / 1e6));
    assert!(stats["cpu_s"].as_f64().unwrap() < stats["wall_s"].as_f64().unwrap());
}

#[test]
fn a_role_may_come_long_before_the_first_token() {
    let mock = start(MockSettings { ttft_ms: 600.0, role: RoleChunk::Immediate, ..quick() });
    let mut client = Client::new(&mock);
    client.chat(2);
    client.stream();
    let request = &stats(&mock)["per_request"][0];
    let (begin, role) = (ns(&request["t_request_ns"]), ns(&request["t_role_ns"]));
    assert!(role - begin < 500 * MS, "{} ms", (role - begin) / MS);
    assert!(list(&request["sends_ns"])[0] >= begin + 600 * MS);
}

#[test]
fn long_prompts_take_longer() {
    let mock = start(MockSettings { ttft_ms: 0.0, prefill_us_per_token: 20_000.0, ..quick() });
    let mut client = Client::new(&mock);
    // Three words of 20 ms each.
    client.chat(1);
    client.stream();
    assert!(stats(&mock)["ttft_ms"]["p50"].as_f64().unwrap() >= 60.0);
}

#[test]
fn beyond_the_limit_requests_wait_for_their_turn() {
    let mock = start(MockSettings { max_running: 1, ttft_ms: 50.0, itl_ms: 50.0, kv_tokens: 100, ..quick() });
    let (mut first, mut second) = (Client::new(&mock), Client::new(&mock));
    first.chat(6);
    assert_eq!(first.head().status, 200);
    second.chat(1);
    assert_eq!(second.head().status, 200, "the head of a stream does not wait");
    let metrics = get(&mock, "/metrics");
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()
    };
    assert_eq!((value("vllm:num_requests_running"), value("vllm:num_requests_waiting")), (1.0, 1.0));
    // Three words of the prompt, and up to six tokens.
    assert!((0.03..=0.09).contains(&value("vllm:kv_cache_usage_perc")), "{metrics}");
    assert_eq!((first.events().1, second.events().1), (End::Whole, End::Whole));
    let stats = stats(&mock);
    let (one, two) = (&stats["per_request"][0], &stats["per_request"][1]);
    assert!(list(&two["sends_ns"])[0] >= ns(&one["t_end_ns"]) + 50 * MS, "its time begins with its turn");
    assert_eq!(stats["peak_in_flight"], 2);
}

#[test]
fn a_client_that_goes_away_gives_its_turn_to_the_next() {
    let mock = start(MockSettings { max_running: 1, itl_ms: 60_000.0, ..quick() });
    let mut first = Client::new(&mock);
    first.chat(2);
    first.head();
    first.event().unwrap();
    let mut given_up = Client::new(&mock);
    given_up.chat(1);
    given_up.head();
    let mut second = Client::new(&mock);
    second.chat(1);
    second.head();
    drop((given_up, first));
    assert_eq!(second.events().1, End::Whole);
    let stats = stats_when(&mock, |stats| stats["in_flight"] == 0);
    assert_eq!((&stats["completed"], &stats["disconnected"]), (&json!(1), &json!(2)));
}

#[test]
fn a_client_that_does_not_read_gets_everything_later_and_holds_up_nobody() {
    let mock = start(MockSettings { ttft_ms: 0.0, itl_ms: 0.0, tokens_per_chunk: 20, ..MockSettings::default() });
    let mut slow = Client::new(&mock);
    slow.chat(1_000_000);
    // Some 16 MB do not fit into the buffers of a connection.
    stats_when(&mock, |stats| stats["blocked_sends"].as_u64().unwrap() > 0);
    let mut other = Client::new(&mock);
    other.chat(40);
    assert_eq!(other.stream().1, End::Whole);
    let (events, end) = slow.stream();
    assert_eq!((events.len(), end), (50_003, End::Whole));
    assert_eq!(events[50_001].json()["usage"]["completion_tokens"], 1_000_000);
}

#[test]
fn many_streams_at_once_all_have_their_tokens() {
    let mock = start(MockSettings { ttft_ms: 20.0, itl_ms: 2.0, jitter_us: 500, ..MockSettings::default() });
    let mut clients: Vec<Client> = (0..100).map(|_| Client::new(&mock)).collect();
    for client in &mut clients {
        client.chat(25);
    }
    for client in &mut clients {
        let (events, end) = client.stream();
        assert_eq!((events.len(), end), (28, End::Whole));
    }
    let stats = stats(&mock);
    for (name, value) in
        [("requests", 100), ("completed", 100), ("chunks", 2500), ("in_flight", 0), ("blocked_sends", 0)]
    {
        assert_eq!(stats[name], value, "{name}");
    }
}

#[test]
fn a_reset_begins_anew_with_streams_open() {
    let mock = start(MockSettings { itl_ms: 200.0, ..quick() });
    let mut client = Client::new(&mock);
    client.chat(3);
    client.head();
    client.event().unwrap();
    let mut other = Client::new(&mock);
    other.write(b"POST /reset HTTP/1.1\r\n\r\n");
    assert_eq!(other.answer().0.status, 200);
    assert_eq!(client.events().1, End::Whole);
    other.chat(1);
    other.stream();
    let stats = stats(&mock);
    assert_eq!((&stats["requests"], &stats["chunks"], &stats["completed"]), (&json!(1), &json!(1), &json!(1)));
    assert_eq!(stats["per_request"][0]["id"], "chatcmpl-1");
}

#[test]
fn it_stops_at_once_with_streams_open_and_frees_its_port() {
    let mock = start(MockSettings { itl_ms: 60_000.0, ..quick() });
    let mut client = Client::new(&mock);
    client.chat(5);
    client.head();
    client.event().unwrap();
    let address = mock.address();
    let begin = Instant::now();
    mock.stop();
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(matches!(client.rest().1, End::Closed | End::Reset));
    let again = start(MockSettings { port: address.port(), ..quick() });
    assert_eq!(again.address(), address);
    let taken = Mock::start(MockSettings { port: address.port(), ..quick() }).unwrap_err();
    assert!(
        matches!(&taken, MockError::Bind { source, .. } if source.kind() == std::io::ErrorKind::AddrInUse),
        "{taken:?}"
    );
    assert!(matches!(Mock::start(MockSettings { itl_ms: -1.0, ..quick() }), Err(MockError::Settings(_))));
}

#[test]
fn it_serves_until_it_is_interrupted() {
    let mock = start(quick());
    let url = mock.url();
    assert!(url.starts_with("http://127.0.0.1:") && !url.ends_with(":0"), "{url}");
    let end = Instant::now() + Duration::from_millis(120);
    mock.serve(&|| Instant::now() > end).unwrap();
    assert!(Instant::now() > end);
}
