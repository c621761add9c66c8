//! What a chunk of rows refers to, numbered within the chunk: workers decode rows without sharing anything, the merge maps the numbers once.

use std::hash::Hash;

use rusqlite::types::ValueRef;
use rustc_hash::FxHashMap;

use super::cells::Reason;

/// Distinct keys, numbered in order of their first appearance.
#[derive(Debug)]
pub(super) struct Local<K> {
    /// The keys.
    pub(super) keys: Vec<K>,
    rows: FxHashMap<K, u32>,
    last: u32,
}

impl<K> Default for Local<K> {
    fn default() -> Self {
        Self { keys: Vec::new(), rows: FxHashMap::default(), last: 0 }
    }
}

impl<K: Copy + Eq + Hash> Local<K> {
    /// The number of `key`. Neighbouring rows often have the same one.
    #[inline]
    pub(super) fn row(&mut self, key: K) -> u32 {
        if self.keys.get(self.last as usize) == Some(&key) {
            return self.last;
        }
        let next = self.keys.len() as u32;
        self.last = *self.rows.entry(key).or_insert(next);
        if self.last == next {
            self.keys.push(key);
        }
        self.last
    }
}

/// How a row names something.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// A row of `StringIds`.
    Id(i64),
    /// The text itself.
    Text(Box<str>),
    /// A row of `StringIds`, and a text in case there is no such row.
    Both(i64, Box<str>),
    /// Neither.
    Nothing,
}

/// Ids below this are looked up in a plain vector.
const DENSE_IDS: i64 = 1 << 16;
/// Texts longer than this are cut: 1 MiB is no name.
const LONGEST_TEXT: usize = 1 << 20;

/// Distinct names, numbered in order of their first appearance.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The names.
    pub(super) keys: Vec<Name>,
    dense: Vec<u32>,
    ids: FxHashMap<i64, u32>,
    texts: FxHashMap<Box<str>, u32>,
    others: FxHashMap<Name, u32>,
    /// Texts that were cut.
    pub(super) cut: u64,
}

impl Names {
    /// The number of a name given by id or by text in one column, as edited files do.
    pub(super) fn of(&mut self, value: ValueRef<'_>) -> Result<u32, Reason> {
        match value {
            ValueRef::Integer(id) => Ok(self.id(id)),
            ValueRef::Text(text) => Ok(self.text(text)),
            ValueRef::Null => Ok(self.other(Name::Nothing)),
            ValueRef::Real(_) | ValueRef::Blob(_) => Err(Reason::WrongType),
        }
    }
    /// The number of a name given by id, by text, or by both.
    pub(super) fn of_both(&mut self, id: ValueRef<'_>, text: ValueRef<'_>) -> Result<u32, Reason> {
        match (id, text) {
            (ValueRef::Null, ValueRef::Text(text)) => Ok(self.text(text)),
            (ValueRef::Integer(id), ValueRef::Text(text)) => {
                let text = self.cut(text);
                Ok(self.other(Name::Both(id, text)))
            }
            (id, _) => self.of(id),
        }
    }
    /// The number of the name of `id`.
    #[inline]
    pub(super) fn id(&mut self, id: i64) -> u32 {
        if (0..DENSE_IDS).contains(&id) {
            let index = id as usize;
            if let Some(row) = self.dense.get(index)
                && *row != u32::MAX
            {
                return *row;
            }
            if self.dense.len() <= index {
                self.dense.resize(index + 1, u32::MAX);
            }
            self.dense[index] = self.keys.len() as u32;
            self.keys.push(Name::Id(id));
            return self.dense[index];
        }
        let next = self.keys.len() as u32;
        let row = *self.ids.entry(id).or_insert(next);
        if row == next {
            self.keys.push(Name::Id(id));
        }
        row
    }
    /// The number of a text.
    pub(super) fn text(&mut self, bytes: &[u8]) -> u32 {
        if let Ok(text) = std::str::from_utf8(bytes)
            && let Some(row) = self.texts.get(text)
        {
            return *row;
        }
        let text = self.cut(bytes);
        let next = self.keys.len() as u32;
        let row = *self.texts.entry(text.clone()).or_insert(next);
        if row == next {
            self.keys.push(Name::Text(text));
        }
        row
    }
    fn other(&mut self, name: Name) -> u32 {
        let next = self.keys.len() as u32;
        let row = *self.others.entry(name.clone()).or_insert(next);
        if row == next {
            self.keys.push(name);
        }
        row
    }
    fn cut(&mut self, bytes: &[u8]) -> Box<str> {
        let (text, cut) = readable(bytes);
        self.cut += u64::from(cut);
        text
    }
}

/// Bytes of a file as text of a bearable length, and whether it was cut.
pub(super) fn readable(bytes: &[u8]) -> (Box<str>, bool) {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_TEXT)]);
    (text.into(), bytes.len() > LONGEST_TEXT)
}
