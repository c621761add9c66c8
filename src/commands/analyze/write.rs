//! Runs the analyses on what was read and writes the run directory.

use indicatif::{ProgressBar, ProgressStyle};

use super::super::{Context, print_run};
use super::exports::Export;
use super::inputs::Read;
use super::settings::Settings;
use crate::diagnostics::{ExitStatus, Failure};
use crate::record::inputs::{FileInput, to_yaml};
use crate::record::redact::Redactor;
use crate::record::run_dir::{RunDir, RunOptions, RunStatus, rfc3339};
use crate::record::{RecordError, environment, manifest};
use crate::report::AssumptionSection;
use crate::report::analyze::{self as report, AnalyzeReport};
use crate::runner::analyze::{self, Analysis, AnalyzeSettings, assumptions};

/// Traces above this size are not hashed: it would take longer than their analysis.
const HASH_LIMIT_BYTES: u64 = 256 << 20;

pub(super) fn analyze(
    mut read: Read,
    settings: &Settings,
    exports: &[Export],
    context: &Context,
    redactor: &Redactor,
) -> anyhow::Result<ExitStatus> {
    for file in &mut read.files {
        file.name = redactor.text(&file.name);
    }
    let bar = context.progress.then(|| {
        let bar = ProgressBar::new_spinner();
        bar.set_style(
            ProgressStyle::with_template("{spinner} {msg} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(std::time::Duration::from_millis(100));
        bar
    });
    let progress = |pass: &'static str| {
        tracing::info!(pass, "analysing");
        if let Some(bar) = &bar {
            bar.set_message(pass);
        }
    };
    let analysis = analyze::analyze(
        &read.trace.timeline,
        &AnalyzeSettings {
            classifier: &settings.classifier,
            patterns: &settings.patterns,
            workload: settings.workload.as_ref(),
            peaks: &settings.peaks,
            window_ns: settings.window_ns,
            progress: &progress,
        },
    )
    .map_err(|error| Failure::new(ExitStatus::Usage, error.to_string()).because(error))?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    let mut directory = RunDir::create_with(&context.output_root, "analyze", RunOptions::default())
        .map_err(RecordError::into_failure)?;
    match write(&mut directory, &read, &analysis, settings, exports, context) {
        Ok(status) => Ok(status),
        Err(error) => {
            // The directory may be gone or full; the error that brought us here matters more than a second one.
            let _ = directory.finish(RunStatus::Failed, Some(&format!("{error:#}")));
            Err(error)
        }
    }
}

fn write(
    directory: &mut RunDir,
    read: &Read,
    analysis: &Analysis,
    settings: &Settings,
    exports: &[Export],
    context: &Context,
) -> anyhow::Result<ExitStatus> {
    let record = |error: RecordError| error.into_failure();
    let timeline = &read.trace.timeline;
    let metrics =
        analyze::metrics(directory.run_id(), timeline, analysis, &read.ncu, &read.files, &read.trace.diagnostics);
    let sections = assumptions::sections(&metrics, analysis, settings.workload.as_ref(), settings.user_rules);
    let sections: Vec<AssumptionSection> =
        sections.into_iter().map(|(title, lines)| AssumptionSection { title, lines }).collect();
    let said = directory.redactor().text(&to_yaml(&settings.said)?);
    directory.write("config.yaml", said.as_bytes()).map_err(record)?;
    directory.write("inputs.yaml", to_yaml(&inputs(read))?.as_bytes()).map_err(record)?;
    directory.write_json("env.json", &environment::capture(serde_json::Value::Null)).map_err(record)?;
    directory.write_json("metrics.json", &metrics).map_err(record)?;
    let generated_at = rfc3339(jiff::Timestamp::now());
    let view = AnalyzeReport { metrics: &metrics, analysis, assumptions: &sections, generated_at: &generated_at };
    for (name, text) in report::files(&view)? {
        directory.write(name, text.as_bytes()).map_err(record)?;
    }
    for export in exports {
        let path = export.write(directory.path(), timeline, &analysis.flame)?;
        tracing::info!(path = %path.display(), "exported");
    }
    let status = if metrics.validity.is_valid() { RunStatus::Complete } else { RunStatus::Invalid };
    directory.finish(status, None).map_err(record)?;
    print_run(&metrics, directory.path(), "report.html", context, |color, width| report::console(&view, color, width))?;
    Ok(if status == RunStatus::Complete { ExitStatus::Success } else { ExitStatus::Invalid })
}

#[derive(serde::Serialize)]
struct TraceInputs {
    schema_version: u32,
    files: Vec<FileInput>,
}

fn inputs(read: &Read) -> TraceInputs {
    let files = read
        .paths
        .iter()
        .zip(&read.files)
        .map(|(path, file)| FileInput {
            role: "trace".to_owned(),
            path: path.display().to_string(),
            bytes: file.bytes,
            sha256: (file.bytes <= HASH_LIMIT_BYTES)
                .then(|| manifest::entry(path).ok().map(|entry| entry.sha256))
                .flatten(),
        })
        .collect();
    TraceInputs { schema_version: 1, files }
}
