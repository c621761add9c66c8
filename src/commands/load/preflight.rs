//! What is looked at before the first request: descriptors, ports, the server, its models, and whether it answers at all.

use std::time::Duration;

use serde_json::{Value, json};

use crate::config::schema::load::{Endpoint, LoadConfig, StampChoice};
use crate::diagnostics::{ExitStatus, Failure, escape_control};
use crate::load::client::delta::error_text;
use crate::load::client::simple::{NoReply, Question, Reply, ask};
use crate::load::client::target::Target;
use crate::load::client::transport::TransportError;
use crate::net::limits::{OWN_DESCRIPTORS, local_ports, raise_descriptors};
use crate::net::tls::TlsClient;
use crate::record::load::context::TargetRecord;
use crate::runner::load::prepare::most_in_flight;

/// How long a look at the server may take.
const LOOK: Duration = Duration::from_secs(5);
/// How long the first answer may take: a server may still be loading its model.
const FIRST_ANSWER: Duration = Duration::from_mins(1);

/// How long after an answer the server may take to close the connection, for it to count as one that does: on this machine, and elsewhere.
const WATCH: [Duration; 2] = [Duration::from_millis(15), Duration::from_millis(150)];

/// The server as it was found.
#[derive(Debug)]
pub(super) struct Found {
    pub model: String,
    pub models: Vec<String>,
    pub targets: Vec<TargetRecord>,
}

/// Refuses a load that this system has no descriptors or ports for.
pub(super) fn limits(config: &LoadConfig, targets: usize) -> Result<(), Failure> {
    let Some(most) = most_in_flight(config).map(u64::from) else {
        // How many an open loop needs is up to the server; as many as there may be are taken.
        let _ = raise_descriptors(u64::MAX);
        return Ok(());
    };
    let needed = most + OWN_DESCRIPTORS;
    if let Ok(limit) = raise_descriptors(needed)
        && limit < needed
    {
        return Err(Failure::new(
            ExitStatus::CouldNotStart,
            format!("{most} requests in flight need at least {needed} descriptors, and this process may have {limit}"),
        )
        .hint(format!("raise the limit by `ulimit -n {needed}`, or ask for fewer requests in flight")));
    }
    if let Some(ports) = local_ports().map(|ports| ports * targets.max(1) as u64)
        && ports < most
    {
        return Err(Failure::new(
            ExitStatus::CouldNotStart,
            format!("{most} connections to one address need as many local ports, and this system has {ports}"),
        )
        .hint("widen `net.ipv4.ip_local_port_range`, or give several addresses in `base_url`"));
    }
    Ok(())
}

/// Why a server could not be asked.
fn unreachable(target: &Target, error: &NoReply) -> Failure {
    let what = match error {
        NoReply::Transport(TransportError::Io("refused", _)) => format!("nothing listens on {target}"),
        NoReply::Transport(TransportError::Tls(_, message)) => {
            format!("no encrypted connection to {target}: {message}")
        }
        other => format!("{target} does not answer: {other}"),
    };
    let failure = Failure::new(ExitStatus::CouldNotStart, what);
    match error {
        NoReply::Transport(TransportError::Tls("no_tls", _)) => failure.hint("write `http://` in `base_url`"),
        NoReply::Transport(
            TransportError::Tls("no_http2" | "no_protocol", _) | TransportError::Io("no_http2" | "goaway" | "protocol", _),
        ) => failure.hint("use `http=1.1`, or `http=auto` to speak what TLS agrees on"),
        NoReply::Transport(TransportError::Tls(..)) => {
            failure.hint("give the certificate of its authority in `tls.ca_file`, or take any by `tls.insecure=true`, which the run will say")
        }
        NoReply::NotHttp(_) => failure.hint("is it `https`, or another service?"),
        _ => failure.hint("start the server, or correct `base_url`"),
    }
}

/// Looks at every server; the model is asked for where the settings name none.
pub(super) fn look(
    config: &LoadConfig,
    targets: &[Target],
    tls: Option<&TlsClient>,
    lines: &str,
) -> Result<Found, Failure> {
    let mut models = Vec::new();
    let mut records = Vec::new();
    let mut first_status = None;
    for target in targets {
        let path = format!("{}/models", target.base_path);
        let question = Question { method: "GET", path: &path, headers: lines, body: b"", timeout: LOOK, watch: None };
        let asked = patient(&format!("{target} has not listed its models yet"), LOOK, || ask(target, tls, &question));
        let reply = match asked {
            Ok(reply) => Some(reply),
            // A server that is slow to list its models may still serve them.
            Err(NoReply::Timeout) => None,
            Err(error) => return Err(unreachable(target, &error)),
        };
        first_status = first_status.or(reply.as_ref().map(|reply| reply.head.status));
        if let Some(reply) = &reply
            && matches!(reply.head.status, 401 | 403)
        {
            return Err(Failure::new(
                ExitStatus::CouldNotStart,
                format!("{target} refuses this client: status {}{}", reply.head.status, said(reply)),
            )
            .hint("name the variable that holds the key in `api_key_env`"));
        }
        if models.is_empty() {
            models = reply.as_ref().map(|reply| model_ids(&reply.body)).unwrap_or_default();
        }
        records.push(TargetRecord {
            url: target.to_string(),
            http: reply.as_ref().map_or(if target.http2 { "2" } else { "1.1" }, |reply| reply.http).to_owned(),
            server: reply.and_then(|reply| reply.head.server),
        });
    }
    let model = match (&config.model, models.as_slice()) {
        (Some(model), _) => model.clone(),
        (None, [only]) => only.clone(),
        (None, []) => {
            let refused = first_status.filter(|status| *status >= 300);
            let why = refused.map_or_else(String::new, |status| {
                let path = targets.first().map_or("", |target| target.base_path.as_str());
                format!(" (`GET {path}/models`: status {status})")
            });
            let failure = Failure::new(ExitStatus::Usage, format!("no model is given, and the server names none{why}"))
                .hint("give `model=NAME`");
            return Err(if refused.is_some() { failure.hint("or correct the path of `base_url`") } else { failure });
        }
        (None, several) => {
            return Err(Failure::new(ExitStatus::Usage, "no model is given, and the server has several")
                .hint(format!("give one of: {}", list(several))));
        }
    };
    Ok(Found { model, models, targets: records })
}

/// How long nothing is said of waiting.
const PATIENCE: Duration = Duration::from_secs(3);

/// Does what may take `longest`, and says what is waited for if it takes long.
fn patient<T>(what: &str, longest: Duration, work: impl FnOnce() -> T) -> T {
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let text = format!("{what}; it is waited for up to {} s", longest.as_secs());
    let told = std::thread::spawn(move || {
        if waiting.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            tracing::warn!("{text}");
        }
    });
    let result = work();
    drop(done);
    // It has nothing to give, and ends at once.
    let _ = told.join();
    result
}

fn model_ids(body: &[u8]) -> Vec<String> {
    let Ok(value) = serde_json::from_slice::<Value>(body) else { return Vec::new() };
    let ids = value.get("data").and_then(Value::as_array).into_iter().flatten();
    ids.filter_map(|entry| entry.get("id").and_then(Value::as_str).map(str::to_owned)).collect()
}

fn list(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(12).map(|name| format!("`{}`", escape_control(name))).collect();
    if names.len() > shown.len() {
        format!("{} and {} more", shown.join(", "), names.len() - shown.len())
    } else {
        shown.join(", ")
    }
}

/// What the server says of an error.
fn said(reply: &Reply) -> String {
    let text = String::from_utf8_lossy(&reply.body);
    let text = match serde_json::from_str::<Value>(&text) {
        Ok(value) => error_text(&value.get("error").or_else(|| value.get("detail")).unwrap_or(&value).to_string()),
        Err(_) => error_text(text.trim()),
    };
    if text.is_empty() { String::new() } else { format!(": {}", escape_control(&text)) }
}

/// Sends one short request, and refuses to send a thousand that would fail alike: a wrong model, a field the server does not take, a missing key.
///
/// A server that is overloaded, broken or slow is what a load test is for: it is let pass. Says whether the server closed the connection after its
/// answer, without having said that it would.
pub(super) fn probe(
    config: &LoadConfig,
    target: &Target,
    tls: Option<&TlsClient>,
    lines: &str,
    found: &Found,
) -> Result<bool, Failure> {
    let mut body = json!({"model": found.model});
    match config.endpoint {
        Endpoint::ChatCompletions => body["messages"] = json!([{"role": "user", "content": "Hi"}]),
        Endpoint::Completions => body["prompt"] = json!("Hi"),
        Endpoint::Responses => body["input"] = json!("Hi"),
    }
    body[if config.endpoint == Endpoint::Responses { "max_output_tokens" } else { "max_tokens" }] = json!(1);
    if config.stream {
        body["stream"] = json!(true);
        if config.include_usage && config.endpoint != Endpoint::Responses {
            body["stream_options"] = json!({"include_usage": true});
        }
    }
    if config.ignore_eos {
        body["ignore_eos"] = json!(true);
    }
    for (key, value) in &config.extra_body {
        body[key.as_str()] = value.clone();
    }
    let path = format!("{}{}", target.base_path, config.endpoint.path());
    let here = target.addresses.first().is_some_and(|address| address.ip().is_loopback());
    let watch = if here { WATCH[0] } else { WATCH[1] };
    let text = body.to_string();
    let question = Question {
        method: "POST",
        path: &path,
        headers: lines,
        body: text.as_bytes(),
        timeout: FIRST_ANSWER,
        watch: Some(watch),
    };
    let waiting = format!("{target} has not answered a first short request yet");
    let reply = match patient(&waiting, FIRST_ANSWER, || ask(target, tls, &question)) {
        Ok(reply) => reply,
        Err(error @ NoReply::Transport(TransportError::Io("refused", _))) => return Err(unreachable(target, &error)),
        Err(_) => return Ok(false),
    };
    let status = reply.head.status;
    let failure =
        |what: &str| Failure::new(ExitStatus::CouldNotStart, format!("{what}: status {status}{}", said(&reply)));
    match status {
        400 | 422 if config.ignore_eos || !config.extra_body.is_empty() => {
            Err(failure("the server does not take requests like these")
                .hint("a server that refuses unknown fields wants `ignore_eos=false`, and no `extra_body`"))
        }
        400 | 422 => Err(failure("the server does not take requests like these")),
        401 | 403 => {
            Err(failure("the server refuses this client").hint("name the variable that holds the key in `api_key_env`"))
        }
        404 | 405 => {
            let failure = failure(&format!(
                "the server knows no model `{}`, or not `{}`",
                escape_control(&found.model),
                config.endpoint.name()
            ));
            Err(if found.models.is_empty() {
                failure.hint("check `model`, `endpoint` and the path of `base_url`")
            } else {
                failure.hint(format!("its models: {}", list(&found.models)))
            })
        }
        300..400 => {
            let to = reply.head.location.clone().unwrap_or_default();
            Err(failure(&format!("the server sends this client elsewhere, to `{}`", escape_control(&to)))
                .hint("give that address as `base_url`; redirects are not followed, so that no key goes elsewhere"))
        }
        _ => Ok(reply.closed == Some(true)),
    }
}

/// Refuses `client.stamps=kernel` where the kernel takes none.
pub(super) fn stamps(config: &LoadConfig) -> Result<(), Failure> {
    if config.client.stamps == StampChoice::Kernel && !kernel_stamps() {
        return Err(Failure::new(
            ExitStatus::CouldNotStart,
            "`client.stamps=kernel`: this kernel takes no stamps of what arrives",
        )
        .hint("use `client.stamps=auto`"));
    }
    Ok(())
}

fn kernel_stamps() -> bool {
    std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| std::net::TcpStream::connect(listener.local_addr()?))
        .is_ok_and(|stream| crate::net::socket::enable_stamps(&stream))
}
