//! `perfprof load` over HTTP/2, against a server that knows what it did.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod raw;
mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use h2::Reason;
use serde_json::{Value, json};

use self::server::{Act, SHORT, Served, Server, Settings};
use crate::sandbox::{Outcome, Sandbox, json_of, text_of};

const MS: Duration = Duration::from_millis(1);
/// Connections that look at the server before the test: its models, and one short request.
const LOOKS: usize = 2;

/// What a run left behind.
struct Ran {
    rows: Vec<Value>,
    context: Value,
}

impl Ran {
    /// How often each outcome came, with its kind.
    fn outcomes(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for row in &self.rows {
            let kind = row["failed"]["kind"].as_str().map(|kind| format!(" {kind}")).unwrap_or_default();
            *counts.entry(format!("{}{kind}", row["outcome"].as_str().unwrap())).or_default() += 1;
        }
        counts
    }

    #[track_caller]
    fn ended(&self, expected: &[(&str, usize)]) {
        let expected: BTreeMap<String, usize> =
            expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(self.outcomes(), expected, "{:#?}", self.rows.iter().map(|row| &row["failed"]).collect::<Vec<_>>());
    }
}

fn load(sandbox: &Sandbox, url: &str, settings: &[&str]) -> Outcome {
    let mut command = sandbox.command(&["load"]);
    command.arg(format!("base_url={url}")).args([
        "client.threads=1",
        "client.keep_text=true",
        "telemetry.server=off",
        "telemetry.gpu=off",
        "output.ui=none",
        "run.allow_invalid=true",
        "stop.max_error_rate=null",
        "warmup=0",
    ]);
    crate::sandbox::finish({
        command.args(settings);
        command
    })
}

#[track_caller]
fn ran(sandbox: &Sandbox, url: &str, settings: &[&str]) -> Ran {
    load(sandbox, url, settings).exits(0);
    let runs: Vec<_> =
        std::fs::read_dir(sandbox.path().join("tmp/load")).unwrap().map(|run| run.unwrap().path()).collect();
    assert_eq!(runs.len(), 1);
    Ran {
        rows: text_of(&runs[0], "requests.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        context: json_of(&runs[0], "load.json"),
    }
}

/// The connections that carried requests of the test.
fn used(served: &[Served]) -> BTreeSet<usize> {
    served.iter().map(|served| served.connection).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn one_connection_carries_all_requests_and_the_stamps_are_those_of_the_server() {
    let act = Act::Stream { tokens: 20, first: 40 * MS, gap: 15 * MS, pad: 0 };
    let server = Server::start(Settings { act: Box::new(move |_, _| act), ..Settings::default() });
    let ran = ran(&Sandbox::new(), &server.url(), &["http=2", "concurrency=24", "requests_per_stage=72"]);
    ran.ended(&[("ok", 72)]);
    assert_eq!(ran.context["targets"][0]["http"], "2");
    assert_eq!(ran.context["targets"][0]["server"], "test/1");
    let log = server.log();
    assert_eq!((log.accepted, used(&log.served).len()), (LOOKS + 1, 1));
    assert_eq!(log.served.iter().map(|served| served.beside).max(), Some(24));
    assert_eq!(ran.context["stages"][0]["client"]["connects"], 1);

    let (mut ttft, mut gaps) = (Vec::new(), Vec::new());
    for row in &ran.rows {
        // The text tells which request it answers.
        let number: usize = row["text"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
        let served = &log.served[number];
        let at: Vec<f64> =
            row["chunks"]["at_us"].as_array().unwrap().iter().map(|us| us.as_f64().unwrap() / 1e3).collect();
        let sent: Vec<f64> = served.sent.iter().map(|at| (*at - served.came).as_secs_f64() * 1e3).collect();
        assert_eq!((at.len(), sent.len(), row["output_tokens"].as_u64()), (20, 20, Some(20)));
        ttft.push((at[0] - sent[0]).abs());
        gaps.extend(at.windows(2).zip(sent.windows(2)).map(|(a, s)| ((a[1] - a[0]) - (s[1] - s[0])).abs()));
    }
    // Half of them, for the machine of the tests may stop anybody at any time.
    assert!(median(ttft.clone()) < 5.0 && median(gaps.clone()) < 3.0, "{} {}", median(ttft), median(gaps));
}

#[test]
fn a_request_says_the_same_as_in_http_1_1_and_nothing_twice() {
    let server = Server::start(Settings::default());
    let settings = ["http=2", "requests_per_stage=1", "headers=['X-Team: a', 'User-Agent: mine']", "concurrency=1"];
    ran(&Sandbox::new(), &server.url(), &settings).ended(&[("ok", 1)]);
    let log = server.log();
    let served = &log.served[0];
    assert_eq!(served.uri, format!("http://{}/v1/chat/completions", server.address));
    assert_eq!((&served.body["model"], &served.body["stream"]), (&json!("m"), &json!(true)));
    let mut names: Vec<&str> = served.fields.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["accept", "accept-encoding", "content-length", "content-type", "user-agent", "x-team"]);
    assert!(served.fields.contains(&("user-agent".to_owned(), "mine".to_owned())));
}

#[test]
fn a_connection_carries_no_more_than_the_server_takes_and_others_are_made() {
    let server = Server::start(Settings { streams: Some(4), ..Settings::default() });
    let ran = ran(&Sandbox::new(), &server.url(), &["http=2", "concurrency=10", "requests_per_stage=60"]);
    ran.ended(&[("ok", 60)]);
    let log = server.log();
    // Ten at once, four on each.
    assert_eq!((log.accepted, used(&log.served).len()), (LOOKS + 3, 3));
    assert_eq!(log.served.iter().map(|served| served.beside).max(), Some(4));
    assert!(ran.rows.iter().all(|row| row["connect_ms"].is_null() && row["attempts"] == 1));
}

#[test]
fn an_open_loop_makes_connections_as_they_fill() {
    let act = Act::Stream { tokens: 2, first: 150 * MS, gap: MS, pad: 0 };
    let server = Server::start(Settings { streams: Some(4), act: Box::new(move |_, _| act), ..Settings::default() });
    let settings = ["http=2", "arrival=constant", "rate=60", "requests_per_stage=30"];
    let ran = ran(&Sandbox::new(), &server.url(), &settings);
    ran.ended(&[("ok", 30)]);
    // 60 a second for 0.15 s are nine at once.
    let connections = used(&server.log().served).len();
    assert!((2..=5).contains(&connections), "{connections}");
    assert!(ran.rows.iter().any(|row| row["connect_ms"].as_f64().is_some_and(|ms| ms > 0.0)));
}

#[test]
fn connections_for_one_request_each_are_made_if_asked_for() {
    let server = Server::start(Settings::default());
    let settings = ["http=2", "connections=per_request", "concurrency=3", "requests_per_stage=12"];
    ran(&Sandbox::new(), &server.url(), &settings).ended(&[("ok", 12)]);
    assert_eq!(used(&server.log().served).len(), 12);
}

#[test]
fn a_stream_that_the_server_resets_is_truncated_and_the_others_go_on() {
    let act = |number: usize, _: usize| match number % 4 {
        1 => Act::Reset { after: 3, reason: Reason::INTERNAL_ERROR },
        2 => Act::Reset { after: 0, reason: Reason::INTERNAL_ERROR },
        3 => Act::Status(503),
        _ => SHORT,
    };
    let server = Server::start(Settings { act: Box::new(act), ..Settings::default() });
    let ran = ran(&Sandbox::new(), &server.url(), &["http=2", "concurrency=4", "requests_per_stage=40"]);
    ran.ended(&[
        ("connect_error rst_stream", 10),
        ("http_5xx 503", 10),
        ("ok", 10),
        ("stream_truncated rst_stream", 10),
    ]);
    assert_eq!(used(&server.log().served).len(), 1);
    let truncated = ran.rows.iter().find(|row| row["outcome"] == "stream_truncated").unwrap();
    assert_eq!(truncated["chunks"]["at_us"].as_array().unwrap().len(), 3);
    let message = truncated["failed"]["message"].as_str().unwrap();
    assert!(message.contains("INTERNAL_ERROR") && message.contains("3 chunks"), "{message}");
}

#[test]
fn a_refused_stream_is_sent_again_over_another_connection() {
    // The first connection takes two requests and refuses all others.
    let act = |number: usize, connection: usize| {
        if connection == LOOKS && number >= 2 { Act::Reset { after: 0, reason: Reason::REFUSED_STREAM } } else { SHORT }
    };
    let server = Server::start(Settings { act: Box::new(act), ..Settings::default() });
    let ran = ran(&Sandbox::new(), &server.url(), &["http=2", "concurrency=3", "requests_per_stage=9"]);
    ran.ended(&[("ok", 9)]);
    let log = server.log();
    assert_eq!(used(&log.served).len(), 2);
    let again = ran.rows.iter().filter(|row| row["attempts"] == 2).count();
    assert_eq!((again, log.served.len()), (1, 10));
    // Its time counts from when it was sent the second time; when it was sent first is kept.
    let row = ran.rows.iter().find(|row| row["attempts"] == 2).unwrap();
    assert!(row["first_sent_ns"].as_u64().unwrap() < row["sent_ns"].as_u64().unwrap());
}

#[test]
fn a_server_that_refuses_always_is_not_asked_for_ever() {
    let act = |_: usize, _: usize| Act::Reset { after: 0, reason: Reason::REFUSED_STREAM };
    let server = Server::start(Settings { act: Box::new(act), ..Settings::default() });
    let ran = ran(&Sandbox::new(), &server.url(), &["http=2", "concurrency=2", "requests_per_stage=4"]);
    ran.ended(&[("connect_error refused_stream", 4)]);
    assert!(ran.rows.iter().all(|row| row["attempts"] == 4), "{:?}", ran.rows);
}

#[test]
fn goaway_ends_what_is_under_way_and_a_new_connection_is_made() {
    let act = |number: usize, _: usize| match number {
        // Its neighbour has begun by then.
        3 => Act::GoAway(Reason::ENHANCE_YOUR_CALM),
        0..3 => Act::Stream { tokens: 400, first: MS, gap: 5 * MS, pad: 0 },
        _ => SHORT,
    };
    let server = Server::start(Settings { act: Box::new(act), ..Settings::default() });
    let settings = ["http=2", "arrival=constant", "rate=10", "requests_per_stage=6"];
    let ran = ran(&Sandbox::new(), &server.url(), &settings);
    ran.ended(&[("connect_error goaway", 1), ("ok", 2), ("stream_truncated goaway", 3)]);
    let message =
        ran.rows.iter().find(|row| row["outcome"] == "connect_error").unwrap()["failed"]["message"].to_string();
    assert!(message.contains("ENHANCE_YOUR_CALM"), "{message}");
    assert_eq!(used(&server.log().served).len(), 2);
}

#[test]
fn a_connection_that_the_server_leaves_in_order_ends_what_it_carries_and_takes_no_more() {
    let act = |number: usize, _: usize| if number == 2 { Act::Graceful } else { SHORT };
    let server = Server::start(Settings { act: Box::new(act), ..Settings::default() });
    let ran = ran(&Sandbox::new(), &server.url(), &["http=2", "concurrency=3", "requests_per_stage=30"]);
    ran.ended(&[("ok", 30)]);
    assert_eq!(used(&server.log().served).len(), 2);
}

#[test]
fn requests_behind_the_last_that_goaway_names_are_sent_again() {
    let server = raw::Server::start();
    let ran = ran(&Sandbox::new(), &server.url(), &["http=2", "model=m", "concurrency=2", "requests_per_stage=2"]);
    ran.ended(&[("ok", 2)]);
    let attempts: BTreeSet<u64> = ran.rows.iter().map(|row| row["attempts"].as_u64().unwrap()).collect();
    assert_eq!(attempts, BTreeSet::from([1, 2]));
}

#[test]
fn a_timeout_resets_its_stream_and_leaves_the_connection_to_the_others() {
    let act = |number: usize, _: usize| if number == 1 { Act::Hang } else { SHORT };
    let server = Server::start(Settings { act: Box::new(act), ..Settings::default() });
    let settings = ["http=2", "concurrency=2", "requests_per_stage=20", "timeout.first_token_s=0.5"];
    let ran = ran(&Sandbox::new(), &server.url(), &settings);
    ran.ended(&[("ok", 19), ("timeout_first_token timeout", 1)]);
    let log = server.log();
    assert_eq!((log.served[1].reset, used(&log.served).len()), (Some(Reason::CANCEL), 1));
}

#[test]
fn what_is_under_way_when_a_stage_is_over_is_reset() {
    let server = Server::start(Settings { act: Box::new(|_, _| Act::Hang), ..Settings::default() });
    let settings = ["http=2", "concurrency=5", "requests_per_stage=5", "duration_s=0.3", "grace_s=0.2"];
    ran(&Sandbox::new(), &server.url(), &settings).ended(&[("cancelled_deadline cancelled", 5)]);
    crate::sandbox::until("the resets", || {
        server.log().served.iter().all(|served| served.reset == Some(Reason::CANCEL))
    });
}

#[test]
fn long_requests_go_through_a_narrow_window_and_long_answers_through_ours() {
    let act = Act::Stream { tokens: 300, first: MS, gap: Duration::ZERO, pad: 8000 };
    let server = Server::start(Settings { window: Some(128), act: Box::new(move |_, _| act), ..Settings::default() });
    // Arguments of a process end at 128 KiB.
    let pad = "y".repeat(100_000);
    let settings = ["http=2", "concurrency=4", "requests_per_stage=8", &format!("extra_body={{pad: {pad}}}")];
    let ran = ran(&Sandbox::new(), &server.url(), &settings);
    ran.ended(&[("ok", 8)]);
    assert!(server.log().served.iter().all(|served| served.body["pad"] == pad));
    // 2.4 MB each: more than the window of a stream, and than that of a connection for all together.
    assert!(ran.rows.iter().all(|row| row["chunks"]["at_us"].as_array().unwrap().len() == 300));
}

#[test]
fn tls_agrees_on_what_is_spoken() {
    let both: fn(usize) -> &'static [&'static [u8]] = |_| &[b"h2", b"http/1.1"];
    let old: fn(usize) -> &'static [&'static [u8]] = |_| &[b"http/1.1"];
    for (offer, http, spoken) in [(both, "auto", "2"), (both, "1.1", "1.1"), (both, "2", "2"), (old, "auto", "1.1")] {
        let (sandbox, server) = (Sandbox::new(), Server::start(Settings { tls: Some(offer), ..Settings::default() }));
        let (url, ca) = server.trusted(&sandbox);
        let trust = format!("tls.ca_file={}", ca.display());
        let ran = ran(&sandbox, &url, &[&format!("http={http}"), &trust, "concurrency=6", "requests_per_stage=18"]);
        ran.ended(&[("ok", 18)]);
        assert_eq!(ran.context["targets"][0]["http"], spoken, "http={http}");
        if spoken == "2" {
            let log = server.log();
            assert_eq!((log.accepted, used(&log.served).len()), (LOOKS + 1, 1), "http={http}");
        }
    }
}

#[test]
fn http_2_that_tls_does_not_agree_on_is_told() {
    let old: fn(usize) -> &'static [&'static [u8]] = |_| &[b"http/1.1"];
    let none: fn(usize) -> &'static [&'static [u8]] = |_| &[];
    for offer in [old, none] {
        let (sandbox, server) = (Sandbox::new(), Server::start(Settings { tls: Some(offer), ..Settings::default() }));
        let (url, ca) = server.trusted(&sandbox);
        let refused = load(&sandbox, &url, &["http=2", &format!("tls.ca_file={}", ca.display())]);
        assert_ne!(refused.code, Some(0));
        refused.says(&["HTTP"]).hints("http=1.1");
    }
    // A server that changes its mind behind the look at it.
    let later: fn(usize) -> &'static [&'static [u8]] = |number| if number < LOOKS { &[b"h2"] } else { &[b"http/1.1"] };
    let (sandbox, server) = (Sandbox::new(), Server::start(Settings { tls: Some(later), ..Settings::default() }));
    let (url, ca) = server.trusted(&sandbox);
    let trust = format!("tls.ca_file={}", ca.display());
    ran(&sandbox, &url, &["http=2", &trust, "concurrency=2", "requests_per_stage=4"])
        .ended(&[("tls_error no_http2", 4)]);
}

#[test]
fn a_server_of_http_1_1_is_told_from_one_of_http_2() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        while let Ok((mut socket, _)) = listener.accept() {
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let refused = load(&Sandbox::new(), &url, &["http=2"]);
    assert_ne!(refused.code, Some(0));
    refused.says(&["HTTP/1.1"]).hints("http=1.1");
}
