//! A server of HTTP/2 of a few lines, for what the library's own server never does: it names, in GOAWAY, a request that others stand behind.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const BODY: &str =
    "data: {\"choices\": [{\"delta\": {\"content\": \"x\"}, \"finish_reason\": \"stop\"}]}\n\ndata: [DONE]\n\n";

pub(super) struct Server {
    address: SocketAddr,
}

impl Server {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicBool::new(false));
        std::thread::spawn(move || {
            while let Ok((socket, _)) = listener.accept() {
                let left = Arc::clone(&left);
                // A client that goes ends its own connection only.
                std::thread::spawn(move || serve(socket, &left));
            }
        });
        Self { address }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

fn answer(stream: u32) -> Vec<u8> {
    // `:status: 200` is number 8 of the static table (RFC 7541).
    [frame(HEADERS, END_HEADERS, stream, &[0x88]), frame(DATA, END_STREAM, stream, BODY.as_bytes())].concat()
}

/// Answers each request when it is whole. Two of the test on one connection are waited for, once: the first is answered, the second never begun.
fn serve(mut socket: TcpStream, left: &AtomicBool) -> io::Result<()> {
    let mut greeting = [0; 24];
    socket.read_exact(&mut greeting)?;
    socket.write_all(&frame(SETTINGS, 0, 0, &[]))?;
    let mut held = None;
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        socket.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match (head[3], head[4]) {
            (SETTINGS, 0) => socket.write_all(&frame(SETTINGS, ACK, 0, &[]))?,
            (HEADERS | DATA, flags) if flags & END_STREAM != 0 => {
                // A look at the server has no body, or a greeting in it.
                let is_look = head[3] == HEADERS || payload.windows(4).any(|part| part == b"\"Hi\"");
                match held.take() {
                    _ if is_look || left.load(Ordering::Relaxed) => socket.write_all(&answer(stream))?,
                    None => held = Some(stream),
                    Some(first) => {
                        left.store(true, Ordering::Relaxed);
                        let named = [u32::to_be_bytes(first), u32::to_be_bytes(0)].concat();
                        socket.write_all(&frame(GOAWAY, 0, 0, &named))?;
                        socket.write_all(&answer(first))?;
                    }
                }
            }
            _ => {}
        }
    }
}
