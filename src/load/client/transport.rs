//! A connection: a socket, encrypted or not, that never blocks.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, RawFd};

use rustls::ClientConnection;

use crate::net::socket;
use crate::net::tls;

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// So many bytes of plain text are in the buffer (0: only the encryption's own came), and when the kernel received them on the wall clock.
    Data {
        /// Bytes.
        bytes: usize,
        /// Stamp of the kernel.
        wall_ns: Option<u64>,
        /// More is there without another read of the socket.
        more: bool,
    },
    /// The other side has ended the connection.
    End,
    /// Nothing is there.
    Nothing,
}

/// Why a connection failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportError {
    /// The system says so: a word, and its sentence.
    Io(&'static str, String),
    /// The encryption says so.
    Tls(&'static str, String),
}

impl TransportError {
    /// From what the system says.
    pub fn io(error: &io::Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => "descriptors",
            Some(libc::EADDRNOTAVAIL) => "ports",
            Some(libc::ENOMEM | libc::ENOBUFS) => "memory",
            _ => match error.kind() {
                io::ErrorKind::ConnectionRefused => "refused",
                io::ErrorKind::ConnectionReset => "reset",
                io::ErrorKind::ConnectionAborted => "aborted",
                io::ErrorKind::BrokenPipe => "broken_pipe",
                io::ErrorKind::TimedOut => "timed_out",
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
                io::ErrorKind::UnexpectedEof => "closed",
                _ => "io",
            },
        };
        Self::Io(kind, error.to_string())
    }

    /// Whether this client is to blame, and not the server or the network.
    pub fn is_ours(&self) -> bool {
        matches!(self, Self::Io("descriptors" | "ports" | "memory" | "header", _))
    }
}

/// A socket, encrypted or not.
#[derive(Debug)]
pub struct Transport {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    /// Whether the kernel stamps what arrives.
    pub stamped: bool,
}

impl Transport {
    /// Begins to connect.
    ///
    /// # Errors
    /// If the system refuses at once.
    pub fn connect(address: SocketAddr, tls: Option<ClientConnection>, stamps: bool) -> Result<Self, TransportError> {
        let stream = socket::begin_connect(address).map_err(|error| TransportError::io(&error))?;
        let stamped = stamps && socket::enable_stamps(&stream);
        Ok(Self { stream, tls: tls.map(Box::new), stamped })
    }

    /// The descriptor.
    pub fn fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }

    /// How connecting ended.
    ///
    /// # Errors
    /// If it failed.
    pub fn connected(&self) -> Result<(), TransportError> {
        socket::connected(&self.stream).map_err(|error| TransportError::io(&error))
    }

    /// Whether the encryption still has to be agreed on.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether TLS agreed on HTTP/2.
    pub fn agreed_http2(&self) -> bool {
        self.tls.as_ref().and_then(|tls| tls.alpn_protocol()).is_some_and(|protocol| protocol == b"h2")
    }

    /// Whether there is something of the encryption's own to be sent.
    pub fn wants_write(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Reads once into `plain`; `scratch` takes what is encrypted.
    ///
    /// # Errors
    /// If the connection or its encryption failed.
    pub fn read(&mut self, plain: &mut [u8], scratch: &mut [u8]) -> Result<Read, TransportError> {
        let fd = self.stream.as_raw_fd();
        let Some(tls) = &mut self.tls else {
            return match receive(fd, plain, self.stamped) {
                Ok(received) if received.bytes == 0 => Ok(Read::End),
                Ok(received) => Ok(Read::Data { bytes: received.bytes, wall_ns: received.wall_ns, more: false }),
                Err(error) if is_retry(&error) => Ok(Read::Nothing),
                Err(error) => Err(TransportError::io(&error)),
            };
        };
        let received = match receive(fd, scratch, self.stamped) {
            Ok(received) => received,
            Err(error) if is_retry(&error) => return Ok(Read::Nothing),
            Err(error) => return Err(TransportError::io(&error)),
        };
        if received.bytes == 0 {
            return Ok(Read::End);
        }
        let mut encrypted = &scratch[..received.bytes];
        let mut bytes = 0;
        while !encrypted.is_empty() {
            tls.read_tls(&mut encrypted).map_err(|error| TransportError::io(&error))?;
            if let Err(error) = tls.process_new_packets() {
                // The alert tells the server why; that it may not go out changes nothing.
                let _ = tls.write_tls(&mut &self.stream);
                let (kind, message) = tls::reason(&error);
                return Err(TransportError::Tls(kind, message));
            }
            // Room is made before more is taken in.
            while bytes < plain.len() {
                match tls.reader().read(&mut plain[bytes..]) {
                    Ok(0) => break,
                    Ok(read) => bytes += read,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(TransportError::io(&error)),
                }
            }
        }
        Ok(Read::Data { bytes, wall_ns: received.wall_ns, more: bytes == plain.len() })
    }

    /// Plain text that was decrypted and not handed out yet.
    ///
    /// # Errors
    /// If the encryption failed.
    pub fn read_more(&mut self, plain: &mut [u8]) -> Result<usize, TransportError> {
        let Some(tls) = &mut self.tls else { return Ok(0) };
        match tls.reader().read(plain) {
            Ok(read) => Ok(read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(TransportError::io(&error)),
        }
    }

    /// Writes as much of `bytes` as there is room for.
    ///
    /// # Errors
    /// If the connection failed.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, TransportError> {
        if self.tls.is_none() {
            return match socket::send(self.stream.as_raw_fd(), bytes) {
                Ok(sent) => Ok(sent),
                Err(error) if is_retry(&error) => Ok(0),
                Err(error) => Err(TransportError::io(&error)),
            };
        }
        let taken = match &mut self.tls {
            Some(tls) => tls.writer().write(bytes).map_err(|error| TransportError::io(&error))?,
            None => 0,
        };
        self.flush()?;
        Ok(taken)
    }

    /// Sends what the encryption has ready.
    ///
    /// # Errors
    /// If the connection failed.
    pub fn flush(&mut self) -> Result<(), TransportError> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.wants_write() {
            match tls.write_tls(&mut &self.stream) {
                Ok(_) => {}
                Err(error) if is_retry(&error) => return Ok(()),
                Err(error) => return Err(TransportError::io(&error)),
            }
        }
        Ok(())
    }
}

fn receive(fd: RawFd, buffer: &mut [u8], stamped: bool) -> io::Result<socket::Received> {
    if stamped {
        return socket::receive(fd, buffer);
    }
    // Without stamps the plain call is a little cheaper.
    // SAFETY: the pointer and the length are those of `buffer`, which outlives the call.
    let bytes = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    if bytes < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(socket::Received { bytes: bytes as usize, wall_ns: None })
    }
}

fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
