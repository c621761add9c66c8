//! What each API sends: how many chunks, in which form, with which counts.

use serde_json::{Value, json};

use super::client::{Client, End, get, quick, start, stats, texts};
use crate::server::mock::{MockSettings, RoleChunk, UsagePolicy};

#[test]
fn a_streamed_chat_has_a_role_then_its_tokens_then_their_count_then_done() {
    let mock = start(MockSettings { tokens_per_chunk: 3, ..quick() });
    let mut client = Client::new(&mock);
    client.chat(7);
    let (events, end) = client.stream();
    assert_eq!(end, End::Whole);
    assert_eq!(events.len(), 6);
    let role = events[0].json();
    assert_eq!(role["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!(role["id"], "chatcmpl-1");
    assert_eq!(texts(&events), [" token token token", " token token token", " token"]);
    let finishes: Vec<Value> =
        events[..4].iter().map(|event| event.json()["choices"][0]["finish_reason"].clone()).collect();
    assert_eq!(finishes, [Value::Null, Value::Null, Value::Null, json!("length")]);
    let usage = events[4].json();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], json!({"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}));
    assert_eq!(events[5].data, "[DONE]");
    let stats = stats(&mock);
    assert_eq!((&stats["chunks"], &stats["tokens"], &stats["completed"]), (&json!(3), &json!(7), &json!(1)));
}

#[test]
fn a_streamed_completion_has_texts_and_no_role() {
    let mock = start(quick());
    let mut client = Client::new(&mock);
    client.post("/v1/completions", r#"{"prompt":[1,2,3,4],"stream":true,"max_tokens":5,"model":"named"}"#);
    let (events, end) = client.stream();
    assert_eq!((events.len(), end), (6, End::Whole), "five tokens, nobody asked for usage, and [DONE]");
    assert_eq!(texts(&events), [" token"; 5]);
    let first = events[0].json();
    assert_eq!((&first["object"], &first["model"]), (&json!("text_completion"), &json!("named")));
    assert!(first.get("usage").is_none());
}

#[test]
fn a_streamed_response_is_created_grows_and_is_completed() {
    let mock = start(quick());
    let mut client = Client::new(&mock);
    client.post("/v1/responses", r#"{"input":"one two","stream":true,"max_output_tokens":4}"#);
    let (events, end) = client.stream();
    assert_eq!(end, End::Whole);
    let names: Vec<&str> = events.iter().filter_map(|event| event.name.as_deref()).collect();
    let delta = "response.output_text.delta";
    assert_eq!(names, ["response.created", delta, delta, delta, delta, "response.completed"]);
    for (index, event) in events.iter().enumerate() {
        let json = event.json();
        assert_eq!((json["type"].as_str(), &json["sequence_number"]), (event.name.as_deref(), &json!(index)));
    }
    assert_eq!(texts(&events), [" token"; 4]);
    let usage = &events[5].json()["response"]["usage"];
    assert_eq!(*usage, json!({"input_tokens": 2, "output_tokens": 4, "total_tokens": 6}));
}

#[test]
fn answers_that_are_no_streams_come_whole_and_one_connection_serves_them_all() {
    let mock = start(MockSettings { default_tokens: 2, ..quick() });
    let mut client = Client::new(&mock);
    client.whole_chat(3);
    let (head, body) = client.answer();
    assert_eq!((head.status, head.header("content-type")), (200, Some("application/json")));
    let chat: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(chat["choices"][0]["message"], json!({"role": "assistant", "content": " token token token"}));
    assert_eq!(chat["usage"], json!({"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}));
    client.post("/v1/completions", r#"{"prompt":"x"}"#);
    let completion: Value = serde_json::from_str(&client.answer().1).unwrap();
    let choice = &completion["choices"][0];
    assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(" token token"), &json!("stop")));
    client.post("/v1/responses", r#"{"input":"x","max_output_tokens":1}"#);
    let response: Value = serde_json::from_str(&client.answer().1).unwrap();
    assert_eq!(response["output"][0]["content"][0]["text"], " token");
    client.chat(2);
    assert_eq!(client.stream().1, End::Whole);
    client.write(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert_eq!(client.answer().0.header("connection"), Some("close"));
    assert_eq!(client.rest(), (Vec::new(), End::Closed));
    let stats = stats(&mock);
    assert_eq!(stats["completed"], 4);
    // Only the stream has a first token and gaps: 1 TTFT, and 1 gap between its 2 tokens.
    assert!(stats["ttft_ms"]["p50"] == stats["ttft_ms"]["max"] && stats["itl_ms"]["p50"] == stats["itl_ms"]["max"]);
}

#[test]
fn counts_in_every_chunk_add_up() {
    let mock = start(MockSettings { usage: UsagePolicy::Continuous, role: RoleChunk::None, ..quick() });
    let mut client = Client::new(&mock);
    client.post("/v1/chat/completions", r#"{"messages":[{"content":"a b"}],"stream":true,"max_tokens":12}"#);
    let (events, _) = client.stream();
    assert_eq!(events.len(), 14);
    for (index, event) in events[..12].iter().enumerate() {
        let expected = json!({"prompt_tokens": 2, "completion_tokens": index + 1, "total_tokens": index + 3});
        assert_eq!(event.json()["usage"], expected);
    }
    assert_eq!(events[12].json()["usage"]["completion_tokens"], 12);
}

#[test]
fn done_may_be_left_out_and_usage_be_told_or_not() {
    let mock = start(MockSettings { done: false, usage: UsagePolicy::Never, ..quick() });
    let mut client = Client::new(&mock);
    client.chat(2);
    let (events, end) = client.stream();
    assert_eq!((events.len(), end), (3, End::Whole));
    assert!(events.iter().all(|event| !event.data.contains("usage") && event.data != "[DONE]"));
    client.whole_chat(1);
    assert!(!client.answer().1.contains("usage"));
}

#[test]
fn a_server_tells_its_model_and_how_busy_it_is() {
    let mock = start(MockSettings { model: "some/model".to_owned(), strict_model: true, ..quick() });
    let models: Value = serde_json::from_str(&get(&mock, "/v1/models")).unwrap();
    assert_eq!(models["data"][0]["id"], "some/model");
    assert_eq!(get(&mock, "/health"), "");
    let mut client = Client::new(&mock);
    client.chat(1);
    let (head, body) = client.answer();
    assert!(head.status == 404 && body.contains("The model `mock` does not exist."), "{body}");
    client.post("/v1/completions", r#"{"prompt":"a b c","max_tokens":4,"stream":true}"#);
    client.stream();
    let metrics = get(&mock, "/metrics");
    for line in [
        "vllm:num_requests_running{engine=\"0\",model_name=\"some/model\"} 0.0",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"some/model\"} 0.0",
        "vllm:prompt_tokens_total{engine=\"0\",model_name=\"some/model\"} 3.0",
        "vllm:generation_tokens_total{engine=\"0\",model_name=\"some/model\"} 4.0",
    ] {
        assert!(metrics.lines().any(|known| known == line), "{line}\n{metrics}");
    }
}
