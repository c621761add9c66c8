//! Speaks to the server: addresses, encryption, HTTP, event streams, and what is noted of each answer.
//!
//! Everything that reads is a machine fed with bytes: how the network cuts them changes nothing.

pub mod body;
pub mod delta;
pub mod fields;
pub mod http2;
pub mod reception;
pub mod response;
pub mod simple;
pub mod sse;
pub mod target;
pub mod transport;
