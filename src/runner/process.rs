//! Runs one process to its end: output into a log, its own process group, and never outliving this process.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::record::rows::RowStatus;

/// Words of a process that ran out of memory, or was refused because it would have.
const OUT_OF_MEMORY: [&str; 4] =
    ["out of memory", "cannot allocate", "memory allocation of", "but this process may use"];

/// Shortest and longest sleep between two looks at a running process: a look costs some ten microseconds.
const POLL: [Duration; 2] = [Duration::from_millis(2), Duration::from_millis(50)];

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildCommand {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables added to the environment of this process.
    pub environment: BTreeMap<String, String>,
    /// Where its stderr goes; its stdout is thrown away.
    pub log: PathBuf,
    /// Ended by force after this long.
    pub limit: Duration,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildEnd {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal.
    pub signal: Option<i32>,
    /// Ended by force, after the limit.
    pub overran: bool,
}

/// Runs the process to its end. When `interrupted` becomes true it is told once (SIGINT), and waited for all the same.
///
/// It gets a process group of its own, so that Ctrl-C in a terminal reaches it once, through this process, and not twice: the second time would
/// end it at once. If this process is killed, the system kills the child.
///
/// # Errors
/// If the log cannot be made or the process not be started.
pub fn run(command: &ChildCommand, interrupted: &dyn Fn() -> bool) -> io::Result<ChildEnd> {
    let log = File::create(&command.log)?;
    let mut builder = Command::new(&command.program);
    builder
        .args(&command.arguments)
        .envs(&command.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::from(log));
    bind(&mut builder);
    let began = Instant::now();
    let mut child = builder.spawn()?;
    let mut told = false;
    let mut overran = false;
    let mut pause = POLL[0];
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if !told && interrupted() {
            told = true;
            tell(&mut child);
        }
        if began.elapsed() > command.limit {
            overran = true;
            child.kill()?;
            break child.wait()?;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(POLL[1]);
    };
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    #[cfg(not(unix))]
    let signal = None;
    Ok(ChildEnd { code: status.code(), signal, overran })
}

/// A group of its own, and death with the parent.
pub(crate) fn bind(builder: &mut Command) {
    #[cfg(unix)]
    {
        use std::os::unix::process::CommandExt as _;
        builder.process_group(0);
    }
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::process::CommandExt as _;
        let parent = std::process::id();
        // SAFETY: between fork and exec only system calls that are safe there are made.
        unsafe {
            builder.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have died before the system was told.
                if libc::getppid() != parent as libc::pid_t {
                    return Err(io::Error::other("the parent is gone"));
                }
                Ok(())
            });
        }
    }
}

/// Asks the process to end in order.
fn tell(child: &mut Child) {
    #[cfg(unix)]
    {
        // SAFETY: a plain system call; the process has not been waited for, so its id is still its own.
        unsafe { libc::kill(child.id() as libc::pid_t, libc::SIGINT) };
    }
    #[cfg(not(unix))]
    {
        let _ = child.kill();
    }
}

/// Why a process of perfprof failed; `None` if it did not. INVALID runs are none: whoever reads their numbers looks at that.
///
/// A kill by signal 9 is told as such: whether it was for want of memory is the caller's to decide.
pub fn failure(end: &ChildEnd, command: &ChildCommand) -> Option<(RowStatus, String)> {
    let words = last_words(&command.log);
    let status_of = |text: &str| {
        let lower = text.to_ascii_lowercase();
        if OUT_OF_MEMORY.iter().any(|part| lower.contains(part)) { RowStatus::Oom } else { RowStatus::Failed }
    };
    if end.overran {
        let text = format!("its process was ended after {:.0} s without an end", command.limit.as_secs_f64());
        return Some((RowStatus::Failed, text));
    }
    match (end.code, end.signal) {
        (Some(0 | 3), _) => None,
        (Some(code), _) => {
            let text = words.unwrap_or_else(|| format!("its process ended with exit code {code}"));
            Some((status_of(&text), text))
        }
        (None, Some(SIGKILL)) => Some((
            RowStatus::Failed,
            "its process was killed by signal 9, as the system does where memory runs out (`dmesg` would say so)"
                .to_owned(),
        )),
        (None, Some(signal)) => Some(match words {
            Some(words) => {
                (status_of(&words), format!("its process was ended by signal {signal}; it last said: {words}"))
            }
            None => (RowStatus::Failed, format!("its process was ended by signal {signal}")),
        }),
        (None, None) => Some((RowStatus::Failed, "its process ended in an unknown way".to_owned())),
    }
}

/// The number of SIGKILL on every system that has signals.
pub const SIGKILL: i32 = 9;

/// What a log says of the end: the `error:` line with its causes, else its last line.
pub fn last_words(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let words = match lines.iter().rposition(|line| line.starts_with("error: ")) {
        Some(at) => {
            let mut words = lines[at]["error: ".len()..].to_owned();
            for cause in lines[at + 1..].iter().map_while(|line| line.trim_start().strip_prefix("caused by: ")) {
                words.push_str(": ");
                words.push_str(cause);
            }
            words
        }
        None => (*lines.last()?).to_owned(),
    };
    Some(words.chars().take(500).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    fn shell(dir: &Path, script: &str, limit: Duration) -> ChildCommand {
        ChildCommand {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
            log: dir.join("log"),
            limit,
        }
    }
    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn codes_signals_and_words_of_a_process_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let script = "echo out; echo \"error: $GREETING\" >&2; echo '  caused by: a' >&2; echo '  caused by: b' >&2; echo >&2; echo 'hint: c' >&2; exit 7";
        let command = shell(dir.path(), script, LONG);
        let end = run(&command, &|| false).unwrap();
        assert_eq!((end.code, end.signal, end.overran), (Some(7), None, false));
        assert_eq!(last_words(&command.log).unwrap(), "hello: a: b");
        let end = run(&shell(dir.path(), "kill -9 $$", LONG), &|| false).unwrap();
        assert_eq!((end.code, end.signal), (None, Some(9)));
        assert!(last_words(&command.log).is_none(), "a process that said nothing has no last words");
    }

    #[test]
    fn an_interrupt_is_passed_on_once_and_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let marks = dir.path().join("marks");
        let script = format!(
            "trap 'echo told >> {0}' INT; touch {0}.ready; while ! [ -s {0} ]; do sleep 0.01; done; sleep 0.2; exit 130",
            marks.display()
        );
        let ready = dir.path().join("marks.ready");
        let asked = Cell::new(0);
        let interrupted = || {
            let yes = ready.exists();
            asked.set(asked.get() + u32::from(yes));
            yes
        };
        let end = run(&shell(dir.path(), &script, LONG), &interrupted).unwrap();
        assert_eq!(end.code, Some(130));
        assert_eq!(std::fs::read_to_string(&marks).unwrap(), "told\n");
        assert!(asked.get() >= 1);
    }

    #[test]
    fn a_process_without_an_end_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let end = run(&shell(dir.path(), "sleep 600", Duration::from_millis(50)), &|| false).unwrap();
        assert!(end.overran);
    }

    #[test]
    fn failures_are_told_apart_by_how_the_process_ended_and_what_it_said() {
        let dir = tempfile::tempdir().unwrap();
        let judged = |script: &str| {
            let command = shell(dir.path(), script, LONG);
            let end = run(&command, &|| false).unwrap();
            failure(&end, &command)
        };
        assert_eq!(judged("exit 0"), None);
        assert_eq!(judged("exit 3"), None, "INVALID is no failure");
        let (status, text) =
            judged("echo 'error: it needs 2 TiB, but this process may use 1 GiB' >&2; exit 2").unwrap();
        assert_eq!((status, text.contains("2 TiB")), (RowStatus::Oom, true));
        let (status, _) = judged("echo 'memory allocation of 99 bytes failed' >&2; kill -6 $$").unwrap();
        assert_eq!(status, RowStatus::Oom);
        assert_eq!(
            judged("echo 'error: no such file' >&2; exit 2").unwrap(),
            (RowStatus::Failed, "no such file".to_owned())
        );
        assert!(judged("kill -9 $$").unwrap().1.contains("killed by signal 9"));
        assert_eq!(judged("exit 7").unwrap().1, "its process ended with exit code 7");
    }
}
