//! Small exports for tests, made by SQL.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;

use super::read;
use crate::trace::import::{Import, ReadError, ReadOptions};

/// One process with one thread, three kernels, a copy, and a range round all of it.
pub(super) const SMALL: &str = "
CREATE TABLE StringIds (id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL,
  streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL,
  gridX INTEGER, gridY INTEGER, gridZ INTEGER, blockX INTEGER, blockY INTEGER, blockZ INTEGER, graphNodeId INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL, globalTid INTEGER,
  correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL, contextId INTEGER NOT NULL,
  streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER, bytes INTEGER NOT NULL, copyKind INTEGER NOT NULL);
CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, text TEXT, globalTid INTEGER,
  endGlobalTid INTEGER, textId INTEGER, domainId INTEGER);
INSERT INTO StringIds VALUES (1, 'void gemm<float>(float*)'), (2, 'gemm'), (3, 'cudaLaunchKernel_v7000'), (4, 'cudaMemcpyAsync_v3020'), (5, 'step');
INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES (100, 110, 0, 167772170, 1, 3, 0), (120, 130, 0, 167772170, 2, 3, 0),
  (140, 150, 0, 167772170, 3, 3, 0), (160, 170, 0, 167772170, 4, 4, 0);
INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES (115, 125, 0, 1, 7, 1, 167772160, 1, 2, 8, 1, 1, 128, 1, 1, NULL),
  (135, 145, 0, 1, 7, 2, 167772160, 1, 2, 8, 1, 1, 128, 1, 1, NULL), (155, 165, 0, 1, 7, 3, 167772160, 1, 2, 8, 1, 1, 128, 1, 1, NULL);
INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES (175, 185, 0, 1, 7, 4, 167772160, 4096, 1);
INSERT INTO NVTX_EVENTS VALUES (90, 200, 59, NULL, 167772170, NULL, 5, 0);
";

/// A file made by SQL in a directory of its own.
pub(super) struct Fixture {
    /// The directory.
    pub(super) directory: TempDir,
    /// The file.
    pub(super) path: PathBuf,
}

impl Fixture {
    /// `SMALL`, changed by `sql`.
    pub(super) fn small(sql: &str) -> Self {
        Self::of(&format!("{SMALL}{sql}"))
    }
    /// What `sql` makes.
    pub(super) fn of(sql: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace file #1?.sqlite");
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        Self { directory, path }
    }
    /// A file of these bytes.
    pub(super) fn bytes(name: &str, bytes: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self { directory, path }
    }
    /// Runs SQL on it.
    pub(super) fn run(&self, sql: &str) {
        Connection::open(&self.path).unwrap().execute_batch(sql).unwrap();
    }
    /// Reads it; its directory must be as it was.
    pub(super) fn read(&self) -> Result<Import, ReadError> {
        let before = listing(self.directory.path());
        let result = read(&self.path, &ReadOptions::default());
        assert_eq!(listing(self.directory.path()), before, "the directory of a trace was changed");
        result
    }
    /// Reads it and expects success.
    pub(super) fn import(&self) -> Import {
        self.read().unwrap()
    }
    /// Reads it and expects an error.
    pub(super) fn error(&self) -> ReadError {
        self.read().unwrap_err()
    }
}

/// Names, lengths and contents of the files of a directory.
pub(super) fn listing(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap_or_default()))
        .collect();
    files.sort();
    files
}

/// The count of the diagnostic `code`, 0 if there is none.
pub(super) fn counted(import: &Import, code: &str) -> u64 {
    import.diagnostics.iter().filter(|diagnostic| diagnostic.code == code).map(|diagnostic| diagnostic.count).sum()
}
