//! Has `nsys` export a report into a temporary directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::open::export_command;
use crate::trace::import::{ReadError, ReadErrorKind, ReadOptions};

/// An exported report; it is deleted when this is dropped.
#[derive(Debug)]
pub(super) struct Exported {
    directory: TempDir,
}

impl Exported {
    /// The database.
    pub(super) fn path(&self) -> PathBuf {
        self.directory.path().join("report.sqlite")
    }
}

/// Runs `nsys export` on `report`.
pub(super) fn export(report: &Path, options: &ReadOptions<'_>) -> Result<Exported, ReadError> {
    export_with("nsys", report, options)
}

/// As [`export`], with the tool of this name or path.
pub(super) fn export_with(nsys: &str, report: &Path, options: &ReadOptions<'_>) -> Result<Exported, ReadError> {
    let tool = |detail: String| ReadError::new(report, ReadErrorKind::Tool, detail);
    let space = |cause: std::io::Error| {
        tool(format!("is a report of nsys, and no temporary directory can be made to export it: {cause}"))
    };
    let exported = Exported { directory: tempfile::Builder::new().prefix("perfprof-").tempdir().map_err(space)? };
    // What the tool says goes into a file: a pipe that nobody empties would stop it.
    let log = exported.directory.path().join("log");
    let output = std::fs::File::create(&log).map_err(space)?;
    let errors = output.try_clone().map_err(space)?;
    let mut child = match Command::new(nsys)
        .args(["export", "--type", "sqlite", "--lazy=true", "--force-overwrite=true", "--output"])
        .arg(exported.path())
        .arg(report)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
    {
        Ok(child) => child,
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
            return Err(tool("is a report of nsys, which only nsys can read, and `nsys` is not on PATH".to_owned())
                .hint(format!(
                    "run `{}` where Nsight Systems is installed and give the `.sqlite` file",
                    export_command(report)
                )));
        }
        Err(cause) => return Err(tool(format!("is a report of nsys, and `nsys` cannot be run: {cause}"))),
    };
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if (options.cancelled)() => {
                // It may have ended by itself meanwhile; either way it is gone after this.
                let _ = child.kill();
                let _ = child.wait();
                return Err(ReadError::interrupted(report));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(cause) => return Err(tool(format!("`nsys export` cannot be waited for: {cause}"))),
        }
    };
    if status.success() && exported.path().exists() {
        return Ok(exported);
    }
    let log = std::fs::read(&log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing").trim().to_owned();
    let wrong = if status.success() { "wrote no file".to_owned() } else { format!("failed ({status})") };
    Err(tool(format!("`nsys export` {wrong}: {last}")).hint(format!(
        "run `{}` with the version of nsys that made the report, or a later one",
        export_command(report)
    )))
}
