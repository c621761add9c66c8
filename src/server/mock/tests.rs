//! The server over real sockets, read by a client that takes the bytes apart by hand.

#![allow(clippy::unwrap_used, reason = "tests fail by it")]

mod client;
mod faults;
mod hostile;
mod shapes;
mod times;
