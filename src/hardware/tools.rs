//! Programs and libraries other profilers bring: whether they are there, which version, and whether they answer at all.
//!
//! This module starts programs only to ask for their version, each with a time limit: a profiler that waits for a licence server
//! or a terminal must not hang its caller.

use std::ffi::OsStr;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

/// What is known of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ToolState {
    /// It answered with its version.
    Found {
        /// Where it is.
        path: PathBuf,
        /// What it says its version is.
        version: String,
    },
    /// No executable of that name on the search path.
    Missing,
    /// It ran and said something else, or ended with an error.
    Unexpected {
        /// Where it is.
        path: PathBuf,
        /// The first line it said, or how it ended.
        said: String,
    },
    /// It did not end in time and was killed.
    TimedOut {
        /// Where it is.
        path: PathBuf,
        /// How long it had.
        limit: Duration,
    },
}

/// A program that can be asked for its version.
#[derive(Debug, Clone, Copy)]
pub struct Tool {
    /// Name of the executable.
    pub name: &'static str,
    /// Words its version text must contain, so that another program of that name is not taken for it.
    pub says: &'static str,
}

/// Nsight Systems.
pub const NSYS: Tool = Tool { name: "nsys", says: "Nsight Systems" };
/// Nsight Compute.
pub const NCU: Tool = Tool { name: "ncu", says: "Nsight Compute" };

/// The first executable file called `name` in the directories of `path`.
pub fn find_on_path(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path)
        // An empty entry means the working directory, where nobody expects a profiler to be found.
        .filter(|directory| !directory.as_os_str().is_empty())
        .map(|directory| directory.join(name))
        .find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

impl Tool {
    /// Looks for the tool in the directories of `path` and asks its version, for at most `limit`.
    pub fn probe(&self, path: &OsStr, limit: Duration) -> ToolState {
        find_on_path(self.name, path).map_or(ToolState::Missing, |file| self.probe_file(file, path, limit))
    }

    /// Asks the program at `file` its version, for at most `limit`; `path` is the search path it gets.
    pub fn probe_file(&self, file: PathBuf, path: &OsStr, limit: Duration) -> ToolState {
        if !is_executable(&file) {
            return ToolState::Missing;
        }
        match output_within(Command::new(&file).arg("--version").env("PATH", path), limit) {
            Ok(Some(said)) => {
                if let Some(version) = version_in(&said, self.says) {
                    ToolState::Found { path: file, version }
                } else {
                    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
                    ToolState::Unexpected { path: file, said: first.trim().chars().take(120).collect() }
                }
            }
            Ok(None) => ToolState::TimedOut { path: file, limit },
            Err(error) => ToolState::Unexpected { path: file, said: error.to_string() },
        }
    }
}

/// The version in `said`, if the text also has the words `says`: the first word after "version" that begins with a digit.
fn version_in(said: &str, says: &str) -> Option<String> {
    if !said.contains(says) {
        return None;
    }
    let lower = said.to_ascii_lowercase();
    let mut rest = lower.as_str();
    while let Some(position) = rest.find("version") {
        rest = &rest[position + "version".len()..];
        let word = rest.split_whitespace().next().unwrap_or("").trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(word.to_owned());
        }
    }
    None
}

/// What `command` writes to stdout and stderr; `None` if it did not end within `limit`, in which case it and its children are killed.
fn output_within(command: &mut Command, limit: Duration) -> std::io::Result<Option<String>> {
    use std::os::unix::process::CommandExt;
    // A group of its own, so that a wrapper script and the program it started end together.
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).spawn()?;
    let group = child.id() as libc::pid_t;
    let (sender, receiver) = std::sync::mpsc::channel();
    let mut readers = 0;
    let streams: [Option<Box<dyn Read + Send>>; 2] =
        [child.stdout.take().map(|s| Box::new(s) as _), child.stderr.take().map(|s| Box::new(s) as _)];
    for mut stream in streams.into_iter().flatten() {
        let sender = sender.clone();
        readers += 1;
        // A thread each: a full pipe would block the program, and a grandchild may hold the pipe open for ever.
        std::thread::spawn(move || {
            let mut text = Vec::new();
            // A version is short; what is longer is no version, and its rest is not needed.
            let _ = stream.by_ref().take(64 << 10).read_to_end(&mut text);
            let _ = sender.send(text);
        });
    }
    let deadline = Instant::now() + limit;
    let ended = loop {
        if child.try_wait()?.is_some() {
            break true;
        }
        if Instant::now() >= deadline {
            break false;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    if !ended {
        // SAFETY: kill takes no pointer. The group is that of the child, which has not been waited for, so its number is not reused.
        unsafe { libc::kill(-group, libc::SIGKILL) };
        child.wait()?;
        return Ok(None);
    }
    let mut said = String::new();
    for _ in 0..readers {
        // The program has ended: what it wrote is there at once, unless a child of its own keeps the pipe.
        if let Ok(text) = receiver.recv_timeout(Duration::from_millis(500)) {
            said.push_str(&String::from_utf8_lossy(&text));
        }
    }
    Ok(Some(said))
}

/// Loads the first of `names` that the dynamic linker finds, and gives its name.
///
/// # Errors
/// What the linker said, or which names were not found.
pub fn load_library(names: &[&str]) -> Result<String, String> {
    let mut reason = None;
    for name in names {
        let Ok(text) = std::ffi::CString::new(*name) else { continue };
        // SAFETY: `text` is a NUL-terminated string for the length of the call. Loading runs the initialisers of the library; the
        // names asked for are those of NVIDIA's user-mode libraries, whose initialisers are made to be run in any process.
        let handle = unsafe { libc::dlopen(text.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL) };
        if !handle.is_null() {
            // It stays loaded: the initialisers of CUDA libraries start threads that unloading would cut the ground from.
            return Ok((*name).to_owned());
        }
        // SAFETY: dlerror gives null or a NUL-terminated string that stays valid until the next call on this thread; it is copied.
        let message = unsafe { libc::dlerror() };
        if !message.is_null() {
            // SAFETY: as above.
            let message = unsafe { std::ffi::CStr::from_ptr(message) }.to_string_lossy().into_owned();
            // That a file is not there is said once for all names; a file that is there and cannot be loaded is news.
            if !message.contains("No such file") {
                reason.get_or_insert(message);
            }
        }
    }
    Err(reason.unwrap_or_else(|| format!("not found: {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_the_real_texts() {
        assert_eq!(
            version_in("NVIDIA Nsight Systems version 2024.6.2.225-246235244400v0\n", NSYS.says).as_deref(),
            Some("2024.6.2.225-246235244400v0")
        );
        let ncu = "NVIDIA (R) Nsight Compute Command Line Profiler\nCopyright (c) 2018-2024 NVIDIA Corporation\nVersion 2024.3.2.0 (build 34861637) (public-release)\n";
        assert_eq!(version_in(ncu, NCU.says).as_deref(), Some("2024.3.2.0"));
        assert_eq!(version_in("network status yearly summary version 3", NSYS.says), None);
        assert_eq!(version_in("NVIDIA Nsight Systems version unknown", NSYS.says), None);
    }

    #[test]
    fn a_library_every_system_has_is_found_and_another_is_not() {
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        assert_eq!(load_library(&["libsurely-not-here.so.9", "libc.so.6"]).as_deref(), Ok("libc.so.6"));
        assert!(load_library(&["libsurely-not-here.so.9"]).unwrap_err().contains("libsurely-not-here"));
    }
}
