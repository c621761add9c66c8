//! The connections of a worker, and what each is doing.

use super::flight::Flight;
use super::http2::Http2;
use crate::load::client::transport::Transport;
use crate::net::poller::Interest;

/// What a connection is doing.
#[derive(Debug)]
pub(super) enum State {
    /// The system is connecting.
    Connecting,
    /// The encryption is being agreed on.
    Handshaking,
    /// It waits for a request.
    Idle,
    /// It carries one.
    Busy(Box<Flight>),
    /// It speaks HTTP/2, or is about to.
    Http2(Box<Http2>),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub transport: Transport,
    pub target: u32,
    /// Number of its address among those of the target.
    pub address: usize,
    pub state: State,
    pub begun_ns: u64,
    pub connect_ms: f64,
    /// Requests it has carried.
    pub served: u32,
    pub interest: Interest,
}

/// Connections by number; a number that is used again has another generation.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<(u32, Option<Connection>)>,
    free: Vec<u32>,
}

/// What the poller knows a connection by: number and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(pub u64);

impl Key {
    fn new(index: u32, generation: u32) -> Self {
        Self((u64::from(generation) << 32) | u64::from(index))
    }
    fn index(self) -> usize {
        (self.0 & 0xffff_ffff) as usize
    }
    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl Connections {
    pub(super) fn insert(&mut self, connection: Connection) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push((0, None));
            self.slots.len() as u32 - 1
        });
        let (generation, slot) = &mut self.slots[index as usize];
        *slot = Some(connection);
        Key::new(index, *generation)
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut Connection> {
        self.slots.get_mut(key.index()).filter(|(generation, _)| *generation == key.generation())?.1.as_mut()
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<Connection> {
        let (generation, slot) =
            self.slots.get_mut(key.index()).filter(|(generation, _)| *generation == key.generation())?;
        let removed = slot.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(key.index() as u32);
        Some(removed)
    }

    /// Connections in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// All keys in use.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, (_, slot))| slot.is_some())
            .map(|(index, (generation, _))| Key::new(index as u32, *generation))
    }
}
