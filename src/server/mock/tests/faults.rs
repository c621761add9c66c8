//! Each fault does what its name says, to the requests it should befall, and nothing to the others.

use serde_json::{Value, json};

use super::client::{Client, End, quick, start, stats, stats_when, texts};
use crate::server::mock::{Fault, Mock, MockSettings};

fn with(fault: &str) -> Mock {
    start(MockSettings { faults: vec![Fault::parse(fault).unwrap()], ..quick() })
}

#[test]
fn a_cut_ends_the_connection_in_order_in_mid_stream_every_kth_time() {
    let mock = with("cut:every=2,after=5");
    for number in 1..=4 {
        let mut client = Client::new(&mock);
        client.chat(9);
        let (events, end) = client.stream();
        let expected = if number % 2 == 0 { (5, End::Closed) } else { (9, End::Whole) };
        assert_eq!((texts(&events).len(), end), expected, "request {number}");
    }
    let stats = stats(&mock);
    assert_eq!((&stats["completed"], &stats["faulted"], &stats["disconnected"]), (&json!(2), &json!(2), &json!(0)));
    assert_eq!((&stats["per_request"][0]["fault"], &stats["per_request"][1]["fault"]), (&Value::Null, &json!("cut")));
}

#[test]
fn a_cut_after_no_chunk_or_after_the_last_is_a_cut() {
    for (fault, chunks) in [("cut:every=1,after=0", 0), ("cut:every=1,after=99", 3)] {
        let mock = with(fault);
        let mut client = Client::new(&mock);
        client.chat(3);
        let (events, end) = client.stream();
        assert_eq!((texts(&events).len(), end), (chunks, End::Closed), "{fault}");
    }
}

#[test]
fn a_reset_is_no_orderly_end_and_loses_nothing_sent_before_it() {
    let mock = with("reset:every=1,after=4");
    let mut client = Client::new(&mock);
    client.chat(9);
    let (events, end) = client.stream();
    assert_eq!((texts(&events).len(), end), (4, End::Reset));
    assert_eq!(stats(&mock)["faulted"], 1);
}

#[test]
fn an_error_comes_as_an_event_and_the_connection_goes_on() {
    let mock = with("error_event:every=2,after=2");
    let mut client = Client::new(&mock);
    client.chat(3);
    client.stream();
    client.chat(6);
    let (events, end) = client.stream();
    assert_eq!((texts(&events).len(), end), (2, End::Whole));
    assert_eq!(events.last().unwrap().data, "[DONE]");
    assert_eq!(events[events.len() - 2].json()["error"]["code"], 500);
    client.whole_chat(2);
    client.answer();
    client.whole_chat(2);
    let (head, body) = client.answer();
    assert!(head.status == 200 && body.starts_with(r#"{"error":"#), "{body}");
}

#[test]
fn statuses_stand_in_for_answers() {
    for (fault, status) in [("http_500:every=1", 500), ("http_429:every=1", 429), ("http_503:every=1", 503)] {
        let mock = with(fault);
        let mut client = Client::new(&mock);
        for _ in 0..2 {
            client.chat(3);
            let (head, body) = client.answer();
            assert_eq!(head.status, status);
            assert_eq!(head.header("retry-after"), (status == 429).then_some("1"));
            assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["error"]["code"], status);
        }
        assert_eq!(stats(&mock)["faulted"], 2);
    }
}

#[test]
fn an_empty_stream_has_no_event() {
    let mock = with("empty:every=1");
    let mut client = Client::new(&mock);
    client.chat(3);
    assert_eq!(client.stream(), (Vec::new(), End::Whole));
    client.post("/v1/responses", r#"{"input":"x","stream":true}"#);
    assert_eq!(client.stream(), (Vec::new(), End::Whole));
    client.whole_chat(3);
    assert_eq!(client.answer().1, "");
}

#[test]
fn a_malformed_event_is_broken_json_among_whole_ones() {
    for (after, at) in [(0, 0), (2, 3), (99, 5)] {
        let mock = with(&format!("malformed:every=1,after={after}"));
        let mut client = Client::new(&mock);
        client.chat(4);
        let (events, end) = client.stream();
        assert_eq!(end, End::Whole);
        // The role, four tokens, the count, [DONE], and the broken one among them.
        assert_eq!(events.len(), 8);
        let broken: Vec<usize> =
            (0..7).filter(|index| serde_json::from_str::<Value>(&events[*index].data).is_err()).collect();
        assert_eq!(broken, [at], "after {after}");
    }
    let mock = with("malformed:every=1");
    let mut client = Client::new(&mock);
    client.whole_chat(3);
    assert!(serde_json::from_str::<Value>(&client.answer().1).is_err());
}

#[test]
fn silence_is_no_answer_at_all_and_others_are_served() {
    let mock = with("silent:every=2");
    let mut other = Client::new(&mock);
    other.chat(1);
    other.stream();
    let mut client = Client::new(&mock);
    client.chat(3);
    client.patience(200);
    assert_eq!(client.try_head().unwrap_err(), End::Quiet);
    other.chat(1);
    assert_eq!(other.stream().1, End::Whole);
    assert_eq!(stats(&mock)["in_flight"], 1);
    drop(client);
    let stats = stats_when(&mock, |stats| stats["in_flight"] == 0);
    assert_eq!((&stats["faulted"], &stats["completed"]), (&json!(1), &json!(2)));
}

#[test]
fn a_stalled_stream_stays_open_and_says_nothing_more() {
    let mock = with("stall:every=1,after=3");
    let mut client = Client::new(&mock);
    client.chat(9);
    client.patience(300);
    let (events, end) = client.stream();
    assert_eq!((texts(&events).len(), end), (3, End::Quiet));
    drop(client);
    assert_eq!(stats_when(&mock, |stats| stats["in_flight"] == 0)["faulted"], 1);
}

#[test]
fn a_stream_without_done_is_whole_otherwise() {
    let mock = with("no_done:every=1");
    let mut client = Client::new(&mock);
    client.chat(3);
    let (events, end) = client.stream();
    assert_eq!((texts(&events).len(), end), (3, End::Whole));
    assert!(events.iter().all(|event| event.data != "[DONE]"));
    assert_eq!(events.last().unwrap().json()["usage"]["completion_tokens"], 3);
}

#[test]
fn whole_answers_are_cut_reset_and_stalled_in_the_middle() {
    for (fault, expected) in
        [("cut:every=1", End::Closed), ("reset:every=1", End::Reset), ("stall:every=1", End::Quiet)]
    {
        let mock = with(fault);
        let mut client = Client::new(&mock);
        client.whole_chat(50);
        let head = client.head();
        client.patience(if expected == End::Quiet { 300 } else { 10_000 });
        let (body, end) = client.rest();
        assert_eq!((head.status, end), (200, expected), "{fault}");
        let length: usize = head.header("content-length").unwrap().parse().unwrap();
        assert_eq!(body.len(), length / 2, "{fault}");
    }
}
