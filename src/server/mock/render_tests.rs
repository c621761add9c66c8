use serde_json::{Value, json};

use super::*;

fn ask(shape: Shape, tokens: u32) -> Ask {
    Ask {
        shape,
        model: "m\"x".to_owned(),
        stream: true,
        tokens,
        limited: true,
        prompt_tokens: 5,
        usage: true,
        continuous_usage: false,
    }
}

fn voice(ask: &Ask, settings: &MockSettings) -> (Voice, Plan) {
    let plan = Plan::new(ask, settings);
    let mut voice = Voice::default();
    voice.begin(ask, &plan, 7, 1_700_000_000, settings.stamp);
    (voice, plan)
}

/// The JSON of one event framed as one chunk of HTTP.
fn event(bytes: &[u8]) -> Value {
    let text = std::str::from_utf8(bytes).unwrap();
    let (size, rest) = text.split_once("\r\n").unwrap();
    let payload = rest.strip_suffix("\r\n").unwrap();
    assert_eq!(usize::from_str_radix(size, 16).unwrap(), payload.len());
    let data = payload.strip_suffix("\n\n").unwrap().lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    serde_json::from_str(data).unwrap()
}

#[test]
fn a_chunk_of_a_chat_is_to_the_byte_what_vllm_sends() {
    let mut ask = ask(Shape::Chat, 3);
    ask.usage = false;
    let (mut voice, plan) = voice(&ask, &MockSettings::default());
    let mut scratch = Vec::new();
    let json = r#"data: {"id":"chatcmpl-7","object":"chat.completion.chunk","created":1700000000,"model":"m\"x","choices":[{"index":0,"delta":{"content":" token"},"logprobs":null,"finish_reason":null}]}"#;
    assert_eq!(
        String::from_utf8(voice.token_chunk(&mut scratch, &plan, 1, 9).to_vec()).unwrap(),
        format!("{:x}\r\n{json}\n\n\r\n", json.len() + 2)
    );
    let last = event(voice.token_chunk(&mut scratch, &plan, 2, 9));
    assert_eq!(last["choices"][0]["finish_reason"], "length");
}

#[test]
fn numbers_that_change_are_written_over_a_template() {
    let mut ask = ask(Shape::Chat, 100_000);
    ask.continuous_usage = true;
    let settings = MockSettings { stamp: true, tokens_per_chunk: 2, ..MockSettings::default() };
    let (mut voice, plan) = voice(&ask, &settings);
    for (index, at, completion) in [(0, 1, 2), (49_998, u64::MAX, 99_998), (3, 0, 8), (49_999, 12, 100_000)] {
        let mut scratch = Vec::new();
        let chunk = event(voice.token_chunk(&mut scratch, &plan, index, at));
        assert_eq!(chunk["t_send_ns"], at);
        assert_eq!(
            chunk["usage"],
            json!({"prompt_tokens": 5, "completion_tokens": completion, "total_tokens": completion + 5})
        );
        assert_eq!(chunk["choices"][0]["delta"]["content"], " token token");
    }
}

#[test]
fn the_last_chunk_has_what_is_left() {
    let settings = MockSettings { tokens_per_chunk: 4, ..MockSettings::default() };
    let ask = ask(Shape::Completion, 10);
    let (mut voice, plan) = voice(&ask, &settings);
    let texts: Vec<String> = (0..plan.chunks)
        .map(|index| event(voice.token_chunk(&mut Vec::new(), &plan, index, 0))["choices"][0]["text"].to_string())
        .collect();
    assert_eq!(texts, ["\" token token token token\"", "\" token token token token\"", "\" token token\""]);
}

#[test]
fn reasoning_comes_first_and_a_tool_call_last() {
    let settings = MockSettings { reasoning: 2, tool: 3, ..MockSettings::default() };
    let ask = ask(Shape::Chat, 7);
    let (mut voice, plan) = voice(&ask, &settings);
    let mut arguments = String::new();
    let mut kinds = String::new();
    for index in 0..7 {
        let chunk = event(voice.token_chunk(&mut Vec::new(), &plan, index, 0));
        let delta = &chunk["choices"][0]["delta"];
        if let Some(calls) = delta.get("tool_calls") {
            kinds.push('t');
            arguments.push_str(calls[0]["function"]["arguments"].as_str().unwrap());
            assert_eq!(calls[0].get("id").is_some(), index == 4, "only the first piece names the call");
        } else {
            kinds.push(if delta.get("reasoning_content").is_some() { 'r' } else { 'c' });
        }
        let finish = &chunk["choices"][0]["finish_reason"];
        assert_eq!(*finish, if index == 6 { json!("tool_calls") } else { Value::Null });
    }
    assert_eq!(kinds, "rrccttt");
    assert_eq!(serde_json::from_str::<Value>(&arguments).unwrap(), json!({"text": " token token token"}));
    let whole: Value = serde_json::from_slice(&voice.whole(&plan, 0)).unwrap();
    let message = &whole["choices"][0]["message"];
    assert_eq!((&message["reasoning_content"], &message["content"]), (&json!(" token token"), &json!(" token token")));
    assert_eq!(message["tool_calls"][0]["function"]["arguments"], arguments.as_str());
}

#[test]
fn one_chunk_may_be_a_whole_tool_call_and_too_many_are_cut() {
    let settings = MockSettings { reasoning: 1, tool: 9, ..MockSettings::default() };
    let ask = ask(Shape::Chat, 2);
    let (mut voice, plan) = voice(&ask, &settings);
    let first = event(voice.token_chunk(&mut Vec::new(), &plan, 0, 0));
    assert_eq!(first["choices"][0]["delta"]["reasoning_content"], " token");
    let last = event(voice.token_chunk(&mut Vec::new(), &plan, 1, 0));
    let arguments = &last["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(arguments, r#"{"text":" token"}"#);
}

#[test]
fn a_tail_tells_the_tokens_and_ends_the_body() {
    let ask = ask(Shape::Chat, 3);
    let (mut voice, plan) = voice(&ask, &MockSettings::default());
    let mut out = Vec::new();
    voice.tail(&mut out, &plan, 0, true);
    let text = String::from_utf8(out).unwrap();
    let usage = text.strip_suffix("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n").expect("it ends with [DONE]");
    let usage = event(usage.as_bytes());
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"], json!({"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}));
}

#[test]
fn responses_have_events_with_names_and_numbers() {
    let settings = MockSettings { stamp: true, ..MockSettings::default() };
    let ask = ask(Shape::Response, 3);
    let (mut voice, plan) = voice(&ask, &settings);
    let mut created = Vec::new();
    voice.role(&mut created, 4);
    assert!(String::from_utf8_lossy(&created).contains("\r\nevent: response.created\ndata: "));
    let created = event(&created);
    assert_eq!((&created["type"], &created["t_send_ns"]), (&json!("response.created"), &json!(4)));
    assert_eq!(created["response"]["status"], "in_progress");
    for index in 0..3 {
        let delta = event(voice.token_chunk(&mut Vec::new(), &plan, index, 0));
        assert_eq!(delta["type"], "response.output_text.delta");
        assert_eq!((&delta["delta"], &delta["sequence_number"]), (&json!(" token"), &json!(index + 1)));
    }
    let mut tail = Vec::new();
    voice.tail(&mut tail, &plan, 0, true);
    let completed = event(tail.strip_suffix(b"0\r\n\r\n").unwrap());
    assert_eq!((&completed["type"], &completed["sequence_number"]), (&json!("response.completed"), &json!(4)));
    let response = &completed["response"];
    assert_eq!(response["output"][0]["content"][0]["text"], " token token token");
    assert_eq!(response["usage"], json!({"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}));
    let whole: Value = serde_json::from_slice(&voice.whole(&plan, 11)).unwrap();
    assert_eq!((&whole["usage"], &whole["t_send_ns"]), (&response["usage"], &json!(11)));
}

#[test]
fn numbers_keep_to_their_columns() {
    for (value, expected) in [(0, "    0"), (7, "    7"), (12_345, "12345")] {
        let mut out = b"x".to_vec();
        assert_eq!(number(&mut out, value, 5), 1);
        assert_eq!(String::from_utf8(out).unwrap(), format!("x{expected}"));
    }
}
