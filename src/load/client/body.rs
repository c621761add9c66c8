//! The body of a request.

use serde_json::{Map, Value, json};

use crate::config::schema::load::Endpoint;
use crate::load::workload::item::{Message, Prompt, Turn};

/// What all requests of a run have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct BodyTemplate {
    /// Which API.
    pub endpoint: Endpoint,
    /// The model as the server calls it.
    pub model: String,
    /// Ask for a stream.
    pub stream: bool,
    /// Ask for counts at its end.
    pub include_usage: bool,
    /// Ask for counts in each chunk.
    pub continuous_usage: bool,
    /// New tokens at most, whatever the turn says.
    pub max_tokens: Option<u32>,
    /// New tokens at least, where the turn does not say.
    pub min_tokens: Option<u32>,
    /// Go on after the end of the sequence, where the turn does not say.
    pub ignore_eos: bool,
    /// Temperature.
    pub temperature: Option<f64>,
    /// Nucleus.
    pub top_p: Option<f64>,
    /// Further fields, which win over those above.
    pub extra: Map<String, Value>,
}

impl BodyTemplate {
    /// New tokens at most for `turn`: what it says, cut to the setting.
    pub fn max_tokens(&self, turn: &Turn) -> Option<u32> {
        match (turn.max_tokens, self.max_tokens) {
            (Some(own), Some(most)) => Some(own.min(most)),
            (own, most) => own.or(most),
        }
    }

    /// The body for `turn` after `history`, what was said before in the conversation.
    pub fn render(&self, turn: &Turn, history: &[Message]) -> Vec<u8> {
        let mut body = Map::new();
        body.insert("model".to_owned(), json!(self.model));
        match self.endpoint {
            Endpoint::ChatCompletions => {
                body.insert("messages".to_owned(), json!(messages(&turn.prompt, history)));
            }
            Endpoint::Completions => {
                let prompt = match &turn.prompt {
                    Prompt::TokenIds(ids) if history.is_empty() => json!(ids),
                    prompt => json!(joined(prompt, history)),
                };
                body.insert("prompt".to_owned(), prompt);
            }
            Endpoint::Responses => {
                let input = match &turn.prompt {
                    Prompt::Text(text) if history.is_empty() => json!(text),
                    prompt => json!(messages(prompt, history)),
                };
                body.insert("input".to_owned(), input);
            }
        }
        if let Some(max) = self.max_tokens(turn) {
            let name = if self.endpoint == Endpoint::Responses { "max_output_tokens" } else { "max_tokens" };
            body.insert(name.to_owned(), json!(max));
        }
        let most = self.max_tokens(turn).unwrap_or(u32::MAX);
        if let Some(min) = turn.min_tokens.or(self.min_tokens).map(|min| min.min(most)) {
            body.insert("min_tokens".to_owned(), json!(min));
        }
        // Left out where it is off: servers that do not know it refuse the field itself.
        if turn.ignore_eos.unwrap_or(self.ignore_eos) {
            body.insert("ignore_eos".to_owned(), json!(true));
        }
        if let Some(temperature) = self.temperature {
            body.insert("temperature".to_owned(), json!(temperature));
        }
        if let Some(top_p) = self.top_p {
            body.insert("top_p".to_owned(), json!(top_p));
        }
        if self.stream {
            body.insert("stream".to_owned(), json!(true));
            // The responses API tells the counts in its last event.
            if self.endpoint != Endpoint::Responses && (self.include_usage || self.continuous_usage) {
                let mut options = Map::new();
                options.insert("include_usage".to_owned(), json!(true));
                if self.continuous_usage {
                    options.insert("continuous_usage_stats".to_owned(), json!(true));
                }
                body.insert("stream_options".to_owned(), Value::Object(options));
            }
        }
        for (key, value) in &self.extra {
            body.insert(key.clone(), value.clone());
        }
        Value::Object(body).to_string().into_bytes()
    }
}

/// The messages that `prompt` adds to a conversation.
pub fn messages_of(prompt: &Prompt) -> Vec<Message> {
    match prompt {
        Prompt::Text(text) => vec![Message { role: "user".to_owned(), content: text.clone() }],
        Prompt::Messages(messages) => messages.clone(),
        // A chat takes no ids; datasets with ids are refused for it before.
        Prompt::TokenIds(_) => Vec::new(),
    }
}

fn messages(prompt: &Prompt, history: &[Message]) -> Vec<Message> {
    history.iter().cloned().chain(messages_of(prompt)).collect()
}

fn joined(prompt: &Prompt, history: &[Message]) -> String {
    let parts: Vec<String> = messages(prompt, history).into_iter().map(|message| message.content).collect();
    parts.join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(endpoint: Endpoint) -> BodyTemplate {
        BodyTemplate {
            endpoint,
            model: "m".to_owned(),
            stream: true,
            include_usage: true,
            continuous_usage: false,
            max_tokens: Some(8),
            min_tokens: None,
            ignore_eos: false,
            temperature: Some(0.0),
            top_p: None,
            extra: Map::new(),
        }
    }
    fn body(template: &BodyTemplate, turn: &Turn, history: &[Message]) -> Value {
        serde_json::from_slice(&template.render(turn, history)).unwrap()
    }

    #[test]
    fn each_api_gets_its_own_fields() {
        let turn = Turn::new(Prompt::Text("Hi \"you\"\n".to_owned()));
        assert_eq!(
            body(&template(Endpoint::ChatCompletions), &turn, &[]),
            json!({"model": "m", "messages": [{"role": "user", "content": "Hi \"you\"\n"}], "max_tokens": 8, "temperature": 0.0, "stream": true,
                "stream_options": {"include_usage": true}})
        );
        assert_eq!(body(&template(Endpoint::Completions), &turn, &[])["prompt"], "Hi \"you\"\n");
        let responses = body(&template(Endpoint::Responses), &turn, &[]);
        assert_eq!((&responses["input"], &responses["max_output_tokens"]), (&json!("Hi \"you\"\n"), &json!(8)));
        assert!(responses.get("stream_options").is_none() && responses.get("max_tokens").is_none());
        let ids = Turn::new(Prompt::TokenIds(vec![1, 2]));
        assert_eq!(body(&template(Endpoint::Completions), &ids, &[])["prompt"], json!([1, 2]));
    }

    #[test]
    fn a_turn_wins_over_the_settings_and_further_fields_over_all() {
        let mut template = template(Endpoint::ChatCompletions);
        template.ignore_eos = true;
        template.extra.insert("temperature".to_owned(), json!(0.7));
        template.extra.insert("seed".to_owned(), json!(3));
        let turn = Turn {
            max_tokens: Some(3),
            min_tokens: Some(2),
            ignore_eos: Some(false),
            ..Turn::new(Prompt::Text("x".to_owned()))
        };
        let body = body(&template, &turn, &[]);
        assert_eq!(
            (&body["max_tokens"], &body["min_tokens"], &body["temperature"], &body["seed"]),
            (&json!(3), &json!(2), &json!(0.7), &json!(3))
        );
        assert!(body.get("ignore_eos").is_none());
    }

    #[test]
    fn a_later_turn_sends_what_was_said() {
        let history = [
            Message { role: "user".to_owned(), content: "a".to_owned() },
            Message { role: "assistant".to_owned(), content: "b".to_owned() },
        ];
        let turn = Turn::new(Prompt::Text("c".to_owned()));
        let chat = body(&template(Endpoint::ChatCompletions), &turn, &history);
        assert_eq!(chat["messages"].as_array().unwrap().len(), 3);
        assert_eq!(chat["messages"][1]["role"], "assistant");
        assert_eq!(body(&template(Endpoint::Completions), &turn, &history)["prompt"], "a\n\nb\n\nc");
    }
}
