//! `perfprof dataset`: makes a set of prompts, turns one into JSON lines, or says what is in one.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Context;
use super::ask_model::Model;
use crate::diagnostics::{ExitStatus, Failure, escape_control};
use crate::load::workload::builtin::{self, BenchmarkItem};
use crate::load::workload::counter::{Counter, TokenizerCounter};
use crate::load::workload::item::Prompt;
use crate::load::workload::read::{Asked, Loaded, ReadOptions, SourceTurn};
use crate::load::workload::recipe::{self, Recipe};
use crate::load::workload::{generate, write};
use crate::record::atomic::write_atomic;
use crate::record::error::RecordError;
use crate::stats::quantile::quantile_of_sorted;

/// Who is asked: a request in, the text of the answer or a reason out.
pub type Ask<'a> = dyn FnMut(&str) -> Result<String, String> + 'a;

/// What is done.
#[derive(Debug, Clone)]
pub enum DatasetAction {
    /// Make a set of prompts.
    Generate(GenerateOptions),
    /// Turn a set into JSON lines.
    Convert(ConvertOptions),
    /// Say what is in a set.
    Show(ShowOptions),
}

/// Options of `dataset generate`.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// The file.
    pub out: PathBuf,
    /// Make the prompts from templates instead of asking a model.
    pub offline: bool,
    /// The API that is asked.
    pub base_url: Option<String>,
    /// The model that is asked.
    pub model: Option<String>,
    /// The variable of the environment with the key.
    pub api_key_env: Option<String>,
    /// Number of prompts.
    pub count: usize,
    /// Chooses among templates' fillers; `None` gives the built-in set.
    pub seed: Option<u64>,
    /// Replace a file that is there.
    pub force: bool,
}

/// Options of `dataset convert`.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// The set: a file, or `builtin`, `random`, `synthetic`.
    pub input: String,
    /// The file to write.
    pub out: PathBuf,
    /// At most so many conversations.
    pub limit: Option<u32>,
    /// At most so many turns of each conversation.
    pub turns: u32,
    /// Seed of texts that have to be made.
    pub seed: u64,
    /// A tokenizer for the length of texts that have to be made.
    pub tokenizer: Option<PathBuf>,
    /// Skip what cannot be used.
    pub lenient: bool,
    /// Replace a file that is there.
    pub force: bool,
}

/// Options of `dataset show`.
#[derive(Debug, Clone)]
pub struct ShowOptions {
    /// The set: a file, or `builtin`.
    pub input: String,
    /// Count tokens instead of words.
    pub tokenizer: Option<PathBuf>,
    /// Skip what cannot be used.
    pub lenient: bool,
}

/// Runs `perfprof dataset`.
pub fn run(action: &DatasetAction, context: &Context) -> anyhow::Result<ExitStatus> {
    let text = match action {
        DatasetAction::Generate(options) => match &options.base_url {
            Some(url) if !options.offline => {
                // Before a model is asked for minutes.
                refuse_existing(&options.out, options.force)?;
                let name = options.model.as_deref().ok_or_else(|| {
                    Failure::new(ExitStatus::Usage, "no model is given").hint("`--model NAME` says which is asked")
                })?;
                let model = Model::new(url, name, options.api_key_env.as_deref())?;
                generate_set(options, context, Some(&mut |text| model.ask(text)))?
            }
            _ => generate_set(options, context, None)?,
        },
        DatasetAction::Convert(options) => convert(options, context)?,
        DatasetAction::Show(options) => show(options, context)?,
    };
    super::print_answer(&text)?;
    Ok(ExitStatus::Success)
}

/// The answer of `generate` and `convert` with `--json`.
#[derive(Serialize)]
struct Written<'a> {
    path: String,
    prompts: usize,
    format: &'a str,
    notes: &'a [String],
}

/// What is printed of a set that was written.
fn written(answer: &Written<'_>, context: &Context) -> anyhow::Result<String> {
    if context.json {
        return Ok(serde_json::to_string_pretty(answer)? + "\n");
    }
    let mut text = format!("{}: {} prompts\n", answer.path, answer.prompts);
    for note in answer.notes {
        text.push_str(&format!("  {}\n", escape_control(note)));
    }
    Ok(text)
}

/// Makes the set and writes it; `ask` reaches the model, where one is to be asked. What is printed comes back.
///
/// # Errors
/// If the file exists, no answer can be used, or it cannot be written. Nothing is written then.
pub fn generate_set(options: &GenerateOptions, context: &Context, ask: Option<&mut Ask<'_>>) -> anyhow::Result<String> {
    refuse_existing(&options.out, options.force)?;
    let items: Vec<BenchmarkItem> = if options.offline {
        builtin::prompts(options.count, options.seed).map_err(|error| Failure::new(ExitStatus::Usage, error))?
    } else {
        if options.count == 0 || options.count > builtin::most_prompts() {
            let message = format!("`--count` is {}: expected 1 to {}", options.count, builtin::most_prompts());
            return Err(Failure::new(ExitStatus::Usage, message).into());
        }
        let Some(ask) = ask else {
            let message = "there is no model to ask for prompts: `--base-url` is missing";
            return Err(Failure::new(ExitStatus::Usage, message)
                .hint("`--offline` makes the prompts from built-in templates")
                .into());
        };
        generate::ask(options.count, options.seed, ask).map_err(|error| {
            let kept = if options.out.exists() { "; the file is as it was" } else { "; nothing was written" };
            Failure::new(ExitStatus::CouldNotStart, format!("no prompts came from the model: {error}{kept}"))
                .hint("`--offline` makes the prompts from built-in templates")
        })?
    };
    let text = serde_json::to_string_pretty(&items)? + "\n";
    write_atomic(&options.out, text.as_bytes()).map_err(RecordError::into_failure)?;
    let path = options.out.display().to_string();
    written(&Written { path, prompts: items.len(), format: "benchmark", notes: &[] }, context)
}

fn convert(options: &ConvertOptions, context: &Context) -> anyhow::Result<String> {
    refuse_existing(&options.out, options.force)?;
    let tokenizer = open(options.tokenizer.as_deref())?;
    let recipe = Recipe {
        limit: options.limit,
        turns: options.turns,
        seed: options.seed,
        lenient: options.lenient,
        ..Recipe::plain(&options.input)
    };
    let counter = tokenizer.as_ref().map(|tokenizer| tokenizer as &dyn Counter);
    let prepared = recipe::prepare(&recipe, counter, 0).map_err(Failure::from)?;
    write_atomic(&options.out, write::jsonl(&prepared).as_bytes()).map_err(RecordError::into_failure)?;
    let path = options.out.display().to_string();
    let dataset = &prepared.dataset;
    let answer = Written { path, prompts: dataset.items.len(), format: &dataset.format, notes: &dataset.notes };
    written(&answer, context)
}

fn refuse_existing(path: &Path, force: bool) -> Result<(), Failure> {
    if path.exists() && !force {
        let message = format!("`{}` exists already and is kept", path.display());
        return Err(Failure::new(ExitStatus::Usage, message).hint("`--force` replaces it"));
    }
    Ok(())
}

fn open(tokenizer: Option<&Path>) -> Result<Option<TokenizerCounter>, Failure> {
    let open = |path| TokenizerCounter::open(path).map_err(|error| Failure::new(ExitStatus::CouldNotStart, error));
    tokenizer.map(open).transpose()
}

/// Lengths of something: in `unit`, of `count` texts.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Distribution {
    unit: &'static str,
    count: usize,
    min: f64,
    mean: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
}

impl Distribution {
    /// `None` of no values.
    fn of(mut values: Vec<f64>, unit: &'static str) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let at = |p| quantile_of_sorted(&values, p);
        Some(Self {
            unit,
            count: values.len(),
            min: at(0.0)?,
            mean: values.iter().sum::<f64>() / values.len() as f64,
            p50: at(0.5)?,
            p90: at(0.9)?,
            p99: at(0.99)?,
            max: at(1.0)?,
        })
    }
}

/// The answer of `show --json`.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Shown {
    dataset: String,
    format: &'static str,
    conversations: usize,
    turns: usize,
    /// Different first prompts; null for a trace, which has no texts.
    distinct_prompts: Option<usize>,
    /// Conversations whose first prompt is that of an earlier one.
    duplicates: Option<usize>,
    /// Lengths of the first prompts.
    prompt_length: Option<Distribution>,
    /// New tokens at most, where the set says so.
    max_output_tokens: Option<Distribution>,
    categories: BTreeMap<String, usize>,
    /// From the first request to the last, of a trace.
    span_s: Option<f64>,
    /// Requests per second over that.
    mean_rate: Option<f64>,
    /// Lines that could not be used.
    skipped: u64,
    notes: Vec<String>,
}

fn show(options: &ShowOptions, context: &Context) -> anyhow::Result<String> {
    let tokenizer = open(options.tokenizer.as_deref())?;
    let read = ReadOptions { lenient: options.lenient, ..ReadOptions::default() };
    let Some(loaded) = recipe::records(&options.input, read).map_err(Failure::from)? else {
        let message = format!("`{}` is made up anew for each load test: there is nothing to show", options.input);
        return Err(Failure::new(ExitStatus::Usage, message)
            .hint("`dataset convert random --out FILE` writes one such set")
            .into());
    };
    let shown = examine(&options.input, loaded, tokenizer.as_ref().map(|tokenizer| tokenizer as &dyn Counter));
    if context.json { Ok(serde_json::to_string_pretty(&shown)? + "\n") } else { Ok(text_of(&shown)) }
}

fn examine(input: &str, loaded: Loaded, counter: Option<&dyn Counter>) -> Shown {
    let count =
        |text: &str| counter.map_or_else(|| text.split_whitespace().count(), |counter| counter.count(text)) as f64;
    let firsts: Vec<&SourceTurn> = loaded.records.iter().filter_map(|record| record.turns.first()).collect();
    let is_trace = firsts.iter().all(|turn| matches!(turn.asked, Asked::Made { .. }));
    let mut seen: HashSet<Vec<&str>> = HashSet::new();
    let mut seen_ids: HashSet<&[u32]> = HashSet::new();
    let mut lengths = Vec::with_capacity(firsts.len());
    for turn in &firsts {
        match &turn.asked {
            Asked::Made { tokens, .. } => lengths.push(f64::from(*tokens)),
            Asked::Prompt(Prompt::Text(text)) => {
                lengths.push(count(text));
                seen.insert(vec![text]);
            }
            Asked::Prompt(Prompt::Messages(messages)) => {
                lengths.push(messages.iter().map(|message| count(&message.content)).sum());
                seen.insert(messages.iter().flat_map(|message| [message.role.as_str(), &message.content]).collect());
            }
            Asked::Prompt(Prompt::TokenIds(ids)) => {
                // Ids are tokens, which stand among words only if there is no tokenizer to make words of them.
                lengths.push(ids.len() as f64);
                seen_ids.insert(ids);
            }
        }
    }
    let distinct = (!is_trace).then_some(seen.len() + seen_ids.len());
    let unit = if is_trace || counter.is_some() { "tokens" } else { "words" };
    let mut categories = BTreeMap::new();
    for category in loaded.records.iter().filter_map(|record| record.category.clone()) {
        *categories.entry(category).or_insert(0) += 1;
    }
    let times: Vec<u64> = loaded.records.iter().filter_map(|record| record.at_ns).collect();
    let ends = times.iter().min().zip(times.iter().max()).filter(|_| times.len() > 1);
    let span_s = ends.map(|(first, last)| (last - first) as f64 / 1e9);
    let limits = firsts.iter().filter_map(|turn| turn.max_tokens.map(f64::from)).collect();
    Shown {
        dataset: input.to_owned(),
        format: if input == "builtin" { "builtin" } else { loaded.format.name() },
        conversations: loaded.records.len(),
        turns: loaded.records.iter().map(|record| record.turns.len()).sum(),
        distinct_prompts: distinct,
        duplicates: distinct.map(|distinct| firsts.len() - distinct),
        prompt_length: Distribution::of(lengths, unit),
        max_output_tokens: Distribution::of(limits, "tokens"),
        categories,
        span_s,
        mean_rate: span_s.filter(|span| *span > 0.0).map(|span| (times.len() - 1) as f64 / span),
        skipped: loaded.skipped,
        notes: loaded.notes,
    }
}

fn text_of(shown: &Shown) -> String {
    let mut lines: Vec<(&str, String)> = vec![
        ("dataset", shown.dataset.clone()),
        ("format", shown.format.to_owned()),
        ("conversations", shown.conversations.to_string()),
    ];
    if shown.turns != shown.conversations {
        lines.push(("turns", shown.turns.to_string()));
    }
    if let (Some(distinct), Some(duplicates)) = (shown.distinct_prompts, shown.duplicates) {
        lines.push(("distinct prompts", format!("{distinct} ({duplicates} said before)")));
    }
    let distribution = |found: &Distribution| {
        format!(
            "{}: min {:.0}, mean {:.1}, p50 {:.0}, p90 {:.0}, p99 {:.0}, max {:.0}",
            found.unit, found.min, found.mean, found.p50, found.p90, found.p99, found.max
        )
    };
    lines.extend(shown.prompt_length.as_ref().map(|found| ("prompt length", distribution(found))));
    if let Some(found) = &shown.max_output_tokens {
        lines.push(("output limit", format!("{}, in {} of {}", distribution(found), found.count, shown.conversations)));
    }
    if !shown.categories.is_empty() {
        let parts: Vec<String> = shown.categories.iter().map(|(name, count)| format!("{name} {count}")).collect();
        lines.push(("categories", parts.join(", ")));
    }
    if let Some(span) = shown.span_s {
        let rate = shown.mean_rate.map_or_else(String::new, |rate| format!(", {rate:.3} requests/s on average"));
        lines.push(("time span", format!("{span:.1} s{rate}")));
    }
    lines.extend(shown.notes.iter().map(|note| ("note", note.clone())));
    let mut text = String::new();
    for (name, value) in lines {
        // What a file says is shown, not obeyed.
        text += &format!("{name:<17} {}\n", escape_control(&value).replace('\n', " "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::ColorChoice;

    fn context(json: bool) -> Context {
        let root = PathBuf::from("tmp");
        Context { json, progress: false, config_dir: None, output_root: root, color: ColorChoice::Never }
    }
    fn generation(out: &Path) -> GenerateOptions {
        GenerateOptions {
            out: out.to_owned(),
            offline: true,
            base_url: None,
            model: None,
            api_key_env: None,
            count: 18,
            seed: None,
            force: false,
        }
    }
    fn shown(path: &Path) -> serde_json::Value {
        let options = ShowOptions { input: path.display().to_string(), tokenizer: None, lenient: false };
        serde_json::from_str(&show(&options, &context(true)).unwrap()).unwrap()
    }
    fn conversion(input: &Path, out: &Path) -> ConvertOptions {
        ConvertOptions {
            input: input.display().to_string(),
            out: out.to_owned(),
            limit: None,
            turns: 1,
            seed: 0,
            tokenizer: None,
            lenient: false,
            force: false,
        }
    }

    #[test]
    fn the_offline_set_is_written_once_and_replaced_only_by_force() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("benchmark_dataset.json");
        let text = generate_set(&generation(&out), &context(false), None).unwrap();
        assert!(text.ends_with("benchmark_dataset.json: 18 prompts\n"), "{text}");
        let items: Vec<serde_json::Value> = serde_json::from_slice(&std::fs::read(&out).unwrap()).unwrap();
        let names: Vec<&str> = items[0].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(names, ["id", "category", "prompt", "min_output_tokens", "max_output_tokens", "ignore_eos"]);
        let error = generate_set(&generation(&out), &context(false), None).unwrap_err().to_string();
        assert!(error.contains("exists already and is kept"), "{error}");
        let other = GenerateOptions { seed: Some(5), force: true, ..generation(&out) };
        generate_set(&other, &context(true), None).unwrap();
        assert_ne!(serde_json::from_slice::<Vec<serde_json::Value>>(&std::fs::read(&out).unwrap()).unwrap(), items);
    }

    #[test]
    fn a_model_is_asked_and_a_set_that_is_none_leaves_the_old_file() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("set.json");
        std::fs::write(&out, "old").unwrap();
        let online =
            GenerateOptions { offline: false, base_url: Some("http://x".to_owned()), force: true, ..generation(&out) };
        let mut calls = 0;
        let mut prose = |_: &str| {
            calls += 1;
            Ok("no".to_owned())
        };
        let error = generate_set(&online, &context(false), Some(&mut prose)).unwrap_err().to_string();
        assert!(error.contains("the file is as it was"), "{error}");
        assert_eq!((calls, std::fs::read_to_string(&out).unwrap().as_str()), (4, "old"));
        let items = builtin::prompts(18, Some(1)).unwrap();
        let mut answer = |_: &str| Ok(format!("Sure!\n{}", serde_json::to_string(&items).unwrap()));
        generate_set(&online, &context(false), Some(&mut answer)).unwrap();
        assert_eq!(shown(&out)["conversations"], 18);
        let error = generate_set(&online, &context(false), None).unwrap_err().to_string();
        assert!(error.contains("--base-url"), "{error}");
    }

    #[test]
    fn a_set_is_shown_with_lengths_duplicates_and_categories() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("set.json");
        std::fs::write(
            &path,
            r#"[{"prompt":"a b c","category":"math","max_tokens":10},{"prompt":"a b c"},{"prompt":"d","category":"math","max_tokens":30},"e f"]"#,
        )
        .unwrap();
        let found = shown(&path);
        assert_eq!(
            (&found["format"], &found["distinct_prompts"], &found["duplicates"]),
            (&"prompts".into(), &3.into(), &1.into())
        );
        assert_eq!(found["categories"]["math"], 2);
        let length = &found["prompt_length"];
        assert_eq!(
            (&length["unit"], &length["min"], &length["mean"], &length["p50"], &length["max"]),
            (&"words".into(), &1.0.into(), &2.25.into(), &2.5.into(), &3.0.into())
        );
        assert_eq!(
            (&found["max_output_tokens"]["count"], &found["max_output_tokens"]["mean"]),
            (&2.into(), &20.0.into())
        );
        assert_eq!(found["span_s"], serde_json::Value::Null);
        let options = ShowOptions { input: path.display().to_string(), tokenizer: None, lenient: false };
        let text = show(&options, &context(false)).unwrap();
        assert!(text.contains("prompt length     words: min 1, mean 2.2, p50 2, p90 3, p99 3, max 3\n"), "{text}");
        assert!(text.contains("output limit      tokens: min 10") && text.contains("in 2 of 4"), "{text}");
    }

    #[test]
    fn a_trace_is_shown_with_its_time_and_converted_with_texts() {
        let directory = tempfile::tempdir().unwrap();
        let (path, out) = (directory.path().join("trace.csv"), directory.path().join("trace.jsonl"));
        std::fs::write(&path, "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00,20,3\n2023-11-16 18:00:05,40,6\n2023-11-16 18:00:10,60,9\n").unwrap();
        let found = shown(&path);
        assert_eq!((&found["span_s"], &found["mean_rate"]), (&10.0.into(), &0.2.into()));
        assert_eq!(
            (&found["prompt_length"]["unit"], &found["distinct_prompts"]),
            (&"tokens".into(), &serde_json::Value::Null)
        );
        convert(&conversion(&path, &out), &context(false)).unwrap();
        let found = shown(&out);
        assert_eq!(
            (&found["format"], &found["span_s"], &found["distinct_prompts"]),
            (&"prompts".into(), &10.0.into(), &3.into())
        );
        assert_eq!(found["prompt_length"]["mean"], 40.0);
        let first: serde_json::Value =
            serde_json::from_str(std::fs::read_to_string(&out).unwrap().lines().next().unwrap()).unwrap();
        assert_eq!((&first["at_ns"], &first["max_output_tokens"]), (&0.into(), &3.into()));
        let error = convert(&conversion(&path, &out), &context(false)).unwrap_err().to_string();
        assert!(error.contains("is kept"), "{error}");
        let limited = ConvertOptions { limit: Some(2), force: true, ..conversion(&path, &out) };
        convert(&limited, &context(false)).unwrap();
        assert_eq!(shown(&out)["conversations"], 2);
    }

    #[test]
    fn a_set_that_cannot_be_read_is_no_output() {
        let directory = tempfile::tempdir().unwrap();
        let (path, out) = (directory.path().join("set.jsonl"), directory.path().join("out.jsonl"));
        std::fs::write(&path, "{\"prompt\":\"x\"}\n{\"promt\":\"\\u001b[31my\"}\n").unwrap();
        let error = convert(&conversion(&path, &out), &context(false)).unwrap_err().to_string();
        assert!(error.contains("set.jsonl:2: `prompt` is missing; it has `promt`"), "{error}");
        assert!(!out.exists());
        let text = convert(&ConvertOptions { lenient: true, ..conversion(&path, &out) }, &context(false)).unwrap();
        assert!(text.contains("1 prompts") && text.contains("1 lines could not be used"), "{text}");
    }
}
