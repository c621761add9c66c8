//! Asks a model behind an OpenAI-compatible API for a text.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::load::credentials::variable;
use crate::diagnostics::{ExitStatus, Failure};
use crate::load::client::delta;
use crate::load::client::simple::{Question, ask};
use crate::load::client::target::Target;
use crate::net::tls::{Offer, TlsClient};

/// A model may write for minutes.
const TIMEOUT: Duration = Duration::from_mins(10);
/// Written with some freedom: the same prompts each time would be no set of prompts.
const TEMPERATURE: f64 = 0.8;
/// Room for a set of prompts.
const MAX_TOKENS: u32 = 16_384;

/// A model that can be asked.
pub(super) struct Model {
    target: Target,
    tls: Option<TlsClient>,
    headers: String,
    name: String,
}

impl Model {
    /// The model `name` behind `base_url`; the key is in the variable `api_key_env`.
    pub(super) fn new(base_url: &str, name: &str, api_key_env: Option<&str>) -> Result<Self, Failure> {
        let target = Target::parse(base_url)
            .and_then(Target::resolve)
            .map_err(|error| Failure::new(ExitStatus::Usage, error.to_string()).hint(error.hint()))?;
        let tls = if target.tls {
            let tls = TlsClient::new(None, false, Offer::Http1);
            Some(tls.map_err(|error| Failure::new(ExitStatus::CouldNotStart, error.to_string()))?)
        } else {
            None
        };
        let headers = match api_key_env {
            None => String::new(),
            Some(variable_name) => {
                let key = variable(variable_name, Path::new(".env")).ok_or_else(|| {
                    Failure::new(
                        ExitStatus::Usage,
                        format!("the variable `{variable_name}` is neither in the environment nor in `.env`"),
                    )
                    .hint(format!("export {variable_name}=…"))
                })?;
                if key.chars().any(char::is_control) {
                    let message = format!("the value of `{variable_name}` has a line break in it and is no key");
                    return Err(Failure::new(ExitStatus::Usage, message));
                }
                format!("Authorization: Bearer {key}\r\n")
            }
        };
        Ok(Self { target, tls, headers, name: name.to_owned() })
    }

    /// Its answer to `text`, or why there is none.
    pub(super) fn ask(&self, text: &str) -> Result<String, String> {
        let body = json!({
            "model": self.name,
            "messages": [{"role": "user", "content": text}],
            "temperature": TEMPERATURE,
            "max_tokens": MAX_TOKENS,
        })
        .to_string();
        let path = format!("{}/chat/completions", self.target.base_path);
        let question = Question {
            method: "POST",
            path: &path,
            headers: &self.headers,
            body: body.as_bytes(),
            timeout: TIMEOUT,
            watch: None,
        };
        let reply = ask(&self.target, self.tls.as_ref(), &question).map_err(|error| error.to_string())?;
        let (mut answer, mut reasoning) = (String::new(), String::new());
        let said = delta::read(&reply.body, &mut answer, &mut reasoning);
        match (reply.head.status, said) {
            (200, Ok(said)) => match said.error {
                Some(error) => Err(error),
                None => Ok(answer),
            },
            (200, Err(bad)) => Err(bad.reason),
            (status, _) => {
                let text = String::from_utf8_lossy(&reply.body);
                let value = serde_json::from_str::<Value>(&text).unwrap_or(Value::Null);
                let inner = value.get("error").cloned().unwrap_or(Value::String(text.into_owned()));
                Err(format!("status {status}: {}", delta::error_text(&inner.to_string())))
            }
        }
    }
}
