//! Writes rows as they come: one JSON line each, with the system at once and on the disk soon after.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::Serialize;
use serde::de::IgnoredAny;

use super::atomic;
use super::error::RecordError;

/// Rows that may wait for the disk.
const ROWS_PER_SYNC: u32 = 100;
/// How long a row may wait for the disk.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Appends rows to a JSONL file.
///
/// A row is one `write`, so a process that dies leaves at most the last line torn; a machine that dies loses at most the rows
/// of the last second. A row that does not fit on the disk is taken back whole, so the file stays readable.
#[derive(Debug)]
pub struct RowsWriter {
    file: File,
    path: PathBuf,
    /// Length up to the end of the last whole row.
    length: u64,
    rows_since_sync: u32,
    syncer: Syncer,
}

impl RowsWriter {
    /// Makes the file `path`, which must not exist.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).map_err(|source| {
            if source.kind() == io::ErrorKind::AlreadyExists {
                RecordError::Exists { path: path.to_owned() }
            } else {
                RecordError::from_write(path, 0, source)
            }
        })?;
        let failed = |source| RecordError::from_write(path, 0, source);
        let syncer = Syncer::start(file.try_clone().map_err(failed)?).map_err(failed)?;
        Ok(Self { file, path: path.to_owned(), length: 0, rows_since_sync: 0, syncer })
    }

    /// Goes on with the file `path`, or makes it. A torn last line, as a crash leaves it, is cut off: what comes after it would be unreadable. A last
    /// line that lacks nothing but its end is a row like the others and gets its end.
    pub fn reopen(path: &Path) -> Result<Self, RecordError> {
        if !path.exists() {
            return Self::create(path);
        }
        let failed = |source| RecordError::from_write(path, 0, source);
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let mut length = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
        let tail = &bytes[length as usize..];
        if tail.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(tail).is_ok() {
            file.write_all(b"\n").map_err(failed)?;
            length = bytes.len() as u64 + 1;
        }
        file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length))).map_err(failed)?;
        let syncer = Syncer::start(file.try_clone().map_err(failed)?).map_err(failed)?;
        Ok(Self { file, path: path.to_owned(), length, rows_since_sync: 0, syncer })
    }

    /// Appends one row. When this returns, the row has left the process.
    pub fn append<T: Serialize>(&mut self, row: &T) -> Result<(), RecordError> {
        let mut line =
            serde_json::to_vec(row).map_err(|source| RecordError::NotJson { path: self.path.clone(), source })?;
        line.push(b'\n');
        self.check(&line)?;
        if let Err(source) = self.file.write_all(&line) {
            // Half a row in the middle of the file would make every later row unreadable.
            let restored = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
            let error = RecordError::from_write(&self.path, line.len() as u64, source);
            return Err(match restored {
                Ok(_) => error,
                Err(source) => RecordError::Write { path: self.path.clone(), source },
            });
        }
        self.length += line.len() as u64;
        self.rows_since_sync += 1;
        if self.rows_since_sync >= ROWS_PER_SYNC {
            self.sync()?;
        } else {
            self.syncer.dirty();
        }
        Ok(())
    }

    /// Waits until everything appended so far is on the disk.
    pub fn sync(&mut self) -> Result<(), RecordError> {
        self.rows_since_sync = 0;
        self.syncer.clean();
        self.file.sync_data().map_err(|source| RecordError::from_write(&self.path, 0, source))
    }

    /// Syncs and closes the file.
    pub fn close(mut self) -> Result<(), RecordError> {
        self.check(&[])?;
        self.sync()?;
        self.syncer.failure().map_or(Ok(()), |source| Err(RecordError::from_write(&self.path, 0, source)))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses to go on where rows would be lost silently: the file was removed, or the disk refused them behind our back.
    fn check(&mut self, next: &[u8]) -> Result<(), RecordError> {
        if let Some(source) = self.syncer.failure() {
            return Err(RecordError::from_write(&self.path, next.len() as u64, source));
        }
        // Writes to a removed file succeed, and its data goes when it is closed: only the link count tells.
        let removed = self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0);
        if removed {
            let fallback = self.rescue(next);
            return Err(RecordError::Vanished { path: self.path.clone(), fallback });
        }
        Ok(())
    }

    /// Copies the rows of a removed file, which the open handle still reaches, and the `next` one to another place.
    fn rescue(&mut self, next: &[u8]) -> Option<PathBuf> {
        let mut rows = Vec::with_capacity(self.length as usize + next.len());
        self.file.seek(SeekFrom::Start(0)).ok()?;
        let read = (&self.file).take(self.length).read_to_end(&mut rows);
        let back = self.file.seek(SeekFrom::Start(self.length));
        read.and(back).ok()?;
        rows.extend_from_slice(next);
        atomic::save_elsewhere(&self.path, &rows)
    }
}

/// Syncs the file one interval after the first unsynced row, so that rows followed by a long silence are safe too.
#[derive(Debug)]
struct Syncer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<SyncState>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct SyncState {
    dirty: bool,
    closing: bool,
    failure: Option<io::Error>,
}

impl Shared {
    /// A panic of the other side leaves three plain values behind: nothing that could be half-changed.
    fn lock(&self) -> MutexGuard<'_, SyncState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, file: &File) {
        let mut state = self.lock();
        loop {
            state = self
                .wake
                .wait_while(state, |state| !state.dirty && !state.closing)
                .unwrap_or_else(PoisonError::into_inner);
            if state.closing {
                return;
            }
            let (still, waited) = self
                .wake
                .wait_timeout_while(state, SYNC_INTERVAL, |state| state.dirty && !state.closing)
                .unwrap_or_else(PoisonError::into_inner);
            state = still;
            if waited.timed_out() && state.dirty {
                state.dirty = false;
                drop(state);
                let result = file.sync_data();
                state = self.lock();
                if let Err(error) = result {
                    state.failure = Some(error);
                }
            }
        }
    }
}

impl Syncer {
    fn start(file: File) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("rows-sync".to_owned()).spawn(move || theirs.run(&file))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    fn dirty(&self) {
        let mut state = self.shared.lock();
        if !state.dirty {
            state.dirty = true;
            self.shared.wake.notify_one();
        }
    }

    fn clean(&self) {
        self.shared.lock().dirty = false;
    }

    fn failure(&self) -> Option<io::Error> {
        self.shared.lock().failure.take()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // The thread neither panics nor blocks for longer than one sync; there is nothing to do if it did.
            let _ = thread.join();
        }
    }
}

/// Makes writes beyond `RLIMIT_FSIZE` fail with an error instead of ending the process without a word.
///
/// For `main`, before threads exist: the disposition is the whole process's.
pub fn ignore_file_size_signal() {
    // SAFETY: setting a disposition to SIG_IGN installs no handler, so no code can run in signal context.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_is_visible_as_soon_as_append_returns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("per_run.jsonl");
        let mut writer = RowsWriter::create(&path).unwrap();
        for row in 0..3 {
            writer.append(&serde_json::json!({ "row": row })).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), row + 1);
        }
        writer.close().unwrap();
    }

    #[test]
    fn a_row_followed_by_silence_reaches_the_disk_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = RowsWriter::create(&dir.path().join("per_run.jsonl")).unwrap();
        writer.append(&1).unwrap();
        assert!(writer.syncer.shared.lock().dirty);
        // Waits for the other thread as long as it takes; without it this never ends, and the runner ends the test.
        while writer.syncer.shared.lock().dirty {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(writer.syncer.failure().is_none());
    }

    #[test]
    fn a_disk_that_refuses_behind_our_back_stops_the_next_row() {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = RowsWriter::create(&dir.path().join("per_run.jsonl")).unwrap();
        writer.append(&1).unwrap();
        writer.syncer.shared.lock().failure = Some(io::Error::from(io::ErrorKind::StorageFull));
        assert!(matches!(writer.append(&2), Err(RecordError::DiskFull { needed_bytes: 2, .. })));
    }

    #[test]
    fn rows_are_never_appended_to_a_file_that_exists() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("per_run.jsonl");
        std::fs::write(&path, "kept\n").unwrap();
        assert!(matches!(RowsWriter::create(&path), Err(RecordError::Exists { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "kept\n");
    }

    #[test]
    fn a_removed_directory_is_noticed_and_every_row_is_saved_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let run = dir.path().join("run");
        std::fs::create_dir(&run).unwrap();
        let mut writer = RowsWriter::create(&run.join("per_run.jsonl")).unwrap();
        writer.append(&1).unwrap();
        writer.append(&2).unwrap();
        std::fs::remove_dir_all(&run).unwrap();
        match writer.append(&3).unwrap_err() {
            RecordError::Vanished { fallback: Some(kept), .. } => {
                assert_eq!(std::fs::read_to_string(&kept).unwrap(), "1\n2\n3\n");
                std::fs::remove_file(kept).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
}
