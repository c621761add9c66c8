//! Command lines of nsys, and what its words mean.

use std::ffi::OsString;
use std::path::Path;

use crate::config::schema::stage2::{CaptureChoice, GraphChoice, NsysSettings};

/// One capture: a run of the workload under nsys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Capture {
    /// What its files are called by; `all` for the whole run.
    pub name: String,
    /// The range that opens it, as NAME or NAME@DOMAIN.
    pub range: Option<String>,
}

/// The captures that `settings` ask for.
pub(super) fn captures(settings: &NsysSettings) -> Vec<Capture> {
    if settings.capture != CaptureChoice::Nvtx {
        return vec![Capture { name: "all".to_owned(), range: None }];
    }
    let mut captures: Vec<Capture> = Vec::new();
    for range in &settings.ranges {
        let bare = file_name(range.split('@').next().unwrap_or(range));
        let taken = captures.iter().filter(|known| known.name.split('.').next() == Some(&bare)).count();
        let name = if taken == 0 { bare } else { format!("{bare}.{}", taken + 1) };
        captures.push(Capture { name, range: Some(range.clone()) });
    }
    captures
}

/// A range as part of a file name.
fn file_name(range: &str) -> String {
    let name: String = range
        .chars()
        .take(40)
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '_' })
        .collect();
    if name.is_empty() { "range".to_owned() } else { name }
}

/// A path for an option in which `%` begins a macro.
pub(super) fn literal(path: &Path) -> OsString {
    match path.to_str() {
        Some(text) => text.replace('%', "%%").into(),
        None => path.as_os_str().to_owned(),
    }
}

/// `--name=value`.
fn option(name: &str, value: impl AsRef<std::ffi::OsStr>) -> OsString {
    let mut option = OsString::from(name);
    option.push("=");
    option.push(value);
    option
}

/// Arguments of `nsys` that run `workload` and write `report` (whose extension nsys adds).
pub(super) fn profile(
    settings: &NsysSettings,
    capture: &Capture,
    report: &Path,
    workload: &[OsString],
) -> Vec<OsString> {
    let graph = match settings.graph {
        GraphChoice::Node => "node",
        GraphChoice::Graph => "graph",
    };
    let mut arguments = vec![
        OsString::from("profile"),
        option("--trace", settings.trace.join(",")),
        option("--cuda-graph-trace", graph),
        option("--sample", &settings.sample),
        option("--cpuctxsw", &settings.sample),
    ];
    match (settings.capture, &capture.range) {
        (CaptureChoice::None, _) => {}
        (CaptureChoice::CudaProfilerApi, _) => {
            arguments.extend([option("--capture-range", "cudaProfilerApi"), option("--capture-range-end", "stop")]);
        }
        (CaptureChoice::Nvtx, range) => {
            arguments.extend([
                option("--capture-range", "nvtx"),
                option("--nvtx-capture", range.as_deref().unwrap_or_default()),
                option("--capture-range-end", "stop"),
                // By default only registered strings open a capture, and most programs push plain ones.
                option("--env-var", "NSYS_NVTX_PROFILER_REGISTER_ONLY=0"),
            ]);
        }
    }
    arguments.extend([option("--force-overwrite", "true"), option("--output", literal(report))]);
    arguments.extend(settings.extra_args.iter().map(OsString::from));
    arguments.extend(workload.iter().cloned());
    arguments
}

/// Arguments of `nsys` that export `report` to `database`.
pub(super) fn export(report: &Path, database: &Path) -> Vec<OsString> {
    let mut arguments: Vec<OsString> =
        ["export", "--type", "sqlite", "--lazy=true", "--force-overwrite=true", "--output"].map(OsString::from).into();
    arguments.push(literal(database));
    arguments.push(report.into());
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(capture: CaptureChoice) -> NsysSettings {
        NsysSettings {
            enabled: true,
            path: None,
            trace: vec!["cuda".to_owned(), "nvtx".to_owned(), "osrt".to_owned()],
            capture,
            ranges: vec!["prefill@perfprof".to_owned(), "decode@perfprof".to_owned()],
            graph: GraphChoice::Node,
            sample: "none".to_owned(),
            timeout_s: 1,
            extra_args: vec!["--wait=all".to_owned()],
        }
    }
    fn words(arguments: Vec<OsString>) -> Vec<String> {
        arguments.into_iter().map(|word| word.into_string().unwrap()).collect()
    }
    const WORKLOAD: [&str; 3] = ["/bin/engine", "a b", "$(x)"];

    #[test]
    fn the_whole_run_is_captured_in_one_and_arguments_stay_whole() {
        let settings = settings(CaptureChoice::None);
        let [all] = &captures(&settings)[..] else { panic!("one capture") };
        let workload = WORKLOAD.map(OsString::from);
        assert_eq!(
            words(profile(&settings, all, Path::new("/r/50%/all"), &workload)),
            [
                "profile",
                "--trace=cuda,nvtx,osrt",
                "--cuda-graph-trace=node",
                "--sample=none",
                "--cpuctxsw=none",
                "--force-overwrite=true",
                "--output=/r/50%%/all",
                "--wait=all",
                "/bin/engine",
                "a b",
                "$(x)"
            ]
        );
    }

    #[test]
    fn a_range_each_has_a_capture_each() {
        let mut settings = settings(CaptureChoice::Nvtx);
        settings.ranges.push("decode@other".to_owned());
        settings.ranges.push("a/b c::d".to_owned());
        let captures = captures(&settings);
        let names: Vec<&str> = captures.iter().map(|capture| capture.name.as_str()).collect();
        assert_eq!(names, ["prefill", "decode", "decode.2", "a_b_c__d"]);
        let line = words(profile(&settings, &captures[0], Path::new("p"), &[]));
        let gate = [
            "--capture-range=nvtx",
            "--nvtx-capture=prefill@perfprof",
            "--capture-range-end=stop",
            "--env-var=NSYS_NVTX_PROFILER_REGISTER_ONLY=0",
        ];
        assert_eq!(&line[5..9], gate);
        settings.capture = CaptureChoice::CudaProfilerApi;
        let line = words(profile(&settings, &super::captures(&settings)[0], Path::new("p"), &[]));
        assert_eq!(&line[5..7], ["--capture-range=cudaProfilerApi", "--capture-range-end=stop"]);
    }

    #[test]
    fn an_export_names_its_files() {
        let line = words(export(Path::new("a.nsys-rep"), Path::new("b.sqlite")));
        assert_eq!(
            line.join(" "),
            "export --type sqlite --lazy=true --force-overwrite=true --output b.sqlite a.nsys-rep"
        );
    }
}
