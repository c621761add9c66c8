//! The command line of `perfprof load`.

use std::path::PathBuf;

use clap::Args;

use crate::commands::Context;
use crate::commands::load::{LoadOptions, run};
use crate::diagnostics::ExitStatus;

/// A load test.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    /// Settings as `key=value`, `load=name`, `+key=value` or `~key`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// A file with settings.
    #[arg(short = 'c', long, value_name = "FILE")]
    run_config: Option<PathBuf>,
    /// Print the settings with their origins and send nothing.
    #[arg(long)]
    print_config: bool,
    /// Print the same requests in another tool's definitions too: vllm, sglang, aiperf, guidellm or genai-perf.
    #[arg(long, value_name = "TOOL")]
    compat: Option<String>,
    /// Show this run beside the new one in the same report; repeatable.
    #[arg(long, value_name = "RUN")]
    with: Vec<String>,
}

impl LoadArgs {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<ExitStatus> {
        let options = LoadOptions {
            overrides: self.overrides,
            run_config: self.run_config,
            print_config: self.print_config,
            compat: self.compat,
            with: self.with,
        };
        run(&options, context)
    }
}
