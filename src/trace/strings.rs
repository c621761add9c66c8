//! Interned strings: every name is stored once and compared as a number.

use rustc_hash::FxHashMap;

/// Index of an interned string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StringId(pub u32);

/// A table of distinct strings.
#[derive(Debug, Clone, Default)]
pub struct StringTable {
    texts: Vec<Box<str>>,
    ids: FxHashMap<Box<str>, u32>,
}

impl StringTable {
    /// The id of `text`, new or known.
    pub fn intern(&mut self, text: &str) -> StringId {
        if let Some(id) = self.ids.get(text) {
            return StringId(*id);
        }
        let id = u32::try_from(self.texts.len()).expect("fewer than 2^32 distinct strings fit in memory");
        self.texts.push(text.into());
        self.ids.insert(text.into(), id);
        StringId(id)
    }
    /// The text of `id`; ids come only from [`Self::intern`] of the same table.
    pub fn get(&self, id: StringId) -> &str {
        &self.texts[id.0 as usize]
    }
    /// How many distinct strings there are.
    pub fn len(&self) -> usize {
        self.texts.len()
    }
    /// True if nothing was interned.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}
