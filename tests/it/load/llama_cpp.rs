//! Against a real server: llama.cpp's own times of each request beside ours.
//!
//! Runs where `PERFPROF_LLAMA_SERVER` names its `llama-server` (`scripts/peers/build-llama-cpp.sh` builds one; `scripts/test.sh` finds it) and the
//! real model of `scripts/fetch-model.sh smollm2` is there.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Load, chunks_of, command, read};
use crate::sandbox::{Sandbox, finish};

/// `llama-server` with the real model, ready. Dropped, it ends.
struct LlamaServer {
    child: Child,
    url: String,
}

impl LlamaServer {
    /// `None` where there is no binary or no model.
    fn start() -> Option<Self> {
        let Some(binary) = std::env::var_os("PERFPROF_LLAMA_SERVER").map(PathBuf::from) else {
            eprintln!(
                "skipped: PERFPROF_LLAMA_SERVER names no llama-server (scripts/peers/build-llama-cpp.sh builds one)"
            );
            return None;
        };
        let model = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("models/smollm2/SmolLM2-135M-Instruct.Q4_1.gguf");
        if !model.is_file() {
            eprintln!("skipped: no real model (scripts/fetch-model.sh smollm2)");
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(&binary)
            .args(["--host", "127.0.0.1", "--port", &port.to_string(), "--alias", "smollm2"])
            .args(["--parallel", "2", "--ctx-size", "2048", "--threads", "1", "--metrics", "--no-webui"])
            .arg("--model")
            .arg(&model)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let mut server = Self { child, url: format!("http://127.0.0.1:{port}") };
        let deadline = Instant::now() + Duration::from_mins(1);
        while !server.ready(port) {
            assert!(server.child.try_wait().unwrap().is_none(), "llama-server ended before it was ready");
            assert!(Instant::now() < deadline, "llama-server was not ready after a minute");
            std::thread::sleep(Duration::from_millis(100));
        }
        Some(server)
    }

    fn ready(&self, port: u16) -> bool {
        use std::io::{Read as _, Write as _};
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut text = String::new();
        write!(stream, "GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.url).is_ok()
            && stream.read_to_string(&mut text).is_ok()
            && text.starts_with("HTTP/1.1 200")
    }
}

impl Drop for LlamaServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(server: &LlamaServer, settings: &[&str]) -> (Sandbox, Load) {
    let sandbox = Sandbox::new();
    let all =
        [&["model=smollm2", "telemetry.server=auto", "telemetry.interval_s=0.2", "max_tokens=24"], settings].concat();
    let outcome = finish(command(&sandbox, &server.url, &all)).exits(0);
    let load = read(&sandbox, outcome);
    (sandbox, load)
}

#[test]
fn times_and_counts_are_those_llama_cpp_gives_itself() {
    let Some(server) = LlamaServer::start() else { return };
    let (_sandbox, load) = run(&server, &["concurrency=1,2", "requests_per_stage=6", "extra_body={temperature: 0}"]);
    let measured: Vec<_> = load.rows.iter().filter(|row| row["phase"] == "measured").collect();
    assert_eq!((measured.len(), load.ended("ok").len()), (12, 12), "{:?}", load.rows);
    let mut beyond = Vec::new();
    for row in &measured {
        let said = &row["server_timings"];
        let chunks = chunks_of(row);
        let (first, end) = (chunks[0] as f64 / 1e3, row["end_us"].as_f64().unwrap() / 1e3);
        // Counted by the server, and by its generator.
        assert_eq!(row["output_tokens"], said["predicted_n"], "{row}");
        assert_eq!(row["token_source"], "usage");
        // Its prompt is done before the first chunk can be here, and one clock cannot see less than what the other saw.
        assert!(said["prompt_ms"].as_f64().unwrap() <= first + 1.0, "{row}");
        // An end token is counted and timed by it, and never sent: the end of the answer comes right after it.
        beyond.push((end - first - said["predicted_ms"].as_f64().unwrap()).abs());
    }
    // Most within a millisecond; a busy machine may hold a few back.
    beyond.sort_by(f64::total_cmp);
    assert!(beyond[beyond.len() / 2] < 3.0, "{beyond:?}");
    let stage = load.stage();
    for name in ["server_prompt_ms", "server_decode_ms", "beyond_server_ms"] {
        assert_eq!(stage["measures"][name]["n"], json!(6), "{name}");
    }
    // Its metrics are read under their own names.
    assert_eq!(stage["server"]["dialect"], "llama.cpp", "{}", stage["server"]);
    assert_eq!(load.metrics["backend"], "llama.cpp");
}

#[test]
fn every_endpoint_of_llama_cpp_answers_and_a_stream_is_no_must() {
    let Some(server) = LlamaServer::start() else { return };
    for settings in [
        ["endpoint=completions", "stream=true"],
        ["endpoint=responses", "stream=true"],
        ["endpoint=chat.completions", "stream=false"],
        ["endpoint=completions", "stream=false"],
    ] {
        let (_sandbox, load) = run(&server, &[&settings[..], &["concurrency=2"]].concat());
        assert_eq!(load.count("ok"), 4, "{settings:?}");
        for row in load.ended("ok") {
            assert_eq!(row["output_tokens"], row["server_timings"]["predicted_n"], "{row}");
        }
    }
}
