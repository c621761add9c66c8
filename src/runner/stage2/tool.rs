//! Runs a tool and the program under it to their end, or ends all of them.
//!
//! A profiler starts helpers and the workload, some of them in groups and sessions of their own. All inherit a variable that names this one
//! command, so they are found wherever they went.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::runner::process::bind;

/// Names the command a process belongs to.
const MARK: &str = "PERFPROF_COMMAND";
/// How long a tool may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(5);
/// Between two looks at a running tool.
const LOOK: Duration = Duration::from_millis(20);
/// A process may start others while it is looked for.
const ROUNDS: usize = 50;

/// A tool to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables added to its environment.
    pub environment: BTreeMap<String, String>,
    /// Variables taken out of its environment.
    pub without: Vec<OsString>,
    /// Where its stdout goes.
    pub stdout: PathBuf,
    /// Where its stderr goes.
    pub stderr: PathBuf,
    /// Ended by force after this long.
    pub limit: Duration,
}

/// How a tool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolEnd {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// Why it was ended from outside, if it was.
    pub cut: Option<Cut>,
    /// From its start to its end.
    pub took: Duration,
}

/// Why a tool was ended from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// The user asked.
    Interrupted,
    /// It took longer than its limit.
    Limit,
}

/// Runs the tool to its end. When `interrupted` becomes true, it and everything it started is asked to end, and after some seconds made to.
///
/// # Errors
/// If a log cannot be made or the tool not be started.
pub fn run(command: &ToolCommand, interrupted: &dyn Fn() -> bool) -> io::Result<ToolEnd> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mark = format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let mut builder = Command::new(&command.program);
    builder
        .args(&command.arguments)
        .envs(&command.environment)
        .env(MARK, &mark)
        .stdin(Stdio::null())
        .stdout(Stdio::from(File::create(&command.stdout)?))
        .stderr(Stdio::from(File::create(&command.stderr)?));
    for name in &command.without {
        builder.env_remove(name);
    }
    bind(&mut builder);
    let began = Instant::now();
    let mut child = builder.spawn()?;
    let mut cut = None;
    let mut told_at: Option<Instant> = None;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if told_at.is_none() && interrupted() {
            cut = Some(Cut::Interrupted);
            told_at = Some(Instant::now());
            signal_group(&child, libc::SIGINT);
        }
        if cut.is_none() && began.elapsed() > command.limit {
            cut = Some(Cut::Limit);
        }
        if cut == Some(Cut::Limit) || told_at.is_some_and(|at| at.elapsed() > GRACE) {
            signal_group(&child, libc::SIGKILL);
            break child.wait()?;
        }
        std::thread::sleep(LOOK);
    };
    if cut.is_some() {
        end_marked(&mark);
    }
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    Ok(ToolEnd { code: status.code(), signal, cut, took: began.elapsed() })
}

/// Signals the group of a child that has not been waited for.
fn signal_group(child: &Child, signal: libc::c_int) {
    // SAFETY: kill takes no pointer. The child leads its group and has not been waited for, so the number is not reused.
    unsafe { libc::kill(-(child.id() as libc::pid_t), signal) };
}

/// Ends every process that carries `mark`.
fn end_marked(mark: &str) {
    for _ in 0..ROUNDS {
        let marked = marked(mark);
        if marked.is_empty() {
            return;
        }
        for pid in marked {
            // SAFETY: kill takes no pointer. The process carried the mark of a command of this process a moment ago.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Processes that carry `mark`; dead ones have no environment any more.
fn marked(mark: &str) -> Vec<libc::pid_t> {
    let wanted = format!("{MARK}={mark}");
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &libc::pid_t| {
        let environment = std::fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str, limit: Duration) -> ToolCommand {
        ToolCommand {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: BTreeMap::from([("GIVEN".to_owned(), "given".to_owned())]),
            without: vec!["HOME".into()],
            stdout: folder.join("out"),
            stderr: folder.join("err"),
            limit,
        }
    }
    fn text(folder: &Path, name: &str) -> String {
        std::fs::read_to_string(folder.join(name)).unwrap_or_default()
    }
    const LONG: Duration = Duration::from_mins(1);

    fn is_gone(pid: &str) -> bool {
        // A killed process is a zombie until its parent collects it.
        std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).map_or(true, |stat| stat.contains(") Z "))
    }

    #[test]
    fn output_exit_code_and_environment_are_kept_apart() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo \"$GIVEN ${HOME-none}\"; echo err >&2; exit 7";
        let end = run(&shell(folder.path(), script, LONG), &|| false).unwrap();
        assert_eq!((end.code, end.signal, end.cut), (Some(7), None, None));
        assert_eq!(
            (text(folder.path(), "out").as_str(), text(folder.path(), "err").as_str()),
            ("given none\n", "err\n")
        );
    }

    #[test]
    fn a_tool_that_hangs_is_ended_with_everything_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        // One child in the group, one in a session of its own whose parent is gone.
        let script = format!(
            "sleep 600 & echo $! > {path}/near; setsid sh -c 'sleep 600 & echo $! > {path}/far'; \
             while ! [ -s {path}/far ]; do sleep 0.01; done; sleep 600"
        );
        let began = Instant::now();
        let end = run(&shell(folder.path(), &script, Duration::from_secs(2)), &|| false).unwrap();
        assert_eq!(end.cut, Some(Cut::Limit));
        assert!(began.elapsed() < Duration::from_secs(30));
        for name in ["near", "far"] {
            let pid = text(folder.path(), name);
            assert!(!pid.is_empty() && is_gone(&pid), "{name}: {pid}");
        }
    }

    #[test]
    fn an_interrupt_reaches_the_program_under_the_tool() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display();
        let script =
            format!("trap 'echo told >> {path}/marks; exit 130' INT; touch {path}/ready; while :; do sleep 0.01; done");
        // As a profiler that waits for the program it started.
        let script = format!("trap true INT; sh -c \"{script}\"; exit $?");
        let ready = folder.path().join("ready");
        let end = run(&shell(folder.path(), &script, LONG), &|| ready.exists()).unwrap();
        assert_eq!((end.code, end.cut), (Some(130), Some(Cut::Interrupted)));
        assert_eq!(text(folder.path(), "marks"), "told\n");
        assert!(end.took < GRACE + Duration::from_secs(20));
    }
}
