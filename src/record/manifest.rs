//! `MANIFEST.json`: the size and SHA-256 of every file of a run, so that a later change cannot go unnoticed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::atomic::{self, TEMP_PREFIX};
use super::error::RecordError;

/// Name of the manifest.
pub const MANIFEST_FILE: &str = "MANIFEST.json";
/// Version of [`Manifest`].
pub const MANIFEST_SCHEMA_VERSION: u32 = 1;

/// `MANIFEST.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`MANIFEST_SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Files by path relative to the run directory, with `/` on every system.
    pub files: BTreeMap<String, FileEntry>,
}

/// One file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Size.
    pub bytes: u64,
    /// Lower-case hex SHA-256 of the content.
    pub sha256: String,
}

/// How a file differs from the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MismatchKind {
    /// Listed, but not there.
    Missing,
    /// There, but not listed.
    Unlisted,
    /// The content is another.
    Changed,
    /// Listed as a file, but now a link or something else.
    NotAFile,
}

/// One difference between the directory and its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// Relative to the run directory.
    pub path: String,
    /// How it differs.
    pub kind: MismatchKind,
    /// What the manifest says.
    pub expected: Option<FileEntry>,
    /// What is there.
    pub found: Option<FileEntry>,
}

/// Writes the manifest of all regular files below `dir`; to be called when nothing else will be written.
pub fn write(dir: &Path) -> Result<(), RecordError> {
    let mut files = BTreeMap::new();
    for (name, found) in list(dir)? {
        if let Found::File(path) = found {
            files.insert(name, entry(&path)?);
        }
    }
    atomic::write_json_atomic(&dir.join(MANIFEST_FILE), &Manifest { schema_version: MANIFEST_SCHEMA_VERSION, files })
}

/// Reads the manifest; `None` if there is none, as in a run that did not end by itself.
pub fn read(dir: &Path) -> Result<Option<Manifest>, RecordError> {
    let path = dir.join(MANIFEST_FILE);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(RecordError::Read { path, source }),
    };
    super::reader::parse_versioned(&path, None, &bytes, MANIFEST_SCHEMA_VERSION).map(Some)
}

/// Compares the directory with its manifest; no difference gives an empty list.
pub fn verify(dir: &Path) -> Result<Vec<Mismatch>, RecordError> {
    let Some(manifest) = read(dir)? else {
        return Err(RecordError::NotARun {
            path: dir.to_owned(),
            reason: format!("it has no {MANIFEST_FILE}, so the run did not end by itself"),
        });
    };
    let present = list(dir)?;
    let mut mismatches = Vec::new();
    for (path, expected) in &manifest.files {
        let (kind, found) = match present.get(path) {
            None => (MismatchKind::Missing, None),
            Some(Found::Other) => (MismatchKind::NotAFile, None),
            Some(Found::File(file)) => {
                let found = entry(file)?;
                if found == *expected {
                    continue;
                }
                (MismatchKind::Changed, Some(found))
            }
        };
        mismatches.push(Mismatch { path: path.clone(), kind, expected: Some(expected.clone()), found });
    }
    for (path, found) in &present {
        if !manifest.files.contains_key(path) {
            let found = if let Found::File(file) = found { Some(entry(file)?) } else { None };
            mismatches.push(Mismatch { path: path.clone(), kind: MismatchKind::Unlisted, expected: None, found });
        }
    }
    Ok(mismatches)
}

/// Renews the entry of one file that perfprof itself has just rewritten, if the manifest described its `previous` content.
///
/// A file that was already changed by someone else stays a mismatch: renewing must not hide that.
pub fn renew(dir: &Path, name: &str, previous: &FileEntry) -> Result<(), RecordError> {
    let Some(mut manifest) = read(dir)? else { return Ok(()) };
    if manifest.files.get(name) != Some(previous) {
        return Ok(());
    }
    manifest.files.insert(name.to_owned(), entry(&dir.join(name))?);
    atomic::write_json_atomic(&dir.join(MANIFEST_FILE), &manifest)
}

/// Size and hash of a file.
pub fn entry(path: &Path) -> Result<FileEntry, RecordError> {
    let failed = |source| RecordError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 1 << 16];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => {
                hasher.update(&buffer[..read]);
                bytes += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(FileEntry { bytes, sha256: hex(&hasher.finalize()) })
}

/// Lower-case hex SHA-256 of `bytes`.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        text.push_str(&format!("{byte:02x}"));
        text
    })
}

/// What stands under a name; the path is kept because a name that is not UTF-8 does not lead back to it.
#[derive(Debug)]
enum Found {
    File(PathBuf),
    Other,
}

/// Everything below `dir` but directories, the manifest itself and half-written files; links are not followed.
fn list(dir: &Path) -> Result<BTreeMap<String, Found>, RecordError> {
    let mut found = BTreeMap::new();
    let mut pending: Vec<(PathBuf, String)> = vec![(dir.to_owned(), String::new())];
    while let Some((directory, prefix)) = pending.pop() {
        let failed = |source| RecordError::Read { path: directory.clone(), source };
        for item in std::fs::read_dir(&directory).map_err(failed)? {
            let item = item.map_err(failed)?;
            let name = item.file_name().to_string_lossy().into_owned();
            if name.starts_with(TEMP_PREFIX) || (prefix.is_empty() && name == MANIFEST_FILE) {
                continue;
            }
            let kind = item.file_type().map_err(failed)?;
            let relative = format!("{prefix}{name}");
            if kind.is_dir() {
                pending.push((item.path(), format!("{relative}/")));
            } else {
                found.insert(relative, if kind.is_file() { Found::File(item.path()) } else { Found::Other });
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.txt"), "abc").unwrap();
        std::fs::create_dir(dir.path().join("plots")).unwrap();
        std::fs::write(dir.path().join("plots/b.svg"), "").unwrap();
        write(dir.path()).unwrap();
        dir
    }

    #[test]
    fn lists_every_file_with_its_published_hash() {
        let dir = directory();
        let manifest = read(dir.path()).unwrap().unwrap();
        // FIPS 180-2, appendix B.1, and the hash of nothing.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(manifest.files["a.txt"], FileEntry { bytes: 3, sha256: abc.to_owned() });
        assert_eq!(manifest.files["plots/b.svg"], FileEntry { bytes: 0, sha256: nothing.to_owned() });
        assert_eq!(manifest.files.len(), 2);
        assert_eq!(verify(dir.path()).unwrap(), []);
    }

    #[test]
    fn a_name_that_is_no_text_is_listed_too() {
        use std::os::unix::ffi::OsStrExt as _;
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(std::ffi::OsStr::from_bytes(b"a\xff")), "abc").unwrap();
        write(dir.path()).unwrap();
        assert_eq!(read(dir.path()).unwrap().unwrap().files["a\u{fffd}"].bytes, 3);
        assert_eq!(verify(dir.path()).unwrap(), []);
    }

    #[test]
    fn every_kind_of_difference_is_reported() {
        let dir = directory();
        let at = |name: &str| dir.path().join(name);
        let kinds = || -> Vec<(String, MismatchKind)> {
            verify(dir.path()).unwrap().into_iter().map(|m| (m.path, m.kind)).collect()
        };
        std::fs::write(at("a.txt"), "abd").unwrap();
        assert_eq!(kinds(), [("a.txt".to_owned(), MismatchKind::Changed)]);
        std::fs::remove_file(at("a.txt")).unwrap();
        assert_eq!(kinds(), [("a.txt".to_owned(), MismatchKind::Missing)]);
        std::os::unix::fs::symlink("plots/b.svg", at("a.txt")).unwrap();
        assert_eq!(kinds(), [("a.txt".to_owned(), MismatchKind::NotAFile)]);
        std::fs::write(at("new"), "").unwrap();
        assert_eq!(kinds()[1], ("new".to_owned(), MismatchKind::Unlisted));
    }

    #[test]
    fn renewing_does_not_hide_an_earlier_change() {
        let dir = directory();
        let path = dir.path().join("a.txt");
        let listed = entry(&path).unwrap();
        std::fs::write(&path, "ours").unwrap();
        renew(dir.path(), "a.txt", &listed).unwrap();
        assert_eq!(verify(dir.path()).unwrap(), []);

        std::fs::write(&path, "theirs").unwrap();
        let tampered = entry(&path).unwrap();
        std::fs::write(&path, "ours again").unwrap();
        renew(dir.path(), "a.txt", &tampered).unwrap();
        assert_eq!(verify(dir.path()).unwrap().len(), 1);
    }
}
