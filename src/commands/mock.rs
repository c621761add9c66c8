//! `perfprof mock`: a server without a model, for tests of clients.

use std::io::ErrorKind;

use super::interrupt::Interrupt;
use super::{Context, print_answer};
use crate::diagnostics::{ExitStatus, Failure};
use crate::server::mock::{Mock, MockError, MockSettings};

/// Runs `perfprof mock`: prints the base URL, and serves until it is interrupted.
pub fn run(settings: MockSettings, context: &Context) -> anyhow::Result<ExitStatus> {
    let interrupt = Interrupt::install()
        .map_err(|error| Failure::new(ExitStatus::CouldNotStart, "cannot handle signals").because(error))?;
    let mock = Mock::start(settings).map_err(failure)?;
    let url = mock.url();
    let answer = if context.json { serde_json::json!({ "url": url }).to_string() } else { url };
    print_answer(&(answer + "\n"))?;
    mock.serve(&|| interrupt.asked()).map_err(failure)?;
    // Being interrupted is how it is meant to end.
    Ok(ExitStatus::Success)
}

fn failure(error: MockError) -> Failure {
    let message = error.to_string();
    match error {
        MockError::Settings(_) => Failure::new(ExitStatus::Usage, message),
        MockError::Bind { source, .. } => {
            let hint = match source.kind() {
                ErrorKind::AddrInUse => "something listens there already; `--port 0` takes a free port",
                ErrorKind::PermissionDenied => "ports below 1024 need privileges; `--port 0` takes a free port",
                _ => "`--host` must be an address of this machine",
            };
            Failure::new(ExitStatus::CouldNotStart, message).because(source).hint(hint)
        }
        MockError::Start(source) | MockError::Ended(source) => {
            Failure::new(ExitStatus::CouldNotStart, message).because(source)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_ends_with_2_and_a_hint_and_a_wrong_setting_with_1() {
        let mock = Mock::start(MockSettings::default()).unwrap();
        let port = mock.address().port();
        let taken = failure(Mock::start(MockSettings { port, ..MockSettings::default() }).unwrap_err());
        assert_eq!(taken.status().code(), 2);
        assert!(taken.to_string().contains(&format!("127.0.0.1:{port}")), "{taken}");
        assert!(taken.hints()[0].contains("--port 0"), "{:?}", taken.hints());
        let wrong = failure(Mock::start(MockSettings { ttft_ms: -1.0, ..MockSettings::default() }).unwrap_err());
        assert_eq!((wrong.status().code(), wrong.to_string().contains("`ttft_ms` is -1")), (1, true), "{wrong}");
    }
}
