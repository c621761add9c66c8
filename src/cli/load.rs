//! The command line of `perfprof load`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::commands::Context;
use crate::commands::load::calibrate::{self, CalibrateOptions};
use crate::commands::load::{LoadOptions, run};
use crate::diagnostics::ExitStatus;

/// A load test.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Presets: load=quick (1, 2, 4 users), load=standard (1 to 64), load=heavy (8 to 128), load=closed, load=open (rates), load=slo.\n\
                  Settings: docs/LOAD.md, or `perfprof load --print-config` for all of them with their values.\n\
                  Example: perfprof load base_url=http://localhost:8000 concurrency=1,2,4-16"
)]
pub(super) struct LoadArgs {
    #[command(subcommand)]
    action: Option<LoadAction>,
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
    /// Write the files of another tool's layout too, as `output.layout`: `infra_bench` or `bench_pack`.
    #[arg(long, value_name = "LAYOUT")]
    layout: Option<String>,
    /// How progress is shown, as `output.ui`: `auto`, `plain`, `tui` or `none`.
    #[arg(long, value_name = "UI")]
    ui: Option<String>,
    /// Show this run beside the new one in the same report; repeatable.
    #[arg(long, value_name = "RUN")]
    with: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum LoadAction {
    /// Hold what this load generator reports against a mock server that records its own sends, on this machine.
    Calibrate(CalibrateArgs),
}

#[derive(Debug, Args)]
struct CalibrateArgs {
    /// Requests in flight, as `concurrency` is written.
    #[arg(long, value_name = "LIST", default_value = "16,64,256,1024")]
    concurrency: String,
    /// From a request to its first token, in ms.
    #[arg(long, value_name = "MS", default_value_t = 100.0)]
    ttft_ms: f64,
    /// From one chunk to the next, in ms.
    #[arg(long, value_name = "MS", default_value_t = 20.0)]
    itl_ms: f64,
    /// Tokens of each answer.
    #[arg(long, value_name = "N", default_value_t = 100)]
    tokens: u32,
    /// Requests of each level as a multiple of its concurrency.
    #[arg(long, value_name = "N", default_value_t = 2)]
    waves: u32,
    /// Further settings of the load run, e.g. `client.threads=2`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

impl LoadArgs {
    pub(super) fn run(self, context: &Context) -> anyhow::Result<ExitStatus> {
        if let Some(LoadAction::Calibrate(args)) = self.action {
            let CalibrateArgs { concurrency, ttft_ms, itl_ms, tokens, waves, overrides } = args;
            return calibrate::run(
                &CalibrateOptions { concurrency, ttft_ms, itl_ms, tokens, waves, overrides },
                context,
            );
        }
        let named = [("output.layout", self.layout), ("output.ui", self.ui)];
        let named = named.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        let options = LoadOptions {
            overrides: self.overrides.into_iter().chain(named).collect(),
            run_config: self.run_config,
            print_config: self.print_config,
            compat: self.compat,
            with: self.with,
        };
        run(&options, context)
    }
}
