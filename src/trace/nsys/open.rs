//! Opens a file without leaving a trace of it: what kind of file it is, whether somebody writes it, read-only connections.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tempfile::TempDir;

use super::pages::Pages;
use crate::trace::import::{ReadError, ReadErrorKind};

/// How long another program may hold a lock before it counts as busy.
const PATIENCE: Duration = Duration::from_secs(2);
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const JOURNAL_MAGIC: [u8; 8] = [0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7];
/// Length of the header of a SQLite file.
const HEADER: usize = 100;

/// True if a file that begins like this is a SQLite database.
pub fn is_sqlite(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

/// The command that turns a report into a file perfprof reads.
pub fn export_command(report: &Path) -> String {
    format!(
        "nsys export --type sqlite --lazy=true --output {} {}",
        shell_word(&report.with_extension("sqlite")),
        shell_word(report)
    )
}

fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./+=:@%,".contains(&byte)) {
        text
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// What a file is, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Sqlite,
    /// A report of nsys, which only nsys reads.
    Report,
}

/// Tells a SQLite database and a report of nsys from everything else, which is an error that says what it is.
pub(super) fn kind_of(path: &Path) -> Result<FileKind, ReadError> {
    let error = |kind, detail: &str| ReadError::new(path, kind, detail);
    let metadata = std::fs::metadata(path).map_err(|cause| io_error(path, &cause))?;
    if metadata.is_dir() {
        return Err(error(ReadErrorKind::NotATrace, "is a directory and not an export of nsys")
            .hint("give the `.sqlite` file that `nsys export --type sqlite` writes"));
    }
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head)).map_err(|cause| io_error(path, &cause))?;
    let is_report = path.extension().is_some_and(|extension| {
        ["nsys-rep", "qdrep", "qdstrm"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    });
    if head.is_empty() {
        return Err(error(ReadErrorKind::NotATrace, "is empty (0 bytes)")
            .hint("an export that was broken off leaves an empty file: export the report again"));
    }
    if is_sqlite(&head) {
        let page = page_size(&head).unwrap_or(0);
        if metadata.len() < HEADER as u64 || metadata.len() < page || page == 0 {
            return Err(error(
                ReadErrorKind::Malformed,
                &format!("has the header of a SQLite database and nothing else ({} bytes)", metadata.len()),
            )
            .hint("export the report again"));
        }
        return Ok(FileKind::Sqlite);
    }
    if head.starts_with(b"version https://git-lfs") {
        return Err(error(
            ReadErrorKind::NotATrace,
            &format!("is a pointer of Git LFS ({} bytes) and not the file itself", metadata.len()),
        )
        .hint("fetch the file with `git lfs pull`"));
    }
    if is_report {
        return Ok(FileKind::Report);
    }
    let (detail, hint): (&str, &str) = if head.starts_with(&[0x1f, 0x8b]) {
        ("is compressed with gzip", "unpack it with `gunzip` and give the `.sqlite` file")
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        ("is compressed with Zstandard", "unpack it with `zstd -d` and give the `.sqlite` file")
    } else if head.starts_with(b"PK\x03\x04") {
        ("is a ZIP archive", "unpack it and give the `.sqlite` file")
    } else if head.iter().all(|byte| *byte == 0) {
        (
            "begins with zero bytes where a SQLite database has its header",
            "an export that was broken off leaves such a file: export the report again",
        )
    } else if head.starts_with(b"PAR1") {
        ("is a Parquet file", "export with `nsys export --type sqlite`")
    } else if matches!(head.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'[')) {
        (
            "is JSON and not a SQLite database",
            "give it a name that ends in `.json` if it is a trace of the PyTorch profiler",
        )
    } else if std::str::from_utf8(&head).is_ok() {
        ("is text and not a SQLite database", "export the report with `nsys export --type sqlite`")
    } else {
        ("is not a SQLite database", "export the report with `nsys export --type sqlite`")
    };
    Err(error(ReadErrorKind::NotATrace, detail).hint(hint))
}

/// An error of the operating system about `path`.
pub(super) fn io_error(path: &Path, cause: &std::io::Error) -> ReadError {
    let detail = match cause.kind() {
        ErrorKind::NotFound => "does not exist".to_owned(),
        ErrorKind::PermissionDenied => "cannot be read: permission denied".to_owned(),
        _ => format!("cannot be read: {cause}"),
    };
    ReadError::new(path, ReadErrorKind::Io, detail)
}

fn page_size(head: &[u8]) -> Option<u64> {
    let size = u64::from(u16::from_be_bytes(head.get(16..18)?.try_into().ok()?));
    let size = if size == 1 { 65536 } else { size };
    (size >= 512 && size.is_power_of_two()).then_some(size)
}

fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// What tells whether a file changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    wal: u64,
}

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok();
    Stamp {
        length: metadata.as_ref().map_or(0, std::fs::Metadata::len),
        modified: metadata.and_then(|metadata| metadata.modified().ok()),
        wal: length(&sibling(path, "-wal")),
    }
}

/// A database that is read and never written.
#[derive(Debug)]
pub(super) struct Database {
    /// The file the user named.
    path: PathBuf,
    uri: String,
    stamp: Stamp,
    /// Bytes.
    pub(super) length: u64,
    /// Holds a copy for as long as it is read.
    copy: Option<TempDir>,
}

impl Database {
    /// Looks at the file, its header and what lies beside it.
    pub(super) fn find(path: &Path) -> Result<Self, ReadError> {
        wait_for_journal(path)?;
        let stamp = stamp(path);
        let mut head = [0_u8; HEADER];
        File::open(path).and_then(|mut file| file.read_exact(&mut head)).map_err(|cause| io_error(path, &cause))?;
        let number = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let size = page_size(&head).unwrap_or(0) * u64::from(number(28));
        // The page count is to be trusted only if the file was last written by a SQLite that keeps it.
        if stamp.wal == 0 && number(24) == number(92) && stamp.length < size {
            return Err(ReadError::new(
                path,
                ReadErrorKind::Malformed,
                format!("is cut off: its header says {size} bytes, it has {}", stamp.length),
            )
            .hint("copy the file again, or export the report again"));
        }
        let uses_wal = head[18] == 2 || head[19] == 2;
        let (file, parameters, copy) = if !uses_wal {
            // Locks are taken, so that a program writing the file is noticed.
            (path.to_owned(), "mode=ro", None)
        } else if stamp.wal == 0 {
            // Reading in this mode would otherwise make files beside it.
            (path.to_owned(), "mode=ro&immutable=1", None)
        } else if sibling(path, "-shm").exists() {
            (path.to_owned(), "mode=ro", None)
        } else {
            let (copy, directory) = copy_with_wal(path)?;
            (copy, "mode=rw", Some(directory))
        };
        let file = std::path::absolute(file).map_err(|cause| io_error(path, &cause))?;
        let uri = format!("file:{}?{parameters}", percent_encoded(&file));
        Ok(Self { path: path.to_owned(), uri, length: stamp.length, stamp, copy })
    }
    /// A new connection.
    pub(super) fn connect(&self) -> Result<Connection, ReadError> {
        let fail = |error| sqlite_error(&self.path, "the header", None, error);
        let connection = Connection::open_with_flags(&self.uri, self.flags()).map_err(fail)?;
        connection.busy_timeout(PATIENCE).map_err(fail)?;
        for (option, value) in [
            (DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true),
            (DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false),
            (DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false),
        ] {
            connection.set_db_config(option, value).map_err(fail)?;
        }
        connection
            .execute_batch("PRAGMA query_only=ON; PRAGMA cell_size_check=ON; PRAGMA temp_store=MEMORY; PRAGMA cache_size=-4096; BEGIN")
            .map_err(fail)?;
        Ok(connection)
    }
    /// Writes a compact copy of it to `target`.
    pub(super) fn copy_into(&self, target: &Path) -> Result<(), ReadError> {
        let fail = |error| sqlite_error(&self.path, "the whole file", None, error);
        let connection = Connection::open_with_flags(&self.uri, self.flags()).map_err(fail)?;
        connection.busy_timeout(PATIENCE).map_err(fail)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(fail)?;
        let target = format!("file:{}", percent_encoded(target));
        connection.execute("VACUUM INTO ?1", [target]).map_err(fail)?;
        self.check_unchanged()
    }
    fn flags(&self) -> OpenFlags {
        let access =
            if self.copy.is_some() { OpenFlags::SQLITE_OPEN_READ_WRITE } else { OpenFlags::SQLITE_OPEN_READ_ONLY };
        OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX | access
    }
    /// The file as pages, where everything is in the file itself. To be opened once a connection has a read transaction.
    pub(super) fn pages(&self) -> Option<Pages> {
        (self.stamp.wal == 0 && self.copy.is_none()).then(|| Pages::open(&self.path)).flatten()
    }
    /// An error if the file changed since it was looked at.
    pub(super) fn check_unchanged(&self) -> Result<(), ReadError> {
        if self.stamp == stamp(&self.path) {
            return Ok(());
        }
        Err(busy(&self.path, "changed while it was read: another program is writing it"))
    }
}

fn busy(path: &Path, detail: &str) -> ReadError {
    ReadError::new(path, ReadErrorKind::Busy, detail).hint("wait until `nsys export` has ended, then try again")
}

/// Waits for a writer to end its transaction.
fn wait_for_journal(path: &Path) -> Result<(), ReadError> {
    let journal = sibling(path, "-journal");
    let begun = Instant::now();
    loop {
        let mut magic = [0_u8; 8];
        let read = File::open(&journal).and_then(|mut file| file.read_exact(&mut magic));
        if read.is_err() || magic != JOURNAL_MAGIC {
            return Ok(());
        }
        if begun.elapsed() >= PATIENCE {
            return Err(busy(path, "is being written, or a write was broken off: a journal of SQLite lies beside it")
                .hint(format!(
                    "if nothing writes it, export the report again, or roll back with `sqlite3 {} .tables`",
                    shell_word(path)
                )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Copies a database and its write-ahead log into a temporary directory: reading both in place would make a file beside them.
fn copy_with_wal(path: &Path) -> Result<(PathBuf, TempDir), ReadError> {
    let fail = |cause: std::io::Error| {
        ReadError::new(
            path,
            ReadErrorKind::Io,
            format!("has a write-ahead log beside it, and no copy of both can be made to read them: {cause}"),
        )
        .hint("set TMPDIR to a directory with enough space")
    };
    let directory = tempfile::Builder::new().prefix("perfprof-").tempdir().map_err(fail)?;
    let copy = directory.path().join("trace.sqlite");
    std::fs::copy(path, &copy).map_err(fail)?;
    std::fs::copy(sibling(path, "-wal"), sibling(&copy, "-wal")).map_err(fail)?;
    make_writable(&copy).and_then(|()| make_writable(&sibling(&copy, "-wal"))).map_err(fail)?;
    Ok((copy, directory))
}

fn make_writable(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
}

/// A path as SQLite's URIs spell it.
pub(super) fn percent_encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.~".contains(byte) {
            text.push(*byte as char);
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// An error of SQLite while `what` was read; `row` is the last row that was.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
pub(super) fn sqlite_error(path: &Path, what: &str, row: Option<i64>, error: rusqlite::Error) -> ReadError {
    let after = row.map(|row| format!(" after row {row}")).unwrap_or_default();
    let code = error.sqlite_error_code();
    match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
            busy(path, "is locked: another program is writing it")
        }
        Some(ErrorCode::OperationInterrupted) => ReadError::interrupted(path),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::OutOfMemory) => {
            ReadError::new(path, ReadErrorKind::Io, format!("cannot be read at {what}{after}: {error}"))
        }
        _ => ReadError::new(path, ReadErrorKind::Malformed, format!("is damaged at {what}{after}: {error}"))
            .hint("copy the file again, or export the report again with `nsys export --type sqlite`"),
    }
}
