//! Looks for pieces of removed texts in the bytes of a file.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use rustc_hash::FxHashMap;

use super::open::sqlite_error;
use super::schema::{Schema, quote};
use crate::trace::import::ReadError;

/// Long texts lie in several pages of a database, so pieces of this many bytes are looked for. Shorter texts are too common to mean much.
const PIECE: usize = 32;
/// A piece is found by its first bytes.
const PREFIX: usize = 8;
/// Texts shorter than this are not looked for.
const SHORTEST: usize = 12;
/// Bytes of a file looked at in one go.
const PART: u64 = 1 << 24;

/// Pieces of removed texts.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    all: Vec<(Box<[u8]>, bool)>,
    by_prefix: FxHashMap<u64, Vec<usize>>,
    /// By byte, whether a piece begins with it: most positions need no look-up.
    begins: Vec<bool>,
}

fn prefix(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(..PREFIX)?.try_into().ok()?))
}

impl Pieces {
    /// Adds a removed text; `private` if it tells about the user wherever it stands.
    pub(super) fn add(&mut self, text: &[u8], private: bool) {
        for piece in text.chunks(PIECE).filter(|piece| piece.len() >= SHORTEST) {
            let Some(key) = prefix(piece) else { continue };
            self.begins.resize(256, false);
            self.begins[usize::from(piece[0])] = true;
            let same = self.by_prefix.entry(key).or_default();
            if let Some(known) = same.iter().find(|known| *self.all[**known].0 == *piece) {
                self.all[*known].1 |= private;
            } else {
                same.push(self.all.len());
                self.all.push((piece.into(), private));
            }
        }
    }
    /// Which pieces are in the file at `path`.
    pub(super) fn find_in_file(&self, path: &Path) -> std::io::Result<Vec<usize>> {
        let mut held = vec![false; self.all.len()];
        let mut file = File::open(path)?;
        let mut bytes = Vec::new();
        loop {
            // A piece may begin in one part and end in the next.
            let kept = bytes.len().min(PIECE - 1);
            bytes.drain(..bytes.len() - kept);
            if (&mut file).take(PART).read_to_end(&mut bytes)? == 0 {
                break;
            }
            self.find(&bytes, &mut held);
        }
        Ok((0..held.len()).filter(|index| held[*index]).collect())
    }
    /// Marks the pieces that are in `bytes`.
    fn find(&self, bytes: &[u8], held: &mut [bool]) {
        for at in 0..bytes.len() {
            if self.begins.get(usize::from(bytes[at])) == Some(&true)
                && let Some(key) = prefix(&bytes[at..])
                && let Some(same) = self.by_prefix.get(&key)
            {
                for index in same {
                    held[*index] |= bytes[at..].starts_with(&self.all[*index].0);
                }
            }
        }
    }
}

/// Of the pieces `found`, how many no text in any table holds, and how many private ones a text does hold.
pub(super) fn unexplained(
    path: &Path,
    connection: &Connection,
    pieces: &Pieces,
    found: &[usize],
) -> Result<(u64, u64), ReadError> {
    if found.is_empty() {
        return Ok((0, 0));
    }
    let mut wanted = Pieces::default();
    for index in found {
        wanted.add(&pieces.all[*index].0, pieces.all[*index].1);
    }
    let mut held = vec![false; wanted.all.len()];
    let schema = Schema::load(path, connection)?;
    for sql in schema.texts() {
        wanted.find(sql.as_bytes(), &mut held);
    }
    for name in schema.tables() {
        let fail = |error| sqlite_error(path, &format!("`{name}` of a copy of it"), None, error);
        let mut statement = connection.prepare(&format!("SELECT * FROM {}", quote(name))).map_err(fail)?;
        let columns = statement.column_count();
        let mut rows = statement.query([]).map_err(fail)?;
        while let Some(row) = rows.next().map_err(fail)? {
            for column in 0..columns {
                if let Ok(ValueRef::Text(text) | ValueRef::Blob(text)) = row.get_ref(column)
                    && text.len() >= SHORTEST
                {
                    wanted.find(text, &mut held);
                }
            }
        }
    }
    let left = held.iter().filter(|held| !**held).count() as u64;
    let explained = wanted.all.iter().zip(&held).filter(|((_, private), held)| *private && **held).count() as u64;
    Ok((left, explained))
}
