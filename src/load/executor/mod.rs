//! Sends requests when they are due and keeps the streams: threads of their own, each with its connections and one event loop.
//!
//! A [`worker::Worker`] drives its share of a [`job::StageJob`]; what ended comes out as messages, in whatever order it ended.

mod connect;
mod connection;
mod flight;
mod http2;
mod io;
pub mod job;
pub mod lag;
pub mod worker;
