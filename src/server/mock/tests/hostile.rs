//! Clients that speak HTTP badly, or something else, harm only themselves.

use super::client::{Client, End, get, quick, start, stats};
use crate::server::mock::MockSettings;

#[test]
fn what_is_no_request_is_refused_and_the_connection_ends() {
    let mock = start(quick());
    let many = format!("GET / HTTP/1.1\r\nx: {}", "y".repeat(70_000));
    for (text, status) in [
        (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], 400),
        (b"nonsense", 400),
        (b"GET / HTTP/1.1\nx: y\n\n", 400),
        (b"GET / HTTP/1.1\r\n\xff\xfe: x\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"POST /v1/completions HTTP/1.1\r\ncontent-length: 68719476736\r\n\r\n", 413),
        (b"POST /v1/completions HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n", 411),
        (many.as_bytes(), 431),
    ] {
        let mut client = Client::new(&mock);
        client.write(text);
        let (head, body) = client.answer();
        assert_eq!(head.status, status, "{body}");
        assert_eq!(head.header("connection"), Some("close"));
        assert!(body.contains("error"), "{body}");
        assert_eq!(client.rest(), (Vec::new(), End::Closed));
    }
    assert_eq!(get(&mock, "/health"), "");
    assert_eq!(stats(&mock)["refused"], 8);
}

#[test]
fn an_endless_head_is_cut_off() {
    let mock = start(quick());
    let mut client = Client::new(&mock);
    client.write(b"GET / HTTP/1.1\r\n");
    let line = format!("x: {}\r\n", "y".repeat(1000));
    // The server reads on for a while, so that its refusal can be read; then it is gone.
    let taken = (0..1_000_000).take_while(|_| client.try_write(line.as_bytes())).count();
    assert!(taken < 1_000_000);
    assert_eq!(get(&mock, "/health"), "");
}

#[test]
fn requests_one_after_the_other_in_one_write_are_answered_in_order() {
    let mock = start(quick());
    let mut client = Client::new(&mock);
    let body = r#"{"prompt":"x","max_tokens":2,"stream":true}"#;
    let post = format!("POST /v1/completions HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    client.write(format!("{post}GET /health HTTP/1.1\r\n\r\n{post}\r\nnonsense").as_bytes());
    assert_eq!(client.stream().0[0].json()["id"], "cmpl-1");
    assert_eq!(client.answer().0.status, 200);
    assert_eq!(client.stream().0[0].json()["id"], "cmpl-2");
    assert_eq!(client.answer().0.status, 400);
    assert_eq!(client.rest().1, End::Closed);
}

#[test]
fn thousands_of_requests_in_one_write_are_all_answered() {
    let mock = start(quick());
    let mut client = Client::new(&mock);
    client.write("GET /health HTTP/1.1\r\n\r\n".repeat(5000).as_bytes());
    for _ in 0..5000 {
        assert_eq!(client.answer().0.status, 200);
    }
}

#[test]
fn much_that_comes_while_an_answer_is_under_way_is_kept_for_later() {
    let mock = start(MockSettings { ttft_ms: 200.0, ..quick() });
    let mut client = Client::new(&mock);
    client.chat(2);
    // More than is read ahead.
    let body = format!(r#"{{"prompt":"{}","max_tokens":1}}"#, "a ".repeat(200_000));
    client.post("/v1/completions", &body);
    assert_eq!(client.stream().1, End::Whole);
    assert!(client.answer().1.contains(r#""prompt_tokens":200000,"#));
}

#[test]
fn a_request_may_come_byte_by_byte() {
    let mock = start(quick());
    let mut client = Client::new(&mock);
    let body = r#"{"prompt":"x","max_tokens":1}"#;
    let post = format!("POST /v1/completions HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    for byte in post.as_bytes() {
        client.write(&[*byte]);
    }
    assert_eq!(client.answer().0.status, 200);
    assert_eq!(stats(&mock)["completed"], 1);
}

#[test]
fn wrong_places_methods_and_bodies_are_refused_and_the_connection_goes_on() {
    let mock = start(quick());
    let mut client = Client::new(&mock);
    for (request, status) in [
        ("GET /nowhere HTTP/1.1\r\n\r\n", 404),
        ("DELETE /v1/models HTTP/1.1\r\n\r\n", 405),
        ("GET /v1/chat/completions HTTP/1.1\r\n\r\n", 405),
        ("POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 2\r\n\r\n{]", 400),
        ("POST /v1/chat/completions HTTP/1.1\r\n\r\n", 400),
        ("GET /health HTTP/1.1\r\n\r\n", 200),
    ] {
        client.write(request.as_bytes());
        let (head, body) = client.answer();
        assert_eq!(head.status, status, "{request}: {body}");
        assert_eq!(head.header("allow").is_some(), status == 405);
    }
    client.write(b"HEAD /health HTTP/1.1\r\n\r\n");
    assert_eq!(client.answer().0.header("connection"), Some("close"));
}

#[test]
fn a_client_that_waits_to_be_told_to_go_on_is_told() {
    let mock = start(quick());
    let mut client = Client::new(&mock);
    client.write(b"POST /v1/completions HTTP/1.1\r\ncontent-length: 29\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(client.head().status, 100);
    client.write(br#"{"prompt":"x","max_tokens":1}"#);
    assert_eq!(client.answer().0.status, 200);
}

#[test]
fn clients_that_leave_at_any_point_leave_nothing_behind() {
    let mock = start(MockSettings { ttft_ms: 50.0, ..quick() });
    let body = r#"{"prompt":"x","max_tokens":3,"stream":true}"#;
    let post = format!("POST /v1/completions HTTP/1.1\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    for length in (0..=post.len()).step_by(7) {
        let mut client = Client::new(&mock);
        client.write(&post.as_bytes()[..length]);
    }
    let stats = super::client::stats_when(&mock, |stats| stats["in_flight"] == 0);
    let count = |name: &str| stats[name].as_u64().unwrap();
    assert_eq!(count("requests"), count("completed") + count("disconnected"));
}
