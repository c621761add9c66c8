//! Sockets and readiness for the load generator and the servers: one thread, thousands of streams, stamps of the kernel.
//!
//! A thread drives its sockets through a [`poller::Poller`] and reads them with [`socket::receive`], which also says when the kernel received the
//! data. Nothing here knows HTTP.

pub mod clock;
pub mod limits;
pub mod poller;
pub mod socket;
pub mod tls;
