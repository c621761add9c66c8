//! Signals: the first asks for an orderly end, the second ends the process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::diagnostics::ExitStatus;

/// What the user asked for while a run went on.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    asked: Arc<AtomicBool>,
    /// The last signal, for the exit code.
    signal: Arc<AtomicUsize>,
}

impl Interrupt {
    /// Installs the handlers. Rows are on disk as soon as they are complete, so a second signal loses only the repeat under way.
    ///
    /// # Errors
    /// If the system refuses a handler.
    pub fn install() -> std::io::Result<Self> {
        let interrupt = Self::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // The order matters: the conditional shutdown sees the flag of the signal before, not of this one.
            let code = if signal == SIGINT { ExitStatus::Interrupted } else { ExitStatus::Terminated };
            signal_hook::flag::register_conditional_shutdown(
                signal,
                i32::from(code.code()),
                Arc::clone(&interrupt.asked),
            )?;
            signal_hook::flag::register(signal, Arc::clone(&interrupt.asked))?;
            signal_hook::flag::register_usize(signal, Arc::clone(&interrupt.signal), signal as usize)?;
        }
        Ok(interrupt)
    }

    /// True after the first signal.
    pub fn asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// 130 after Ctrl-C, 143 after SIGTERM or SIGHUP.
    pub fn status(&self) -> ExitStatus {
        if self.signal.load(Ordering::Relaxed) == SIGINT as usize {
            ExitStatus::Interrupted
        } else {
            ExitStatus::Terminated
        }
    }
}
