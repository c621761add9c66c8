//! Connections that cannot be made, are gone, or are too many.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::json;

use super::answers::{STREAM_HEAD, good, stream_bytes, tokens};
use super::fault_server::{FaultServer, Step, stop_listening};
use super::{arguments, chunks_of, command, end_of, load, message_of, read, runs};
use crate::sandbox::{Sandbox, finish};

/// An address where nobody listens.
fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    stop_listening(&listener);
    format!("http://{}", listener.local_addr().unwrap())
}

// L01
#[test]
fn a_port_where_nobody_listens_is_told_at_once_and_leaves_no_run() {
    let sandbox = Sandbox::new();
    let begin = Instant::now();
    let url = closed();
    finish(command(&sandbox, &url, &[])).exits(2).says(&["error: nothing listens on", &url]).hints("start the server");
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(runs(&sandbox).is_empty());
}

// L02
#[test]
fn a_server_that_dies_leaves_what_it_answered_and_ends_the_test() {
    let server = FaultServer::start(|seen| if seen.number == Some(12) { vec![Step::Kill] } else { good(3) });
    let sandbox = Sandbox::new();
    // So many that the end does not come too late where refusals come faster than anybody looks.
    let settings = ["requests_per_stage=5000", "concurrency=4", "stop.max_error_rate=0.5"];
    let begin = Instant::now();
    let run = load(&sandbox, &server.url(), 3, &settings);
    assert!(begin.elapsed() < Duration::from_secs(20));
    // Three others were out when it died, each sent before or after the one that killed it.
    let ok = run.count("ok");
    assert!((9..=14).contains(&ok), "{}", run.stage()["outcomes"]);
    assert_eq!(run.stage()["output_tokens"], ok * 3);
    let cut = run.count("stream_truncated");
    assert_eq!(ok + cut + run.count("connect_error"), run.stage()["issued"], "{}", run.stage()["outcomes"]);
    let (refused, first) = run.error("connect_error", "refused");
    assert!(refused >= 8 && first.to_lowercase().contains("refused"), "{refused} {first}");
    assert!(run.reasons().contains("stop.max_error_rate"), "{}", run.reasons());
    assert!(run.stage()["issued"].as_u64().unwrap() < 5000 && run.finding("not_issued").is_some());
    assert!(run.outcome.stdout.contains("INVALID"), "{}", run.outcome.stdout);
}

// L27
#[test]
fn a_connection_the_server_has_closed_in_between_is_made_anew() {
    // Nothing in the answer says that the connection ends with it.
    let server = FaultServer::start(|_| vec![Step::Send(stream_bytes(&tokens(3))), Step::Close]);
    let sandbox = Sandbox::new();
    let settings = ["arrival=constant", "rate=[4]", "requests_per_stage=5"];
    let run = load(&sandbox, &server.url(), 0, &settings);
    assert_eq!((run.count("ok"), server.connections()), (5, 7), "{}", run.stage()["outcomes"]);
    // The first connection was there before; what the others cost stands apart, and in nobody's first token.
    assert_eq!(run.measure("connect_ms", "n"), 4);
    assert!(run.rows.iter().all(|row| row["attempts"] == 1));
}

// L27
#[test]
fn a_connection_that_was_closed_under_a_request_is_called_stale() {
    // The second request of each connection is read, and the connection ends without a word.
    let server =
        FaultServer::start(|seen| if seen.number.unwrap().is_multiple_of(2) { good(3) } else { vec![Step::Close] });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &["requests_per_stage=6"]);
    assert_eq!((run.count("ok"), run.count("connect_error")), (3, 3));
    let (count, first) = run.error("connect_error", "stale_connection");
    assert!(count == 3 && first.contains("a connection that had served before was closed"), "{first}");
    // It had been written, so it was not sent again.
    assert_eq!(server.seen().len(), 6);
}

// L33
#[test]
fn a_name_without_an_address_is_told_and_leaves_no_run() {
    let sandbox = Sandbox::new();
    let outcome = finish(command(&sandbox, "http://nonexistent.invalid:8000", &[])).exits(2);
    outcome.says(&["`nonexistent.invalid`", "has no address"]).hints("check the name");
    assert!(runs(&sandbox).is_empty());
}

// L33
#[test]
fn a_name_is_tried_at_each_of_its_addresses_and_an_address_of_either_kind_is_one() {
    let server = FaultServer::start(|_| good(2));
    let sandbox = Sandbox::new();
    // Where the name stands for ::1 too, nobody listens there.
    let run = load(&sandbox, &format!("http://localhost:{}", server.address().port()), 0, &[]);
    assert_eq!(run.count("ok"), 4);
    assert!(run.metrics["targets"][0]["url"].as_str().unwrap().starts_with("http://localhost:"));

    if TcpListener::bind("[::1]:0").is_err() {
        eprintln!("skipped: this machine has no IPv6");
        return;
    }
    let server = FaultServer::builder().address("[::1]:0").start(|_| good(2));
    let sandbox = Sandbox::new();
    // Brackets mean something in settings, unless they are quoted.
    let run = load(&sandbox, &format!("\"{}\"", server.url()), 0, &[]);
    assert_eq!(run.count("ok"), 4);
    let host = format!("Host: [::1]:{}", server.address().port());
    assert!(server.all().iter().all(|seen| seen.head.contains(&host)));
}

#[test]
fn each_request_may_have_a_connection_of_its_own_or_share_one() {
    for (setting, connections) in [("connections=pooled", 2 + 2), ("connections=per_request", 2 + 8)] {
        let server = FaultServer::start(|_| good(2));
        let sandbox = Sandbox::new();
        let run = load(&sandbox, &server.url(), 0, &[setting, "requests_per_stage=8", "concurrency=2"]);
        assert_eq!((run.count("ok"), server.connections()), (8, connections), "{setting}");
    }
}

#[test]
fn several_servers_are_taken_in_turn() {
    let servers = [FaultServer::start(|_| good(2)), FaultServer::start(|_| good(3))];
    let sandbox = Sandbox::new();
    let both = format!("[\"{}\",\"{}\"]", servers[0].url(), servers[1].url());
    let run = load(&sandbox, &both, 0, &["requests_per_stage=8", "concurrency=2"]);
    assert_eq!((servers[0].seen().len(), servers[1].seen().len()), (4, 4));
    for row in &run.rows {
        assert_eq!(chunks_of(row).len() as u64, 2 + row["target"].as_u64().unwrap(), "{row}");
    }
}

// L37
#[test]
fn too_few_descriptors_are_told_before_a_test_or_blamed_on_the_client() {
    let server = FaultServer::start(|_| {
        let mut body = stream_bytes(&tokens(2));
        body.drain(..STREAM_HEAD.len());
        vec![Step::Send(STREAM_HEAD.as_bytes().to_vec()), Step::Wait(700), Step::Send(body)]
    });
    let sandbox = Sandbox::new();
    let shell = |settings: &[&str]| {
        let mut all = vec!["load".to_owned()];
        all.extend(arguments(&sandbox, &server.url(), settings));
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        finish(sandbox.shell("ulimit -n 64", &all))
    };
    let outcome = shell(&["concurrency=200", "requests_per_stage=400"]).exits(2);
    outcome.says(&["200 requests in flight need at least 240 descriptors", "64"]).hints("ulimit -n 240");
    assert!(runs(&sandbox).is_empty() && server.seen().is_empty());

    // Nobody knows how many an open loop needs: those that have none are the client's fault, and the run is whole.
    let outcome = shell(&["arrival=constant", "rate=[400]", "requests_per_stage=100"]);
    let run = read(&sandbox, outcome.exits(0));
    let (failed, first) = run.error("client_error", "descriptors");
    assert!((60..96).contains(&failed) && first.contains("open files"), "{failed} {first}");
    assert_eq!(run.count("ok") + failed, 100, "{}", run.stage()["outcomes"]);
    assert!(run.ended("client_error").iter().all(|row| row["sent_ns"].is_null() && row["status"].is_null()));
    assert_eq!(server.seen().len() as u64, run.count("ok"));
}

// L02, seen by a request alone
#[test]
fn a_port_that_is_closed_during_the_test_is_a_connection_refused() {
    let server = FaultServer::start(|seen| if seen.number == Some(1) { vec![Step::Kill] } else { good(3) });
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &server.url(), 0, &[]);
    assert_eq!((run.row(0)["outcome"].as_str(), end_of(run.row(1)).0), (Some("ok"), "connect_error"));
    for prompt in [2, 3] {
        assert_eq!(end_of(run.row(prompt)), ("connect_error", "refused"));
        assert!(run.row(prompt)["sent_ns"].is_null() && message_of(run.row(prompt)).contains("refused"));
    }
    assert_eq!(run.measure("e2e_ms", "n"), &json!(1));
}
