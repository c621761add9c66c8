//! `perfprof validate`: checks settings files and whole compositions without running anything.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::Context;
use crate::config::compose::{ComposeRequest, compose, findings};
use crate::config::schema::keys;
use crate::config::study::{StudyRequest, study};
use crate::config::sweep::{SweepRequest, sweep};
use crate::config::{self, ConfigError, dataset, yaml};
use crate::diagnostics::{ExitStatus, escape_control};
use crate::runner::sweep::check_goals;

/// What to check.
#[derive(Debug, Clone, Default)]
pub struct ValidateOptions {
    /// Files and directories; with none, the directory of settings in use and the composition of `overrides`.
    pub files: Vec<PathBuf>,
    /// Overrides that apply to every composition.
    pub overrides: Vec<String>,
}

/// What a file is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    /// `config.yaml`.
    Root,
    /// `load.yaml`, the root of `load`.
    LoadRoot,
    /// `models.yaml`.
    Registry,
    /// A file of a group that `stage1`, `stage2` or `load` composes.
    Choice { group: String, name: String },
    /// A study of variants.
    Study,
    /// A sweep over points.
    Sweep,
    /// A file of a group whose settings have no types yet.
    SyntaxOnly { group: String },
    /// A run file of a load test.
    LoadRunFile,
    /// Anything else: an experiment.
    RunFile,
}

impl Role {
    fn words(&self) -> String {
        match self {
            Self::Root => "root file".to_owned(),
            Self::LoadRoot => "root file of load".to_owned(),
            Self::Registry => "model registry".to_owned(),
            Self::Choice { group, .. } => format!("{group} file"),
            Self::Study => "study file".to_owned(),
            Self::Sweep => "sweep file".to_owned(),
            Self::SyntaxOnly { group } => format!("{group} file, syntax only"),
            Self::LoadRunFile => "run file of load".to_owned(),
            Self::RunFile => "run file".to_owned(),
        }
    }
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    file: Option<String>,
    line: Option<u64>,
    message: String,
    hints: Vec<String>,
}

impl From<ConfigError> for Finding {
    fn from(error: ConfigError) -> Self {
        let place = error.place().map(|(file, line)| (file.to_owned(), line));
        let message = match &error {
            ConfigError::Io { source, .. } => format!("{error}: {source}"),
            _ => error.to_string(),
        };
        Self {
            line: place.as_ref().map(|(_, line)| *line).filter(|line| *line > 0),
            file: place.map(|(file, _)| file),
            hints: error.hints(),
            message,
        }
    }
}

/// Runs the command: prints what was found; exit code 1 if anything was.
pub fn run(options: &ValidateOptions, context: &Context) -> anyhow::Result<ExitStatus> {
    let (checked, found) = check(options, context.config_dir.as_deref());
    let text = if context.json { render_json(&checked, &found) } else { render_text(&checked, &found) };
    super::print_answer(&text)?;
    Ok(if found.is_empty() { ExitStatus::Success } else { ExitStatus::Usage })
}

/// Checks everything; returns what was checked, in words, and the findings, each once.
fn check(options: &ValidateOptions, config_dir: Option<&Path>) -> (Vec<String>, Vec<Finding>) {
    let mut checked = Vec::new();
    let mut found: Vec<Finding> = Vec::new();
    let mut note = |finding: Finding| {
        if !found.contains(&finding) {
            found.push(finding);
        }
    };
    let mut files = Vec::new();
    let in_use = config_dir.filter(|_| options.files.is_empty()).map(Path::to_owned);
    for path in options.files.iter().cloned().chain(in_use) {
        if path.is_dir() {
            match yaml_files(&path) {
                Ok(below) => files.extend(below.into_iter().map(|file| (file, Some(path.clone())))),
                Err(source) => note(ConfigError::Io { path, source }.into()),
            }
        } else {
            files.push((path, None));
        }
    }
    for (file, directory) in &files {
        let role = role_of(file);
        checked.push(format!("{} ({})", file.display(), role.words()));
        let directory = directory.as_deref().or(config_dir);
        check_file(file, &role, directory, &options.overrides).into_iter().for_each(&mut note);
    }
    if options.files.is_empty() {
        let request = request(&options.overrides, config_dir);
        let of = &request.command;
        checked.push(if options.overrides.is_empty() {
            format!("the settings of {of}")
        } else {
            format!("the settings of {of} with {}", options.overrides.join(" "))
        });
        check_composition(&request, &[]).into_iter().for_each(&mut note);
    }
    (checked, found)
}

/// Whether a key is one of `command` and not of `stage1`; of a path its first part counts. A group counts by its name.
fn is_only_of(command: &str, key: &str) -> bool {
    let first = key.split(['.', '=']).next().unwrap_or_default();
    let has = |command: &str| keys::of_command(command).is_some_and(|keys| keys::find(keys, first).is_some());
    first == command || (has(command) && !has("stage1"))
}

fn request(overrides: &[String], config_dir: Option<&Path>) -> ComposeRequest {
    let any_of = |command: &str| overrides.iter().any(|text| is_only_of(command, text.trim_start_matches(['+', '~'])));
    let command = ["stage2", "load"].into_iter().find(|command| any_of(command)).unwrap_or("stage1");
    ComposeRequest {
        command: command.to_owned(),
        overrides: overrides.to_vec(),
        run_config: None,
        config_dir: config_dir.map(Path::to_owned),
    }
}

/// Every `.yaml` file below `directory`, sorted; hidden ones are left out.
fn yaml_files(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            // A link may lead into a circle.
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "yaml") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

/// By its name and folder, as in `configs/`; a registry under another name by its content.
fn role_of(file: &Path) -> Role {
    const COMPOSED: [&str; 8] = ["model", "hardware", "dataset", "engine", "profiling", "quality", "stage2", "load"];
    const UNTYPED: [&str; 1] = ["backend"];
    const POINTS: [&str; 3] = ["grid", "list", "random"];
    let part =
        |text: Option<&std::ffi::OsStr>| text.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default();
    let name = part(file.file_stem());
    let group = part(file.parent().and_then(Path::file_name));
    if COMPOSED.contains(&group.as_str()) {
        Role::Choice { group, name }
    } else if group == "study" || yaml::read(file).is_ok_and(|document| document.value["variants"].is_object()) {
        Role::Study
    } else if group == "sweep"
        || yaml::read(file).is_ok_and(|document| POINTS.iter().any(|key| document.value.get(key).is_some()))
    {
        Role::Sweep
    } else if UNTYPED.contains(&group.as_str()) {
        Role::SyntaxOnly { group }
    } else if name == "models" || yaml::read(file).is_ok_and(|document| document.value["models"].is_object()) {
        Role::Registry
    } else if yaml::read(file).is_ok_and(|document| document.value["defaults"].is_array()) {
        if name == "load" { Role::LoadRoot } else { Role::Root }
    } else if yaml::read(file).is_ok_and(|document| is_load_run_file(&document.value)) {
        Role::LoadRunFile
    } else {
        Role::RunFile
    }
}

/// Whether more of the keys are of `load` alone than of `stage1` alone.
fn is_load_run_file(value: &serde_json::Value) -> bool {
    let Some(entries) = value.as_object() else { return false };
    let of = |command: &str, other: &str| {
        let has =
            |command: &str, key: &str| keys::of_command(command).is_some_and(|keys| keys::find(keys, key).is_some());
        entries.keys().filter(|key| has(command, key) && !has(other, key)).count()
    };
    of("load", "stage1") + usize::from(entries.contains_key("load")) > of("stage1", "load")
}

fn check_file(file: &Path, role: &Role, config_dir: Option<&Path>, overrides: &[String]) -> Vec<Finding> {
    let mut request = request(overrides, config_dir);
    match role {
        Role::SyntaxOnly { .. } => yaml::read(file).err().map(Finding::from).into_iter().collect(),
        Role::Study => {
            let request = StudyRequest {
                arguments: overrides.to_vec(),
                file: Some(file.to_owned()),
                config_dir: config_dir.map(Path::to_owned),
            };
            study(&request).err().map(Finding::from).into_iter().collect()
        }
        Role::Sweep => check_sweep(file, config_dir, overrides),
        Role::Root => check_composition(&request, &[("config.yaml".to_owned(), file.to_owned())]),
        Role::LoadRoot => {
            "load".clone_into(&mut request.command);
            check_composition(&request, &[("load.yaml".to_owned(), file.to_owned())])
        }
        Role::RunFile | Role::LoadRunFile => {
            if *role == Role::LoadRunFile {
                "load".clone_into(&mut request.command);
            }
            request.run_config = Some(file.to_owned());
            check_composition(&request, &[])
        }
        Role::Choice { group, name } => {
            if group == "stage2" || group == "load" {
                group.clone_into(&mut request.command);
            }
            request.overrides.push(format!("{group}='{}'", name.replace('\\', "\\\\").replace('\'', "\\'")));
            check_composition(&request, &[(format!("{group}/{name}.yaml"), file.to_owned())])
        }
        Role::Registry => {
            let placed = [("models.yaml".to_owned(), file.to_owned())];
            let aliases = match config::aliases(file) {
                Ok(aliases) => aliases,
                Err(error) => return vec![error.into()],
            };
            let mut found = Vec::new();
            for alias in aliases {
                let mut request = request.clone();
                request.overrides.push(format!("model='{}'", alias.replace('\\', "\\\\").replace('\'', "\\'")));
                found.extend(check_composition(&request, &placed));
            }
            found
        }
    }
}

/// The first mistake of a sweep or of its points, and what it looks for in vain.
fn check_sweep(file: &Path, config_dir: Option<&Path>, overrides: &[String]) -> Vec<Finding> {
    let name = file.display().to_string();
    // A bare name would be looked up among the presets.
    let path = if name.contains('/') { name.clone() } else { format!("./{name}") };
    let request = SweepRequest {
        arguments: std::iter::once(path).chain(overrides.iter().cloned()).collect(),
        constraints: Vec::new(),
        config_dir: config_dir.map(Path::to_owned),
    };
    let sweep = match sweep(&request) {
        Ok(sweep) => sweep,
        Err(error) => return vec![error.into()],
    };
    let goals = check_goals(&sweep.command, sweep.objective.as_deref(), &sweep.constraints, &sweep.pareto);
    let finding = |error: crate::runner::sweep::GoalError| Finding {
        file: Some(name),
        line: None,
        message: error.to_string(),
        hints: vec![error.hint(&sweep.command)],
    };
    goals.err().map(finding).into_iter().collect()
}

/// The findings of a composition, and of the set of prompts it names.
fn check_composition(request: &ComposeRequest, placed: &[(String, PathBuf)]) -> Vec<Finding> {
    let mut found: Vec<Finding> = findings(request, placed).into_iter().map(Finding::from).collect();
    // A load test makes or reads its prompts when it is run.
    if !found.is_empty() || !placed.is_empty() || request.command == "load" {
        return found;
    }
    let settings = compose(request).and_then(|composed| match request.command.as_str() {
        "stage2" => composed.stage2().map(|config| config.stage1),
        _ => composed.stage1(),
    });
    let Ok(settings) = settings else { return found };
    if settings.dataset.root.is_some()
        && let Err(error) = dataset::load(&settings.dataset)
    {
        let cause = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        found.push(Finding { file: None, line: None, message: format!("{error}{cause}"), hints: Vec::new() });
    }
    found
}

fn render_text(checked: &[String], found: &[Finding]) -> String {
    let mut text = String::new();
    for finding in found {
        // A message that does not begin with its place gets it in front, where editors look for it.
        let place = match (&finding.file, finding.line) {
            (Some(file), Some(line)) => format!("{file}:{line}"),
            (Some(file), None) => file.clone(),
            _ => String::new(),
        };
        let mut message = finding.message.clone();
        if !place.is_empty() && !message.starts_with(&place) {
            for suffix in [format!(" ({place})"), format!(" ({place}, built in)")] {
                if let Some(shorter) = message.strip_suffix(&suffix) {
                    message = shorter.to_owned();
                }
            }
            message = format!("{place}: {message}");
        }
        text.push_str(&format!("{}\n", escape_control(&message)));
        for hint in &finding.hints {
            text.push_str(&format!("  hint: {}\n", escape_control(hint)));
        }
    }
    if !found.is_empty() {
        text.push('\n');
    }
    for what in checked {
        text.push_str(&format!("checked {}\n", escape_control(what)));
    }
    text.push_str(&match found.len() {
        0 => "no mistakes found\n".to_owned(),
        1 => "1 mistake found\n".to_owned(),
        count => format!("{count} mistakes found\n"),
    });
    text
}

fn render_json(checked: &[String], found: &[Finding]) -> String {
    let findings: Vec<_> = found
        .iter()
        .map(|finding| {
            json!({"file": finding.file, "line": finding.line, "message": finding.message, "hints": finding.hints})
        })
        .collect();
    let whole = json!({
        "schema_version": 1,
        "command": "validate",
        "valid": found.is_empty(),
        "checked": checked,
        "findings": findings,
    });
    format!("{whole:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        directory
    }

    fn places(found: &[Finding], directory: &Path) -> Vec<String> {
        let prefix = format!("{}/", directory.display());
        found
            .iter()
            .map(|finding| {
                let file = finding.file.clone().unwrap_or_default().replace(&prefix, "");
                format!("{file}:{}", finding.line.unwrap_or(0))
            })
            .collect()
    }

    #[test]
    fn a_directory_is_checked_file_by_file_and_every_mistake_is_found() {
        let directory = written(&[
            ("engine/mine.yaml", "threads: 0\nopps: fused\n"),
            ("models.yaml", "models:\n  good: {path: a.gguf}\n  bad:\n    hf_id: X/Y\n    revision: main\n"),
            ("load/one.yaml", "concurrency: [1\n"),
            ("run/exp.yaml", "model: good\nrepeats: 3\ncases:\n  - prompt: a\n    new_tokens: 0\n"),
            ("model/fine.yaml", "path: b.gguf\n"),
        ]);
        let options = ValidateOptions { files: vec![directory.path().to_owned()], overrides: Vec::new() };
        let (checked, found) = check(&options, None);
        assert_eq!(checked.len(), 5);
        let mut places = places(&found, directory.path());
        places.sort();
        assert_eq!(places[..2], ["engine/mine.yaml:1", "engine/mine.yaml:2"]);
        assert!(places[2].starts_with("load/one.yaml:"));
        assert_eq!(places[3..], ["models.yaml:5", "run/exp.yaml:5"]);
        let text = render_text(&checked, &found);
        assert!(
            text.contains("engine/mine.yaml:2: unknown key `engine.opps`\n  hint: did you mean `engine.ops`?\n"),
            "{text}"
        );
        assert!(text.ends_with("5 mistakes found\n"), "{text}");
    }

    #[test]
    fn a_single_file_anywhere_is_taken_for_what_it_holds() {
        let directory = written(&[
            ("aliases.yaml", "models:\n  a:\n    dtype_defualt: bf16\n"),
            ("experiment.yaml", "model: synthetic\nrepeats: 2\n"),
            ("root.yaml", "defaults: [_self_]\nrepeats: 2\n"),
        ]);
        let check_one =
            |name: &str| check(&ValidateOptions { files: vec![directory.path().join(name)], overrides: vec![] }, None);
        let (checked, found) = check_one("aliases.yaml");
        assert!(checked[0].ends_with("(model registry)"));
        assert_eq!(places(&found, directory.path()), ["aliases.yaml:3"]);
        let (checked, found) = check_one("experiment.yaml");
        assert!(checked[0].ends_with("(run file)") && found.is_empty(), "{found:?}");
        let (checked, found) = check_one("root.yaml");
        assert!(checked[0].ends_with("(root file)") && found.len() == 1, "a root without a model: {found:?}");
        let (_, found) = check_one("absent.yaml");
        assert!(found[0].message.contains("cannot read"), "{found:?}");
    }

    #[test]
    fn a_composition_is_checked_with_its_prompts() {
        let directory = written(&[("p.jsonl", "{\"prompt\":\"x\"}\n{\"promt\":\"y\"}\n")]);
        let with = |overrides: &[&str]| ValidateOptions {
            files: Vec::new(),
            overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
        };
        assert!(check(&with(&[]), None).1.is_empty());
        assert!(check(&with(&["model=smollm2", "repeats=3"]), None).1.is_empty());
        let found = check(&with(&["repeats=0", "batch=0"]), None).1;
        assert_eq!(found.len(), 2, "{found:?}");
        let root = format!("dataset.root='{}'", directory.path().join("p.jsonl").display());
        let found = check(&with(&[&root]), None).1;
        assert!(found[0].message.contains("p.jsonl:2: `prompt` is missing"), "{found:?}");
        let json: serde_json::Value = serde_json::from_str(&render_json(&[], &found)).unwrap();
        assert_eq!((&json["valid"], json["findings"].as_array().map(Vec::len)), (&json!(false), Some(1)));
    }

    #[test]
    fn settings_of_a_load_test_are_checked_as_such() {
        let directory = written(&[
            ("load/mine.yaml", "# @package _global_\nconcurrency: [1, 0]\n"),
            ("against.yaml", "base_url: http://127.0.0.1:8000\narrival: poisson\nseed: 1\n"),
            ("sweep/rates.yaml", "command: load\ngrid:\n  concurrency: [1, 2]\nobjective: decode_tok_per_s\n"),
        ]);
        let check_one =
            |name: &str| check(&ValidateOptions { files: vec![directory.path().join(name)], overrides: vec![] }, None);
        let (checked, found) = check_one("load/mine.yaml");
        assert!(checked[0].ends_with("(load file)"), "{checked:?}");
        assert_eq!(places(&found, directory.path()), ["load/mine.yaml:2"], "{found:?}");
        let (checked, found) = check_one("against.yaml");
        assert!(checked[0].ends_with("(run file of load)"), "{checked:?}");
        assert!(found[0].message.contains("needs `rate`"), "{found:?}");
        let (_, found) = check_one("sweep/rates.yaml");
        assert!(found[0].message.contains("`decode_tok_per_s` is no measure of a run"), "{found:?}");
        let with = |text: &str| check(&ValidateOptions { files: vec![], overrides: vec![text.to_owned()] }, None);
        let (checked, found) = with("concurrency=1,2,4");
        assert_eq!((checked[0].as_str(), found), ("the settings of load with concurrency=1,2,4", Vec::new()));
        assert!(with("load=quick").1.is_empty());
        assert_eq!(with("load=qick").1.len(), 1);
    }

    #[test]
    fn the_embedded_files_have_no_mistakes() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let (checked, found) = check(&ValidateOptions { files: vec![directory], overrides: vec![] }, None);
        assert!(checked.len() > 30);
        assert_eq!(found, []);
    }
}
