//! What kind of trace a file is, by its first bytes; the name decides only where the bytes cannot.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::import::{ReadError, ReadErrorKind};

/// Bytes looked at.
const HEAD: usize = 4096;

/// Formats with a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceFormat {
    /// A database exported by Nsight Systems, or a report that `nsys export` can turn into one.
    Nsys,
    /// Chrome-trace JSON as PyTorch's profiler writes it; plain, gzip or zstd.
    Chrome,
    /// Comma-separated values of Nsight Compute.
    Ncu,
}

impl TraceFormat {
    /// The name used in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nsys => "Nsight Systems",
            Self::Chrome => "Chrome-trace JSON",
            Self::Ncu => "Nsight Compute CSV",
        }
    }
}

/// The format of the file at `path`.
///
/// # Errors
/// If it cannot be read, is a directory, or is nothing a reader knows.
pub fn detect(path: &Path) -> Result<TraceFormat, ReadError> {
    let io = |error: std::io::Error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "check the path",
            std::io::ErrorKind::PermissionDenied => "check the permissions of the file",
            _ => "check the file and its disk",
        };
        ReadError::new(path, ReadErrorKind::Io, format!("cannot be opened: {error}")).hint(hint)
    };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return Err(ReadError::new(path, ReadErrorKind::NotATrace, "is a directory")
            .hint("give the trace files themselves, e.g. one `.sqlite`, `.json.gz` or `.csv` for each rank"));
    }
    let mut head = Vec::with_capacity(HEAD);
    File::open(path).map_err(io)?.take(HEAD as u64).read_to_end(&mut head).map_err(io)?;
    of_bytes(&head, extension(path).as_deref()).ok_or_else(|| {
        let what = if head.is_empty() { "is empty" } else { "is no trace in a format perfprof reads" };
        ReadError::new(path, ReadErrorKind::NotATrace, what).hint(
            "perfprof reads nsys SQLite exports (`nsys export --type sqlite FILE.nsys-rep`), PyTorch profiler JSON \
             (plain, .gz, .zst) and Nsight Compute CSV (`ncu --csv --page details`)",
        )
    })
}

fn extension(path: &Path) -> Option<String> {
    path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase())
}

/// The format of a file that begins with `head`.
fn of_bytes(head: &[u8], extension: Option<&str>) -> Option<TraceFormat> {
    const GZIP: &[u8] = &[0x1f, 0x8b];
    const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
    if head.starts_with(b"SQLite format 3\0") {
        return Some(TraceFormat::Nsys);
    }
    // Damaged, cut off or empty files of a telling name go to their reader, which has the better message.
    match extension {
        Some("sqlite" | "sqlite3" | "db" | "nsys-rep" | "qdrep") => return Some(TraceFormat::Nsys),
        Some("csv") => return Some(TraceFormat::Ncu),
        _ => {}
    }
    if head.starts_with(GZIP) || head.starts_with(ZSTD) {
        return Some(TraceFormat::Chrome);
    }
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    match text.first() {
        Some(b'{' | b'[') => return Some(TraceFormat::Chrome),
        _ if text.starts_with(b"==PROF==") || text.starts_with(b"==WARNING==") || text.starts_with(b"==ERROR==") => {
            return Some(TraceFormat::Ncu);
        }
        _ if text.starts_with(b"\"ID\",") || text.starts_with(b"ID,") => return Some(TraceFormat::Ncu),
        _ => {}
    }
    match extension {
        Some("json" | "gz" | "zst") => Some(TraceFormat::Chrome),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_decide_and_the_name_only_where_they_cannot() {
        let cases: [(&[u8], Option<&str>, Option<TraceFormat>); 12] = [
            (b"SQLite format 3\0....", Some("json"), Some(TraceFormat::Nsys)),
            (b"\x1f\x8b\x08", None, Some(TraceFormat::Chrome)),
            (b"\x28\xb5\x2f\xfd", None, Some(TraceFormat::Chrome)),
            (b"\xef\xbb\xbf \n{\"traceEvents\"", None, Some(TraceFormat::Chrome)),
            (b"[{\"ph\"", Some("txt"), Some(TraceFormat::Chrome)),
            (b"==PROF== Connected", None, Some(TraceFormat::Ncu)),
            (b"\"ID\",\"Process ID\"", None, Some(TraceFormat::Ncu)),
            (b"", Some("sqlite"), Some(TraceFormat::Nsys)),
            (b"NVIDIA Tegra Profiler", Some("nsys-rep"), Some(TraceFormat::Nsys)),
            (b"", Some("json"), Some(TraceFormat::Chrome)),
            (b"hello", None, None),
            (b"", None, None),
        ];
        for (head, extension, format) in cases {
            assert_eq!(of_bytes(head, extension), format, "{head:?} {extension:?}");
        }
    }

    #[test]
    fn a_directory_and_a_missing_file_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = detect(directory.path()).unwrap_err();
        assert!(error.detail.contains("directory"), "{error}");
        let error = detect(&directory.path().join("none.sqlite")).unwrap_err();
        assert_eq!(error.kind, ReadErrorKind::Io);
    }
}
