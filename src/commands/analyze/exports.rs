//! `--export`: the trace or its flame graph in other formats.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use crate::analysis::flame::{FlameNode, folded};
use crate::diagnostics::{ExitStatus, Failure};
use crate::trace::parquet::write as write_parquet;
use crate::trace::timeline::Timeline;
use crate::trace::{chrome, nsys};

/// Formats with a writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Chrome,
    Parquet,
    Folded,
    Nsys,
}

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    format: Format,
    /// Where to; `None` for a file in the run directory.
    path: Option<PathBuf>,
}

impl Export {
    /// `FORMAT` or `FORMAT=FILE`.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) => (name, Some(PathBuf::from(path))),
            None => (text, None),
        };
        let format = match name {
            "chrome" | "perfetto-json" => Format::Chrome,
            "parquet" => Format::Parquet,
            "folded" => Format::Folded,
            "nsys" => Format::Nsys,
            _ => {
                return Err(Failure::new(ExitStatus::Usage, format!("`--export {name}` is no format"))
                    .hint("formats: chrome, perfetto-json, parquet (a directory), folded, nsys (SQLite)"));
            }
        };
        if let Some(path) = &path
            && (path.as_os_str().is_empty() || path.exists())
        {
            return Err(Failure::new(ExitStatus::Usage, format!("`{}` exists already", path.display()))
                .hint("exports never overwrite: choose another name"));
        }
        Ok(Self { format, path })
    }

    fn file_name(&self) -> &'static str {
        match self.format {
            Format::Chrome => "trace.json",
            Format::Parquet => "parquet",
            Format::Folded => "flame.folded",
            Format::Nsys => "trace.sqlite",
        }
    }

    /// Writes it and returns where to.
    pub(super) fn write(&self, directory: &Path, timeline: &Timeline, flame: &FlameNode) -> Result<PathBuf, Failure> {
        let path = self.path.clone().unwrap_or_else(|| directory.join(self.file_name()));
        let io = |error: std::io::Error| {
            Failure::new(ExitStatus::ArtifactIo, format!("cannot write `{}`", path.display()))
                .because(error)
                .hint("check the free space and the permissions")
        };
        match self.format {
            Format::Chrome => {
                let mut out = BufWriter::new(File::create(&path).map_err(io)?);
                chrome::writer::write(timeline, &mut out, &chrome::writer::WriteOptions::default()).map_err(io)?;
                out.flush().map_err(io)?;
            }
            Format::Folded => std::fs::write(&path, folded(flame)).map_err(io)?,
            Format::Parquet => {
                write_parquet(timeline, &path).map_err(|error| {
                    Failure::new(ExitStatus::ArtifactIo, format!("cannot write `{}`", path.display()))
                        .because(error.to_string())
                })?;
            }
            Format::Nsys => {
                nsys::writer::write(timeline, &path).map_err(|error| {
                    Failure::new(ExitStatus::ArtifactIo, format!("cannot write `{}`", path.display()))
                        .because(error.to_string())
                })?;
            }
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_is_a_format_and_perhaps_a_new_file() {
        assert_eq!(Export::parse("folded").unwrap(), Export { format: Format::Folded, path: None });
        let file = Export::parse("chrome=/nowhere/out=1.json").unwrap();
        assert_eq!(file.path.unwrap(), PathBuf::from("/nowhere/out=1.json"));
        assert!(Export::parse("xlsx").is_err());
        assert!(Export::parse("folded=").is_err());
        let there = tempfile::NamedTempFile::new().unwrap();
        assert!(Export::parse(&format!("folded={}", there.path().display())).is_err());
    }
}
