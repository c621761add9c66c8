//! Which sockets are ready: epoll(7), with timeouts in nanoseconds.

use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// What a socket is watched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Data, or the end of it.
    pub read: bool,
    /// Room to write, or the end of connecting.
    pub write: bool,
}

impl Interest {
    /// Data only.
    pub const READ: Self = Self { read: true, write: false };
    /// Room to write only.
    pub const WRITE: Self = Self { read: false, write: true };
    /// Both.
    pub const BOTH: Self = Self { read: true, write: true };

    fn bits(self) -> u32 {
        let mut bits = libc::EPOLLRDHUP;
        if self.read {
            bits |= libc::EPOLLIN;
        }
        if self.write {
            bits |= libc::EPOLLOUT;
        }
        bits as u32
    }
}

/// One socket that is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// What the socket was registered under.
    pub token: u64,
    /// There is something to read: data, the end, or an error.
    pub readable: bool,
    /// There is room to write, or connecting has ended.
    pub writable: bool,
    /// The other side has ended or reset the connection; data may still have to be read.
    pub hung_up: bool,
}

/// Watches sockets of one thread. Level-triggered: what is not read is reported again.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    buffer: Vec<libc::epoll_event>,
}

/// Whether the kernel has `epoll_pwait2` (Linux 5.11); without it timeouts are rounded up to milliseconds.
static FINE_TIMEOUTS: AtomicBool = AtomicBool::new(true);

impl Poller {
    /// A poller that reports up to `events` sockets at once.
    ///
    /// # Errors
    /// If the system has no descriptor left.
    pub fn new(events: usize) -> io::Result<Self> {
        // SAFETY: no memory is involved; the descriptor is checked below.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has just made this descriptor, and nobody else owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { epoll, buffer: vec![libc::epoll_event { events: 0, u64: 0 }; events.max(1)] })
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest.bits(), u64: token };
        // SAFETY: `event` outlives the call, which copies it.
        let result = unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Begins to watch `fd`.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn add(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, token, interest)
    }

    /// Watches `fd` for something else.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn change(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, token, interest)
    }

    /// Forgets `fd`. Closing a descriptor does so too, unless it was duplicated.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn remove(&self, fd: RawFd) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Interest::READ)
    }

    /// Waits until a socket is ready or `timeout_ns` is over (`None` waits for ever), and puts what is ready into `ready`.
    ///
    /// A signal ends the wait with nothing ready.
    ///
    /// # Errors
    /// Those of `epoll_wait`, other than an interruption.
    pub fn wait(&mut self, timeout_ns: Option<u64>, ready: &mut Vec<Ready>) -> io::Result<()> {
        ready.clear();
        let count = self.wait_events(timeout_ns)?;
        for event in &self.buffer[..count] {
            let (bits, token) = (event.events as libc::c_int, event.u64);
            let hung_up = bits & (libc::EPOLLHUP | libc::EPOLLRDHUP | libc::EPOLLERR) != 0;
            ready.push(Ready {
                token,
                readable: bits & libc::EPOLLIN != 0 || hung_up,
                writable: bits & libc::EPOLLOUT != 0 || bits & libc::EPOLLERR != 0,
                hung_up,
            });
        }
        Ok(())
    }

    fn wait_events(&mut self, timeout_ns: Option<u64>) -> io::Result<usize> {
        let (epoll, room) = (self.epoll.as_raw_fd(), self.buffer.len() as libc::c_int);
        if FINE_TIMEOUTS.load(Ordering::Relaxed) {
            let time = timeout_ns.map(|ns| libc::timespec {
                tv_sec: (ns / 1_000_000_000) as libc::time_t,
                tv_nsec: (ns % 1_000_000_000) as libc::c_long,
            });
            let pointer = time.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // SAFETY: the buffer has `room` events, the timeout and no signal mask are as epoll_pwait2(2) wants them; all outlive the call.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    epoll,
                    self.buffer.as_mut_ptr(),
                    room,
                    pointer,
                    std::ptr::null::<libc::sigset_t>(),
                    0usize,
                )
            };
            if count >= 0 {
                return Ok(count as usize);
            }
            let error = io::Error::last_os_error();
            match error.raw_os_error() {
                Some(libc::EINTR) => return Ok(0),
                // An old kernel, or a sandbox that knows only the old call.
                Some(libc::ENOSYS | libc::EPERM) => FINE_TIMEOUTS.store(false, Ordering::Relaxed),
                _ => return Err(error),
            }
        }
        let ms = timeout_ns.map_or(-1, |ns| ns.div_ceil(1_000_000).min(i32::MAX as u64) as libc::c_int);
        // SAFETY: the buffer has `room` events and outlives the call.
        let count = unsafe { libc::epoll_wait(epoll, self.buffer.as_mut_ptr(), room, ms) };
        if count >= 0 {
            return Ok(count as usize);
        }
        let error = io::Error::last_os_error();
        if error.kind() == io::ErrorKind::Interrupted { Ok(0) } else { Err(error) }
    }
}

/// Lets timeouts of this thread end when they are due: Linux lets them slip by 50 µs to save wake-ups.
pub fn no_timer_slack() {
    // SAFETY: the call takes two numbers and changes this thread only.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::net::clock::now_ns;

    #[test]
    fn a_socket_is_ready_when_there_is_data_and_a_wait_ends_when_it_is_due() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        let mut poller = Poller::new(8).unwrap();
        let mut ready = Vec::new();
        poller.add(server.as_raw_fd(), 7, Interest::READ).unwrap();
        let begin = now_ns();
        poller.wait(Some(2_000_000), &mut ready).unwrap();
        assert!(ready.is_empty());
        assert!(now_ns() - begin >= 2_000_000);
        client.write_all(b"x").unwrap();
        poller.wait(None, &mut ready).unwrap();
        assert_eq!(ready, [Ready { token: 7, readable: true, writable: false, hung_up: false }]);
        poller.change(server.as_raw_fd(), 9, Interest::BOTH).unwrap();
        drop(client);
        // The end of the other side may take a moment to arrive.
        while !ready.first().is_some_and(|ready| ready.hung_up) {
            poller.wait(None, &mut ready).unwrap();
        }
        assert_eq!(ready, [Ready { token: 9, readable: true, writable: true, hung_up: true }]);
        poller.remove(server.as_raw_fd()).unwrap();
        poller.wait(Some(0), &mut ready).unwrap();
        assert!(ready.is_empty());
    }
}
