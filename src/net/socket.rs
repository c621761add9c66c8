//! Non-blocking TCP sockets, and when the kernel received what is read from them.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

/// What one read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes; 0 is the end of the stream.
    pub bytes: usize,
    /// When the kernel received the last of them, in nanoseconds of the wall clock; `None` where it did not say.
    pub wall_ns: Option<u64>,
}

/// Begins to connect to `address`. The socket is writable when connecting has ended; [`connected`] then says how.
///
/// # Errors
/// If the address cannot be reached at all, or no descriptor or local port is left.
pub fn begin_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: no memory is involved; the descriptor is checked below.
    let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has just made this descriptor, and nobody else owns it.
    let stream = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    stream.set_nodelay(true)?;
    let result = match address {
        SocketAddr::V4(address) => {
            // SAFETY: all-zero is a valid `sockaddr_in`.
            let mut raw: libc::sockaddr_in = unsafe { zeroed() };
            raw.sin_family = libc::AF_INET as libc::sa_family_t;
            raw.sin_port = address.port().to_be();
            raw.sin_addr.s_addr = u32::from_ne_bytes(address.ip().octets());
            // SAFETY: `raw` is a `sockaddr_in` of the length given and outlives the call.
            unsafe { libc::connect(fd, (&raw const raw).cast(), size_of::<libc::sockaddr_in>() as libc::socklen_t) }
        }
        SocketAddr::V6(address) => {
            // SAFETY: all-zero is a valid `sockaddr_in6`.
            let mut raw: libc::sockaddr_in6 = unsafe { zeroed() };
            raw.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            raw.sin6_port = address.port().to_be();
            raw.sin6_addr.s6_addr = address.ip().octets();
            raw.sin6_scope_id = address.scope_id();
            // SAFETY: `raw` is a `sockaddr_in6` of the length given and outlives the call.
            unsafe { libc::connect(fd, (&raw const raw).cast(), size_of::<libc::sockaddr_in6>() as libc::socklen_t) }
        }
    };
    if result < 0 {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EINPROGRESS) {
            return Err(error);
        }
    }
    Ok(stream)
}

/// How connecting ended.
///
/// # Errors
/// The reason if it failed.
pub fn connected(stream: &TcpStream) -> io::Result<()> {
    stream.take_error()?.map_or(Ok(()), Err)
}

/// Asks the kernel to note when data arrive. Where it cannot, [`receive`] gives no time.
pub fn enable_stamps(stream: &TcpStream) -> bool {
    let on: libc::c_int = 1;
    // SAFETY: the option takes one `int`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    result == 0
}

/// Lets closing `stream` reset the connection instead of ending it in order.
///
/// # Errors
/// Those of `setsockopt`.
pub fn reset_on_close(stream: &TcpStream) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the option takes one `linger`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LINGER,
            (&raw const linger).cast(),
            size_of::<libc::linger>() as libc::socklen_t,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Room for the control messages of one read.
#[repr(align(8))]
struct Control([u8; 64]);

/// Reads into `buffer`, and says when the kernel received the last byte of it.
///
/// # Errors
/// Those of `recvmsg`; `WouldBlock` if there is nothing.
pub fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = Control([0; 64]);
    // SAFETY: all-zero is a valid `msghdr`.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len() as _;
    // SAFETY: the message describes `buffer` and `control` with their lengths; both outlive the call.
    let bytes = unsafe { libc::recvmsg(fd, &raw mut message, 0) };
    if bytes < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut wall_ns = None;
    // SAFETY: the kernel has filled `message`, and the macros walk its control messages within their length.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_TIMESTAMPNS {
                let time: libc::timespec = std::ptr::read_unaligned(libc::CMSG_DATA(header).cast());
                if time.tv_sec > 0 {
                    wall_ns = Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64);
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(Received { bytes: bytes as usize, wall_ns })
}

/// Writes as much of `bytes` as there is room for; a connection that is gone is an error and no signal.
///
/// # Errors
/// Those of `send`; `WouldBlock` if there is no room.
pub fn send(fd: RawFd, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of `bytes`, which outlives the call.
    let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), libc::MSG_NOSIGNAL) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::net::clock::{from_wall, now_ns, wall_ns};
    use crate::net::poller::{Interest, Poller};

    /// A connected pair: the client's side is ours.
    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = begin_connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let mut poller = Poller::new(1).unwrap();
        poller.add(client.as_raw_fd(), 0, Interest::WRITE).unwrap();
        poller.wait(None, &mut Vec::new()).unwrap();
        connected(&client).unwrap();
        (client, server)
    }

    #[test]
    fn what_is_read_carries_the_time_of_its_arrival_and_not_of_the_read() {
        let (client, server) = pair();
        if !enable_stamps(&client) {
            eprintln!("skipped: this kernel takes no stamps of arrival");
            return;
        }
        // The kernel begins to take stamps a moment after the first socket asks for them.
        std::thread::sleep(std::time::Duration::from_millis(20));
        let before = now_ns();
        assert_eq!(send(server.as_raw_fd(), b"token").unwrap(), 5);
        let after = now_ns();
        std::thread::sleep(std::time::Duration::from_millis(30));
        let mut buffer = [0; 16];
        let got = receive(client.as_raw_fd(), &mut buffer).unwrap();
        let (now, wall) = (now_ns(), wall_ns());
        assert_eq!(&buffer[..got.bytes], b"token");
        let Some(stamp) = got.wall_ns else {
            eprintln!("skipped: this kernel gives no stamps of arrival for TCP");
            return;
        };
        let at = from_wall(stamp, now, wall, before).expect("the wall clock does not step in a test");
        // On loopback data arrive while `send` runs.
        assert!(at >= before && at <= after + 5_000_000, "{before} {at} {after}");
        assert!(now - at >= 25_000_000, "the stamp is that of the arrival");
    }

    #[test]
    fn nothing_to_read_would_block_and_the_end_is_zero_bytes() {
        let (client, server) = pair();
        let mut buffer = [0; 4];
        assert_eq!(receive(client.as_raw_fd(), &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(server);
        loop {
            match receive(client.as_raw_fd(), &mut buffer) {
                Ok(got) => break assert_eq!(got.bytes, 0),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }

    #[test]
    fn a_closed_port_refuses() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let refused = begin_connect(address).and_then(|client| {
            let mut poller = Poller::new(1)?;
            poller.add(client.as_raw_fd(), 0, Interest::WRITE)?;
            poller.wait(None, &mut Vec::new())?;
            connected(&client)
        });
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_reset_is_told_from_an_end() {
        let (client, server) = pair();
        reset_on_close(&server).unwrap();
        drop(server);
        let mut buffer = [0; 4];
        let error = loop {
            match receive(client.as_raw_fd(), &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => break other.unwrap_err(),
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
