//! The command line: it declares, and turns its arguments into the options of the commands. Nothing else knows clap.

mod load;
mod mock;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::commands::ab::AbOptions;
use crate::commands::analyze::AnalyzeOptions;
use crate::commands::compare::CompareOptions;
use crate::commands::dataset::{ConvertOptions, DatasetAction, GenerateOptions, ShowOptions};
use crate::commands::kernels::{KernelsAction, KernelsOptions};
use crate::commands::report::ReportOptions;
use crate::commands::runs::RunsAction;
use crate::commands::stage1::Stage1Options;
use crate::commands::stage2::Stage2Options;
use crate::commands::sweep::SweepOptions;
use crate::commands::validate::ValidateOptions;
use crate::commands::{
    ColorChoice, Context, ab, analyze, compare, dataset, doctor, estimate, kernels, report, runs, stage1, stage2,
    sweep, validate,
};
use crate::diagnostics::ExitStatus;
use crate::engine::gpu::backend::HalfType;

/// Profiles LLM inference: prefill and decode, operators, MFU and MBU, GPU traces.
///
/// Settings are given as `key=value` after the command, e.g. `perfprof stage1 model=smollm2 repeats=3`. `perfprof stage1 --print-config` shows
/// all of them with where each value comes from.
#[derive(Debug, Parser)]
#[command(name = "perfprof", version, propagate_version = true, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct GlobalArgs {
    /// Print machine-readable JSON on stdout.
    #[arg(long, global = true)]
    json: bool,
    /// Directory whose configs stand before the embedded ones [default: ./configs if it exists].
    #[arg(long, global = true, value_name = "DIR")]
    config_dir: Option<PathBuf>,
    /// Where run directories are made.
    #[arg(long, global = true, value_name = "DIR", default_value = "tmp")]
    output_root: PathBuf,
    /// Say more on stderr (-v info, -vv debug, -vvv trace).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Say less on stderr: no progress, errors only.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value_t = ColorArg::Auto)]
    color: ColorArg,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ColorArg {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Profile a model in process: phases, operators, MFU and MBU, into a run directory.
    Stage1(Stage1Args),
    /// Profile stage1, or any program after `--`, under nsys and ncu: timeline, operators, and counters of the costliest kernels.
    Stage2(Stage2Args),
    /// Run variants of stage1 interleaved, and say which is faster, by how much, and why: `ab base='k=v,…' cand='k=v,…'`.
    Ab(AbArgs),
    /// Run every combination of settings, one process each, and name the best: `sweep CONFIG`, or `sweep batch=1,2,4 …`. Can be gone on with.
    Sweep(SweepArgs),
    /// Compare runs, traces or results of other tools with a baseline: is it faster, by how much, and why.
    Compare(CompareArgs),
    /// Explain traces of GPU work: nsys SQLite, PyTorch profiler JSON, Nsight Compute CSV.
    Analyze(AnalyzeArgs),
    /// Load an OpenAI-compatible server and say what it can do: `load base_url=http://HOST:PORT concurrency=1,2,4-16`.
    Load(load::LoadArgs),
    /// What a model must compute and move, from its architecture alone.
    Estimate(EstimateArgs),
    /// Make sets of prompts for load tests, turn traces and chats into them, and see what is in them.
    Dataset(DatasetArgs),
    /// Check the CUDA kernels of `engine.ops=fused` against references on a GPU, or time them.
    Kernels(KernelsArgs),
    /// Serve OpenAI's API without a model: exact lengths at exact times, with faults on demand, to test clients with. Ends with Ctrl-C.
    Mock(mock::MockArgs),
    /// What this machine can do, and what keeps it from doing more.
    Doctor,
    /// List, show, verify and tag runs.
    Runs(RunsArgs),
    /// Check configuration files and settings without running anything.
    Validate(ValidateArgs),
    /// Rebuild the reports of runs from the rows on disk.
    Report(ReportArgs),
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

#[derive(Debug, Args)]
struct Stage1Args {
    /// Settings as `key=value`, `group=name`, `+key=value` or `~key`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// A run file with `model`, `backend`, `warmup`, `repeats` and `cases`.
    #[arg(short = 'c', long, value_name = "FILE")]
    run_config: Option<PathBuf>,
    /// Run every combination of values given as `key=1,2,3`.
    #[arg(short, long)]
    multirun: bool,
    /// Print the settings with their origins and run nothing.
    #[arg(long)]
    print_config: bool,
}

#[derive(Debug, Args)]
struct KernelsArgs {
    /// `check` runs every kernel against its reference in f64, `bench` times them beside the bandwidth of the device.
    #[arg(value_enum)]
    action: KernelsActionArg,
    /// CUDA device.
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,
    /// Type of activations and dense weights.
    #[arg(long, value_enum, default_value_t = HalfArg::Bf16)]
    dtype: HalfArg,
    /// Only kernels and cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// `check` in reduced sizes that still take every path: for compute-sanitizer.
    #[arg(long)]
    small: bool,
    /// Seed of the inputs of `check` [default: from the clock].
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KernelsActionArg {
    Check,
    Bench,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum HalfArg {
    F16,
    Bf16,
}

impl From<KernelsArgs> for KernelsOptions {
    fn from(args: KernelsArgs) -> Self {
        Self {
            action: match args.action {
                KernelsActionArg::Check => KernelsAction::Check,
                KernelsActionArg::Bench => KernelsAction::Bench,
            },
            device: args.device,
            half: match args.dtype {
                HalfArg::F16 => HalfType::F16,
                HalfArg::Bf16 => HalfType::BF16,
            },
            filter: args.filter,
            small: args.small,
            seed: args.seed,
        }
    }
}

#[derive(Debug, Args)]
struct Stage2Args {
    /// Settings of the workload as for `stage1`, and of the profile as `stage2.KEY=VALUE`; with a PROGRAM, what is said of the model that it runs
    /// (`model=`, `batch=`, `prompt_tokens=`, `hardware.…=`).
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// Print the settings with their origins and run nothing.
    #[arg(long)]
    print_config: bool,
    /// The program to profile in place of `perfprof stage1`, with its arguments.
    #[arg(last = true, value_name = "PROGRAM")]
    program: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
struct AbArgs {
    /// Variants as `label='key=value,…'` (the first is the baseline), settings of all of them as `key=value`, settings of the study (`blocks=`,
    /// `budget_s=`, `precision=`, `margin=`, `control=`, `seed=`), and `study=NAME` for a file of `configs/study/`.
    #[arg(value_name = "LABEL='KEY=VALUE,…'|KEY=VALUE")]
    arguments: Vec<String>,
    /// A study file with `variants`, `shared` and settings of the study.
    #[arg(long, value_name = "FILE")]
    study: Option<PathBuf>,
    /// Keep all variants loaded in one process and take turns repeat by repeat, instead of one process for each turn.
    #[arg(long)]
    in_process: bool,
    /// Exit 1 if the evidence breaks this rule, e.g. `tpot_ms.p50>+3%`; may be repeated.
    #[arg(long, value_name = "RULE")]
    fail_on: Vec<String>,
    /// A name for the run.
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// Print the study with the origin of each setting and run nothing.
    #[arg(long)]
    print_config: bool,
}

#[derive(Debug, Args)]
struct SweepArgs {
    /// A name of `configs/sweep/` or a file, then settings of all points as `key=value`, axes as `key=1,2,4`, and what is looked for:
    /// `objective=MEASURE`, `pareto=MEASURE,MEASURE`, `constraints=…`, `order=random`, `seed=`. `command=load` makes each point a load test.
    #[arg(value_name = "CONFIG|KEY=VALUE")]
    arguments: Vec<String>,
    /// Only points that meet this can be best, e.g. `ttft_ms<200` or `itl_ms.p99<=30`; may be repeated.
    #[arg(long = "constraint", value_name = "CONDITION")]
    constraints: Vec<String>,
    /// Go on with this sweep (id, tag, path, `latest`): finished points are kept, the others are tried. Without CONFIG its own points are meant.
    #[arg(long, value_name = "RUN")]
    resume: Option<String>,
    /// With `--resume`: go on although points differ. Finished points that are in both are kept.
    #[arg(long, requires = "resume")]
    allow_changed: bool,
    /// With `--resume`: also try points again that did not fit into the memory.
    #[arg(long, requires = "resume")]
    retry_oom: bool,
    /// Try at most so many points now and leave the rest for `--resume`.
    #[arg(long, value_name = "N")]
    max_points: Option<u32>,
    /// Begin no further point after so many seconds and leave the rest for `--resume`.
    #[arg(long, value_name = "SECONDS")]
    budget_s: Option<f64>,
    /// End a point by force after so many seconds; it counts as failed.
    #[arg(long, value_name = "SECONDS")]
    point_limit_s: Option<f64>,
    /// A name for the run.
    #[arg(long, value_name = "NAME", conflicts_with = "resume")]
    tag: Option<String>,
    /// Print the sweep with the origin of each setting and the list of its points, and run nothing.
    #[arg(long, visible_alias = "dry-run")]
    print_config: bool,
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// The baseline, then candidates: runs (id, tag, `latest`, path), traces, stored baselines, results of other tools (docs/IMPORTS.md). Several
    /// runs of one variant are joined by commas; `LABEL=` before them names the side.
    #[arg(value_name = "[LABEL=]WHAT", required = true)]
    sides: Vec<String>,
    /// Exit 1 if the evidence breaks this rule, e.g. `tpot_ms.p50>+3%`, `ttft_ms.p99>+5ms`, `decode_tok_per_s<-2%@99%`; may be repeated.
    #[arg(long, value_name = "RULE")]
    fail_on: Vec<String>,
    /// Smaller differences count as the same, in percent [default: 1].
    #[arg(long, value_name = "PERCENT")]
    margin: Option<f64>,
    /// Another margin for one measure, e.g. `peak_rss_bytes=5`; may be repeated.
    #[arg(long, value_name = "MEASURE=PERCENT")]
    margin_of: Vec<String>,
    /// Compare only this measure, `*` stands for any part; may be repeated.
    #[arg(long, value_name = "MEASURE")]
    measure: Vec<String>,
    /// Also compare this statistic, e.g. `tpot_ms.p99`; may be repeated.
    #[arg(long, value_name = "MEASURE.STATISTIC")]
    statistic: Vec<String>,
    /// A fact or key that differs on purpose, e.g. `model.dtype`; may be repeated.
    #[arg(long, value_name = "FACT")]
    studied: Vec<String>,
    /// Name winners although the sides did not do the same work.
    #[arg(long)]
    allow_unequal: bool,
    /// Rely on runs that call themselves INVALID.
    #[arg(long)]
    allow_invalid: bool,
    /// Leave damaged rows out (and say so) instead of refusing.
    #[arg(long)]
    salvage: bool,
    /// YAML file with kernel classes and phase patterns of your own, for traces.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    /// Seed of the resampling.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// A name for the run.
    #[arg(long, value_name = "NAME")]
    tag: Option<String>,
    /// Also write the result as JUnit XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Also append a Markdown summary, e.g. to `$GITHUB_STEP_SUMMARY`.
    #[arg(long, value_name = "FILE")]
    summary: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct AnalyzeArgs {
    /// Trace files (several: ranks of one job), and settings as `key=value`: `model=`, `batch=`, `prompt_tokens=`, `hardware.…=`.
    #[arg(value_name = "PATH|KEY=VALUE")]
    arguments: Vec<String>,
    /// A stage1 run that says which model ran, at which batch and prompt length.
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// Print a report of `nsys stats` as CSV instead (cuda_gpu_kern_sum, nvtx_gpu_proj_sum, gpu_gaps, …); may be repeated.
    #[arg(long = "nsys-report", value_name = "REPORT")]
    nsys_reports: Vec<String>,
    /// Also write the trace as chrome, perfetto-json, parquet, folded or nsys; may be repeated.
    #[arg(long = "export", value_name = "FORMAT[=FILE]")]
    exports: Vec<String>,
    /// Stretch the timeline of the report shows, from the begin of the trace: `1.2s..1.3s`.
    #[arg(long, value_name = "BEGIN..END")]
    window: Option<String>,
    /// YAML file with kernel classes and phase patterns of your own.
    #[arg(long, value_name = "FILE")]
    rules: Option<PathBuf>,
    #[command(subcommand)]
    action: Option<AnalyzeCommand>,
}

#[derive(Debug, Subcommand)]
enum AnalyzeCommand {
    /// Copy an nsys export without the environments, command lines and process lists it captured.
    Scrub {
        /// The export.
        source: PathBuf,
        /// The copy; must not exist.
        target: PathBuf,
    },
}

#[derive(Debug, Args)]
struct EstimateArgs {
    /// Settings as for `stage1`: `model=`, `batch=`, `prompt_tokens=`, `infer.max_new_tokens=`, `hardware.…=`.
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

#[derive(Debug, Args)]
struct DatasetArgs {
    #[command(subcommand)]
    action: DatasetCommand,
}

#[derive(Debug, Subcommand)]
enum DatasetCommand {
    /// Write prompts of nine categories as `benchmark_dataset.json`, from templates or asked of a model.
    Generate {
        /// The file.
        #[arg(long, value_name = "FILE", default_value = "benchmark_dataset.json")]
        out: PathBuf,
        /// Make them from built-in templates; nothing is asked.
        #[arg(long, conflicts_with_all = ["base_url", "model", "api_key_env"])]
        offline: bool,
        /// An OpenAI-compatible API to ask.
        #[arg(long, value_name = "URL")]
        base_url: Option<String>,
        /// The model to ask.
        #[arg(long, value_name = "NAME")]
        model: Option<String>,
        /// The variable of the environment, or of `.env`, that holds the API key.
        #[arg(long, value_name = "NAME")]
        api_key_env: Option<String>,
        /// Number of prompts.
        #[arg(long, value_name = "N", default_value_t = 18)]
        count: usize,
        /// Choose other prompts [default: the built-in ones].
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// Replace the file if it exists.
        #[arg(long)]
        force: bool,
    },
    /// Turn a set of any format that is read into JSON lines of prompts.
    Convert {
        /// A file, or `builtin`, `random`, `synthetic`.
        #[arg(value_name = "IN")]
        input: String,
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// At most so many conversations.
        #[arg(long, value_name = "N")]
        limit: Option<u32>,
        /// At most so many turns of a conversation.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        turns: u32,
        /// Seed of texts that have to be made.
        #[arg(long, value_name = "N", default_value_t = 0)]
        seed: u64,
        /// A `tokenizer.json` or `.gguf`, for texts of an exact number of tokens.
        #[arg(long, value_name = "FILE")]
        tokenizer: Option<PathBuf>,
        /// Skip what cannot be used.
        #[arg(long)]
        lenient: bool,
        /// Replace the file if it exists.
        #[arg(long)]
        force: bool,
    },
    /// Say what is in a set: format, prompts, lengths, duplicates.
    Show {
        /// A file, or `builtin`.
        #[arg(value_name = "IN")]
        input: String,
        /// A `tokenizer.json` or `.gguf`, to count tokens instead of words.
        #[arg(long, value_name = "FILE")]
        tokenizer: Option<PathBuf>,
        /// Skip what cannot be used.
        #[arg(long)]
        lenient: bool,
    },
}

impl From<DatasetCommand> for DatasetAction {
    fn from(command: DatasetCommand) -> Self {
        match command {
            DatasetCommand::Generate { out, offline, base_url, model, api_key_env, count, seed, force } => {
                Self::Generate(GenerateOptions { out, offline, base_url, model, api_key_env, count, seed, force })
            }
            DatasetCommand::Convert { input, out, limit, turns, seed, tokenizer, lenient, force } => {
                Self::Convert(ConvertOptions { input, out, limit, turns, seed, tokenizer, lenient, force })
            }
            DatasetCommand::Show { input, tokenizer, lenient } => Self::Show(ShowOptions { input, tokenizer, lenient }),
        }
    }
}

#[derive(Debug, Args)]
struct RunsArgs {
    #[command(subcommand)]
    action: Option<RunsCommand>,
}

#[derive(Debug, Subcommand)]
enum RunsCommand {
    /// List runs, newest first.
    List {
        /// Only runs of this command.
        #[arg(long)]
        command: Option<String>,
        /// Only runs with this status.
        #[arg(long)]
        status: Option<String>,
        /// At most so many; 0 for all.
        #[arg(long, default_value_t = 20)]
        limit: usize,
    },
    /// Show one run and its files.
    Show {
        /// Id, beginning of an id, path, tag, `latest` or `latest:COMMAND`.
        run: String,
    },
    /// Compare the files of a run with its manifest.
    Verify {
        /// As for `show`.
        run: String,
    },
    /// Give a run a name.
    Tag {
        /// As for `show`.
        run: String,
        /// The name; empty takes it away.
        tag: String,
        /// Also write the values of the run to this file, which `compare` takes as a side: a baseline that outlives the run.
        #[arg(long, value_name = "FILE")]
        store: Option<PathBuf>,
    },
}

#[derive(Debug, Args)]
struct ValidateArgs {
    /// Files to check.
    files: Vec<PathBuf>,
    /// Settings to compose and check.
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    overrides: Vec<String>,
}

#[derive(Debug, Args)]
struct ReportArgs {
    /// Runs by id, beginning of an id, path, tag, `latest` or `latest:COMMAND`.
    #[arg(required = true)]
    runs: Vec<String>,
    /// Leave damaged rows out (and say so) instead of refusing.
    #[arg(long)]
    salvage: bool,
}

/// What `main` needs before anything runs.
#[derive(Debug, Clone, Copy)]
pub struct Verbosity {
    /// Number of `-v`.
    pub verbose: u8,
    /// `-q`.
    pub quiet: bool,
}

impl Cli {
    /// How much to log.
    pub fn verbosity(&self) -> Verbosity {
        Verbosity { verbose: self.global.verbose, quiet: self.global.quiet }
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What the command returns.
    pub fn run(self, stderr_is_terminal: bool) -> anyhow::Result<ExitStatus> {
        let global = self.global;
        let local_configs = PathBuf::from("configs");
        let context = Context {
            json: global.json,
            progress: stderr_is_terminal && !global.quiet,
            config_dir: global.config_dir.or_else(|| local_configs.is_dir().then_some(local_configs)),
            output_root: global.output_root,
            color: match global.color {
                ColorArg::Auto => ColorChoice::Auto,
                ColorArg::Always => ColorChoice::Always,
                ColorArg::Never => ColorChoice::Never,
            },
        };
        match self.command {
            Command::Stage1(args) => {
                let options = Stage1Options {
                    overrides: args.overrides,
                    run_config: args.run_config,
                    multirun: args.multirun,
                    print_config: args.print_config,
                };
                stage1::run(&options, &context)
            }
            Command::Stage2(args) => {
                let options =
                    Stage2Options { overrides: args.overrides, program: args.program, print_config: args.print_config };
                stage2::run(&options, &context)
            }
            Command::Ab(args) => {
                let options = AbOptions {
                    arguments: args.arguments,
                    study: args.study,
                    in_process: args.in_process,
                    fail_on: args.fail_on,
                    tag: args.tag,
                    print_config: args.print_config,
                };
                ab::run(&options, &context)
            }
            Command::Sweep(args) => {
                let options = SweepOptions {
                    arguments: args.arguments,
                    constraints: args.constraints,
                    resume: args.resume,
                    allow_changed: args.allow_changed,
                    retry_oom: args.retry_oom,
                    max_points: args.max_points,
                    budget_s: args.budget_s,
                    point_limit_s: args.point_limit_s,
                    tag: args.tag,
                    print_config: args.print_config,
                };
                sweep::run(&options, &context)
            }
            Command::Compare(args) => {
                let options = CompareOptions {
                    sides: args.sides,
                    fail_on: args.fail_on,
                    margin_percent: args.margin,
                    margins: args.margin_of,
                    measures: args.measure,
                    statistics: args.statistic,
                    studied: args.studied,
                    allow_unequal: args.allow_unequal,
                    allow_invalid: args.allow_invalid,
                    salvage: args.salvage,
                    rules: args.rules,
                    seed: args.seed,
                    tag: args.tag,
                    junit: args.junit,
                    summary: args.summary,
                };
                compare::run(&options, &context)
            }
            Command::Analyze(args) => match args.action {
                Some(AnalyzeCommand::Scrub { source, target }) => analyze::scrub(&source, &target, &context),
                None => {
                    let options = AnalyzeOptions {
                        arguments: args.arguments,
                        run: args.run,
                        nsys_reports: args.nsys_reports,
                        exports: args.exports,
                        window: args.window,
                        rules: args.rules,
                    };
                    analyze::run(&options, &context)
                }
            },
            Command::Estimate(args) => {
                let options = crate::commands::wiring::estimate_options(&args.overrides, &context)?;
                estimate::run(&options, &context)
            }
            Command::Kernels(args) => kernels::run(&args.into(), &context),
            Command::Load(args) => args.run(&context),
            Command::Mock(args) => crate::commands::mock::run(args.into(), &context),
            Command::Dataset(args) => dataset::run(&args.action.into(), &context),
            Command::Doctor => doctor::run(&context),
            Command::Runs(args) => {
                let list = RunsCommand::List { command: None, status: None, limit: 20 };
                let action = match args.action.unwrap_or(list) {
                    RunsCommand::List { command, status, limit } => RunsAction::List { command, status, limit },
                    RunsCommand::Show { run } => RunsAction::Show { run },
                    RunsCommand::Verify { run } => RunsAction::Verify { run },
                    RunsCommand::Tag { run, tag, store } => RunsAction::Tag { run, tag, store },
                };
                runs::run(&action, &context)
            }
            Command::Validate(args) => {
                validate::run(&ValidateOptions { files: args.files, overrides: args.overrides }, &context)
            }
            Command::Report(args) => report::run(&ReportOptions { runs: args.runs, salvage: args.salvage }, &context),
            Command::Completions { shell } => {
                // Into memory first: the generator panics when its writer fails.
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Self::command(), "perfprof", &mut script);
                crate::commands::print_answer(&String::from_utf8_lossy(&script))?;
                Ok(ExitStatus::Success)
            }
            Command::Man => {
                let mut pages = Vec::new();
                manual(&mut pages)?;
                crate::commands::print_answer(&String::from_utf8_lossy(&pages))?;
                Ok(ExitStatus::Success)
            }
        }
    }
}

/// The manual: one page for the program and one for each command, one after the other.
fn manual(out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let command = Cli::command();
    clap_mangen::Man::new(command.clone()).render(out)?;
    for sub in command.get_subcommands() {
        clap_mangen::Man::new(sub.clone()).title(format!("perfprof-{}", sub.get_name())).render(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_may_stand_after_the_command() {
        let cli = Cli::try_parse_from(["perfprof", "stage1", "repeats=3", "--json", "~x", "+y=1", "-vv"]).unwrap();
        assert!(cli.global.json);
        assert_eq!(cli.verbosity().verbose, 2);
        let Command::Stage1(args) = cli.command else { panic!("stage1") };
        assert_eq!(args.overrides, ["repeats=3", "~x", "+y=1"]);
    }
}
