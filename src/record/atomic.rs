//! Files that are there whole or not at all.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::error::RecordError;

/// Begins the names of half-written files; `manifest` and `verify` pass them over, a later run may remove them.
pub const TEMP_PREFIX: &str = ".partial-";

/// Writes `bytes` to `path` so that a reader, or a crash at any instant, meets the old content or the new, never a part.
///
/// A temporary file in the same directory is written and synced, renamed over `path`, and the directory is synced: a rename
/// without the first sync may survive a power cut with its data lost, without the second it may itself be lost.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RecordError> {
    let directory = parent(path);
    let needed = bytes.len() as u64;
    let failed = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound && !directory.exists() {
            let fallback = save_elsewhere(path, bytes);
            return RecordError::Vanished { path: path.to_owned(), fallback };
        }
        RecordError::from_write(path, needed, source)
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        // Readable as other files are; tempfile's own default is the owner alone.
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .tempfile_in(directory)
        .map_err(failed)?;
    temporary.write_all(bytes).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(path).map_err(|error| failed(error.error))?;
    sync_directory(directory).map_err(failed)
}

/// [`write_atomic`] of indented JSON with a final newline.
pub fn write_json_atomic<T: serde::Serialize>(path: &Path, value: &T) -> Result<(), RecordError> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|source| RecordError::NotJson { path: path.to_owned(), source })?;
    bytes.push(b'\n');
    write_atomic(path, &bytes)
}

/// Makes renames and new names in `directory` survive a power cut.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    match File::open(directory)?.sync_all() {
        // Some file systems (9p, FUSE) cannot sync a directory; there is nothing more to do on them.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTSUP | libc::ENOSYS)) => Ok(()),
        result => result,
    }
}

/// Saves data whose place is gone under the system's temporary directory, and says where; `None` if that fails too.
///
/// The name is random and the file is made exclusively, so nobody can have put a link in its place.
pub fn save_elsewhere(path: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let name = path.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned());
    let mut file = tempfile::Builder::new().prefix("perfprof-").suffix(&format!("-{name}")).tempfile().ok()?;
    file.write_all(bytes).ok()?;
    file.as_file().sync_all().ok()?;
    file.keep().ok().map(|(_, kept)| kept)
}

/// Bytes an unprivileged process may still write to the file system of `path`.
pub fn available_bytes(path: &Path) -> Option<u64> {
    let directory = path.ancestors().find(|part| part.is_dir())?;
    let name = CString::new(directory.as_os_str().as_bytes()).ok()?;
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: `name` is a NUL-terminated string and `stat` has room for one `statvfs`; both outlive the call.
    if unsafe { libc::statvfs(name.as_ptr(), stat.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: `statvfs` returned 0, so it has filled `stat`.
    let stat = unsafe { stat.assume_init() };
    #[allow(clippy::unnecessary_cast, reason = "the fields are narrower on other systems")]
    Some((stat.f_bavail as u64).saturating_mul(stat.f_frsize as u64))
}

/// The directory of `path`; `.` for a bare name.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_the_content_and_leaves_no_temporary_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.json");
        write_atomic(&path, b"old").unwrap();
        write_atomic(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn data_for_a_directory_that_is_gone_is_saved_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("run/metrics.json");
        match write_atomic(&gone, b"{\"a\":1}").unwrap_err() {
            RecordError::Vanished { path, fallback: Some(kept) } => {
                assert_eq!(path, gone);
                assert_eq!(std::fs::read(&kept).unwrap(), b"{\"a\":1}");
                std::fs::remove_file(kept).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_refused_write_leaves_the_old_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        std::fs::create_dir(&path).unwrap();
        assert!(matches!(write_atomic(&path, b"x"), Err(RecordError::Write { .. })));
        assert!(path.is_dir());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
