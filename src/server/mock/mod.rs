//! A server of OpenAI's API without a model: answers of an exact length at exact times, with faults on demand, and the truth about what it sent.
//!
//! One thread, epoll, and an absolute schedule: chunk k of an answer is due at `t_request + TTFT + k·ITL`, so what is late once does not make the rest
//! late. `t_request` is when the kernel received the end of the request, where it says so. Real times of sending are kept and told by `/stats`: a client is
//! judged by them, not by what was set. What the server speaks stands in `docs/MOCK.md`.

mod answers;
mod ask;
mod connection;
mod http;
mod ledger;
mod pace;
mod render;
mod server;
mod settings;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use self::server::Server;
pub use self::settings::{Fault, FaultKind, MockSettings, RoleChunk, UsagePolicy};
use crate::net::limits;

/// Connections the server would like to hold; the system may allow fewer.
const CONNECTIONS: u64 = 65_536;
/// How often [`Mock::serve`] looks whether to end.
const LOOK: Duration = Duration::from_millis(50);

/// Why there is no mock server.
#[derive(Debug, thiserror::Error)]
pub enum MockError {
    /// A setting makes no sense.
    #[error("{0}")]
    Settings(String),
    /// The address cannot be listened on.
    #[error("cannot listen on `{address}`")]
    Bind {
        /// Host and port.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The system refuses something else that the server needs.
    #[error("the mock server cannot start")]
    Start(#[source] io::Error),
    /// The server ended by itself.
    #[error("the mock server ended")]
    Ended(#[source] io::Error),
}

/// A running mock server. Dropped, it ends.
#[derive(Debug)]
pub struct Mock {
    address: SocketAddr,
    /// Closing it wakes the server and ends it.
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Mock {
    /// Listens, and serves on a thread of its own.
    ///
    /// # Errors
    /// If a setting makes no sense, the address cannot be listened on, or the system has no descriptor or thread left.
    pub fn start(settings: MockSettings) -> Result<Self, MockError> {
        settings.check().map_err(MockError::Settings)?;
        // Without more descriptors it serves fewer connections; accepting says so when it comes to that.
        let _ = limits::raise_descriptors(CONNECTIONS + limits::OWN_DESCRIPTORS);
        let bind = |source| MockError::Bind { address: format!("{}:{}", settings.host, settings.port), source };
        let addresses: Vec<SocketAddr> =
            (settings.host.as_str(), settings.port).to_socket_addrs().map_err(bind)?.collect();
        let listener = TcpListener::bind(addresses.as_slice()).map_err(bind)?;
        let address = listener.local_addr().map_err(MockError::Start)?;
        let (wake, woken) = UnixStream::pair().map_err(MockError::Start)?;
        let server = Server::new(settings, listener).map_err(MockError::Start)?;
        let thread = std::thread::Builder::new()
            .name("mock".to_owned())
            .spawn(move || server.run(&woken))
            .map_err(MockError::Start)?;
        Ok(Self { address, wake: Some(wake), thread: Some(thread) })
    }

    /// Where it listens, with the port it got.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL, without `/v1`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the server; streams that are open end with it.
    pub fn stop(mut self) {
        // What went wrong before is told by `serve`.
        let _ = self.end();
    }

    /// Waits until `interrupted` says so, and ends the server.
    ///
    /// # Errors
    /// If the server ends by itself.
    pub fn serve(mut self, interrupted: &dyn Fn() -> bool) -> Result<(), MockError> {
        while !interrupted() && self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            std::thread::sleep(LOOK);
        }
        self.end().map_err(MockError::Ended)
    }

    fn end(&mut self) -> io::Result<()> {
        self.wake = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(io::Error::other("its thread panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Mock {
    fn drop(&mut self) {
        let _ = self.end();
    }
}
