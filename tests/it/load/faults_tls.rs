//! Encryption that cannot be agreed on: why is told in words, nothing is sent in the clear, and nothing is waved through unasked.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;

use super::answers::{good, stream_bytes, tokens};
use super::fault_server::{Builder, FaultServer, Step, Tls};
use super::{command, end_of, load, message_of, runs};
use crate::sandbox::{Sandbox, finish, json_of, text_of};

/// A certificate nobody else has signed, and the configuration of a server that shows it.
struct Certificate {
    pem: String,
    server: Arc<ServerConfig>,
}

impl Certificate {
    fn new(names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        // Who has signed a certificate is told by a name; each is its own authority.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let name = format!("authority {}", NUMBER.fetch_add(1, Ordering::SeqCst));
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der())),
            )
            .unwrap();
        Self { pem: certificate.pem(), server: Arc::new(server) }
    }
    fn good() -> Self {
        Self::new(&["127.0.0.1", "localhost"], |_| ())
    }
    /// As a file to be trusted.
    fn trusted(&self, sandbox: &Sandbox) -> String {
        let path: PathBuf = sandbox.write("ca.pem", &self.pem);
        format!("tls.ca_file={}", path.display())
    }
    fn serve(&self) -> Builder {
        let server = Arc::clone(&self.server);
        FaultServer::builder().tls(move |_| Tls::With(Arc::clone(&server)))
    }
}

fn https(server: &FaultServer) -> String {
    format!("https://{}", server.address())
}

// L32, and L11 within records of TLS
#[test]
fn a_certificate_that_is_trusted_is_spoken_to_and_pieces_do_not_matter() {
    let certificate = Certificate::good();
    let server = certificate.serve().start(|seen| match seen.prompt() {
        0 => stream_bytes(&tokens(6)).into_iter().map(|byte| Step::Send(vec![byte])).collect(),
        // More than a record, and more than a read of the client.
        1 => vec![Step::Send(stream_bytes(&tokens(3000)))],
        _ => good(6),
    });
    let sandbox = Sandbox::new();
    let settings = [certificate.trusted(&sandbox), "concurrency=2".to_owned(), "connections=per_request".to_owned()];
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let run = load(&sandbox, &https(&server), 0, &settings);
    for (prompt, output) in [(0, 6), (1, 3000), (2, 6), (3, 6)] {
        let row = run.row(prompt);
        assert_eq!((end_of(row), &row["output_tokens"]), (("ok", ""), &json!(output)), "{row}");
        assert_eq!(row["chunks"]["at_us"].as_array().unwrap().len(), output, "{row}");
        assert!(row["connect_ms"].as_f64().unwrap() > 0.0, "{row}");
    }
    assert!(run.finding("tls_insecure").is_none());
}

// L32
#[test]
fn a_certificate_that_is_not_to_be_trusted_ends_the_test_before_it_begins() {
    let (good_one, stranger) = (Certificate::good(), Certificate::good());
    let expired = Certificate::new(&["127.0.0.1"], |params| {
        params.not_before = date_time_ymd(2019, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    let early = Certificate::new(&["127.0.0.1"], |params| params.not_before = date_time_ymd(2090, 1, 1));
    let elsewhere = Certificate::new(&["model.example"], |_| ());
    for (shown, trusted, words) in [
        (&good_one, &stranger, "is not signed by anyone who is trusted"),
        (&expired, &expired, "has expired"),
        (&early, &early, "is not valid yet"),
        (&elsewhere, &elsewhere, "is for another name"),
    ] {
        let server = shown.serve().start(|_| good(1));
        let sandbox = Sandbox::new();
        let outcome = finish(command(&sandbox, &https(&server), &[&trusted.trusted(&sandbox)])).exits(2);
        outcome.says(&["no encrypted connection to https://", words]).hints("tls.insecure=true");
        assert!(server.all().is_empty() && runs(&sandbox).is_empty(), "nothing was sent: {words}");
    }
    // Without a file, nobody this machine trusts has signed it.
    let server = good_one.serve().start(|_| good(1));
    let sandbox = Sandbox::new();
    finish(command(&sandbox, &https(&server), &[])).exits(2);
    assert!(server.all().is_empty() && runs(&sandbox).is_empty());
}

// L32
#[test]
fn any_certificate_is_taken_only_where_asked_and_the_run_says_so() {
    let expired = Certificate::new(&["model.example"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let server = expired.serve().start(|_| good(3));
    let sandbox = Sandbox::new();
    let run = load(&sandbox, &https(&server), 0, &["tls.insecure=true"]);
    assert_eq!(run.count("ok"), 4);
    assert_eq!(run.finding("tls_insecure").unwrap()["severity"], "warn");
    let argv = json_of(&run.run, "run.json")["argv"].clone();
    assert!(argv.as_array().unwrap().contains(&json!("tls.insecure=true")), "{argv}");
    assert!(text_of(&run.run, "report.md").contains("tls.insecure=true"));
}

// L32
#[test]
fn the_wrong_scheme_is_named() {
    let server = FaultServer::start(|_| good(1));
    let sandbox = Sandbox::new();
    let outcome = finish(command(&sandbox, &https(&server), &["tls.insecure=true"])).exits(2);
    outcome.says(&["does not speak TLS"]).hints("write `http://`");

    let server = Certificate::good().serve().start(|_| good(1));
    let outcome = finish(command(&sandbox, &server.url(), &[])).exits(2);
    outcome.says(&["is no HTTP"]).hints("is it `https`");
    assert!(runs(&sandbox).is_empty());
}

// L32
#[test]
fn a_handshake_that_fails_during_the_test_fails_its_request_alone() {
    let certificate = Certificate::good();
    let expired = Certificate::new(&["127.0.0.1"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let (first, later) = (Arc::clone(&certificate.server), Arc::clone(&expired.server));
    // Two connections come before the test, and each of its requests has one.
    let server = FaultServer::builder()
        .tls(move |connection| match connection {
            4 => Tls::With(Arc::clone(&later)),
            5 => Tls::Silent,
            6 => Tls::Plain,
            _ => Tls::With(Arc::clone(&first)),
        })
        .start(|_| good(3));
    let sandbox = Sandbox::new();
    // The expired one is a stranger besides, but that it has expired is what is checked first, or not: either is told.
    let settings =
        [&certificate.trusted(&sandbox), "requests_per_stage=6", "connections=per_request", "timeout.connect_s=0.5"];
    let begin = Instant::now();
    let run = load(&sandbox, &https(&server), 0, &settings);
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert_eq!((run.count("ok"), run.count("tls_error"), run.count("timeout_connect")), (3, 2, 1));
    let row = run.row(1);
    assert!(end_of(row) == ("tls_error", "unknown_issuer") || end_of(row) == ("tls_error", "expired"), "{row}");
    assert!(message_of(row).contains("certificate"), "{row}");
    assert_eq!(end_of(run.row(2)), ("timeout_connect", "timeout"));
    assert_eq!(end_of(run.row(3)), ("tls_error", "no_tls"), "{}", run.row(3));
    assert!([1, 2, 3].iter().all(|prompt| run.row(*prompt)["sent_ns"].is_null()));
    assert_eq!(run.measure("connect_ms", "n"), 3);
}

#[test]
fn connections_made_ahead_outlive_the_tickets_that_follow_their_handshake() {
    let certificate = Certificate::good();
    let config = Arc::clone(&certificate.server);
    let server = FaultServer::builder().tls(move |_| Tls::With(Arc::clone(&config))).start(|_| good(3));
    let sandbox = Sandbox::new();
    let settings = [&certificate.trusted(&sandbox), "concurrency=6", "requests_per_stage=24", "http=1.1", "warmup=0"];
    let run = load(&sandbox, &https(&server), 0, &settings);
    assert_eq!(run.count("ok"), 24);
    assert_eq!(run.stage()["client"]["connects"], 6, "one for each user, and none again");
    assert_eq!(run.measure("connect_ms", "n"), 0, "no request waited for one");
}
