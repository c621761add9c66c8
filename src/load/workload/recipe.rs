//! From settings to a dataset: which source, how many, in which order.

use std::path::Path;

use rand::seq::SliceRandom as _;

use super::builtin;
use super::counter::Counter;
use super::error::WorkloadError;
use super::fit::Maker;
use super::item::{Dataset, Item, Prompt};
use super::lengths::{Use, stream};
use super::make::{Items, Style};
use super::read::{self, Asked, Format, Loaded, ReadOptions, Record, SourceTurn};
use crate::config::schema::load::{ArrivalKind, Endpoint, LoadConfig};
use crate::config::schema::load_text::Lengths;

/// Made-up prompts where nobody knows how many are needed.
const UNKNOWN_NEED: u64 = 1000;
/// More are not made: a stage that needs more begins anew.
const MOST_MADE: u64 = 100_000;
/// No more text than this is made.
const MOST_BYTES: usize = 512 << 20;

/// Everything a dataset depends on, beside the tokenizer.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the keys of `load` of the same names say what each means")]
pub struct Recipe {
    pub dataset: String,
    pub seed: u64,
    pub input_tokens: Option<Lengths>,
    pub output_tokens: Option<Lengths>,
    pub limit: Option<u32>,
    pub shuffle: bool,
    pub lenient: bool,
    pub shared_prefix_tokens: u32,
    pub prefixes: u32,
    pub turns: u32,
    pub think_time_s: Lengths,
    pub salt: bool,
    /// Whether the API takes token ids.
    pub takes_token_ids: bool,
    /// Whether the times of a trace are needed.
    pub needs_times: bool,
    /// Leave out `min_tokens` of 0 and 1 and `ignore_eos` of false, which ask for nothing and which not every server knows.
    pub leave_out_defaults: bool,
    /// Whether the settings have `min_tokens`, from which an item may differ.
    pub min_tokens: bool,
    /// Whether the settings have `ignore_eos`, from which an item may differ.
    pub ignore_eos: bool,
}

impl Recipe {
    /// The recipe of a load test.
    pub fn of(config: &LoadConfig) -> Self {
        let prompts = &config.prompts;
        Self {
            dataset: config.dataset.clone(),
            seed: config.seed,
            input_tokens: prompts.input_tokens.clone(),
            output_tokens: prompts.output_tokens.clone(),
            limit: prompts.limit,
            shuffle: prompts.shuffle,
            lenient: prompts.lenient,
            shared_prefix_tokens: prompts.shared_prefix_tokens,
            prefixes: prompts.prefixes,
            turns: prompts.turns,
            think_time_s: prompts.think_time_s.clone(),
            salt: prompts.salt.unwrap_or(false),
            takes_token_ids: config.endpoint == Endpoint::Completions,
            needs_times: config.arrival == ArrivalKind::Trace,
            leave_out_defaults: true,
            min_tokens: config.min_tokens.is_some(),
            ignore_eos: config.ignore_eos,
        }
    }

    /// The dataset as it is, with all turns.
    pub fn plain(dataset: &str) -> Self {
        Self {
            dataset: dataset.to_owned(),
            seed: 0,
            input_tokens: None,
            output_tokens: None,
            limit: None,
            shuffle: false,
            lenient: false,
            shared_prefix_tokens: 0,
            prefixes: 1,
            turns: 1,
            think_time_s: Lengths::constant(0.0),
            salt: false,
            takes_token_ids: true,
            needs_times: false,
            leave_out_defaults: false,
            min_tokens: false,
            ignore_eos: false,
        }
    }
}

/// A dataset with the category of each item.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// What is sent.
    pub dataset: Dataset,
    /// Categories, as many as there are items.
    pub categories: Vec<Option<String>>,
}

/// The records of a built-in set or of a file; `None` for sets that have none because they are made up.
///
/// # Errors
/// As [`read::read`].
pub fn records(dataset: &str, options: ReadOptions) -> Result<Option<Loaded>, WorkloadError> {
    match dataset {
        "random" | "synthetic" => Ok(None),
        "builtin" => {
            let items = builtin::prompts(18, None).unwrap_or_default();
            let records = items.into_iter().take(options.most).map(|item| {
                let asked = Asked::Prompt(Prompt::Text(item.prompt));
                let turn = SourceTurn { max_tokens: Some(item.max_output_tokens), ..SourceTurn::new(asked) };
                Record { id: Some(item.id), category: Some(item.category), ..Record::of(vec![turn], 0) }
            });
            let records = records.collect();
            Ok(Some(Loaded { format: Format::Prompts, records, skipped: 0, notes: Vec::new() }))
        }
        file => {
            let path = Path::new(file);
            // A bare word that is no file is more likely a misspelt set than a missing file.
            if !path.exists() && !file.contains(['/', '.']) {
                return Err(WorkloadError::NotFound { name: file.to_owned() });
            }
            read::read(path, options).map(Some)
        }
    }
}

/// Makes the dataset of `recipe`.
///
/// `needed` is how many conversations a run may begin at most; what is beyond is not made. 0 if nobody knows: then a file is taken whole, and made-up
/// sets have 1,000 conversations.
///
/// # Errors
/// If it cannot be read or made.
pub fn prepare(recipe: &Recipe, counter: Option<&dyn Counter>, needed: u64) -> Result<Prepared, WorkloadError> {
    let items = Items::new(recipe, Maker::new(counter, recipe.seed));
    let most = recipe.limit.filter(|_| !recipe.shuffle).map_or(usize::MAX, |limit| limit as usize);
    let mut notes = Vec::new();
    let loaded = records(&recipe.dataset, ReadOptions { lenient: recipe.lenient, most })?;
    let (format, (made, categories)) = if let Some(loaded) = loaded {
        let format = if recipe.dataset == "builtin" { "builtin" } else { loaded.format.name() };
        (format, of_records(recipe, &items, loaded, needed, &mut notes)?)
    } else {
        let (format, style) = match recipe.dataset.as_str() {
            "random" => ("random", Style::Words),
            _ => ("synthetic", Style::Verses),
        };
        let wanted = recipe.limit.map_or(if needed == 0 { UNKNOWN_NEED } else { needed }, u64::from);
        let made = collect(wanted, MOST_MADE, &mut notes, |index| items.made_up(index, style))?;
        let categories = vec![None; made.len()];
        (format, (made, categories))
    };
    if recipe.shared_prefix_tokens > 0 {
        let (length, unit, groups) = (recipe.shared_prefix_tokens, items.unit(), recipe.prefixes.max(1));
        notes.push(match groups {
            1 => format!("all prompts begin with the same {length} {unit}"),
            _ => format!("prompts begin with one of {groups} prefixes of {length} {unit}, in turn"),
        });
        if recipe.salt {
            notes.push("`prompts.salt` stands before the shared prefix, so that no cache knows it".to_owned());
        }
    }
    let made_text = recipe.input_tokens.is_some()
        || recipe.shared_prefix_tokens > 0
        || matches!(format, "random" | "synthetic" | "mooncake" | "burstgpt" | "azure");
    notes.extend(items.note().filter(|_| made_text));
    let has_ids = || made.iter().any(|item| item.turns.iter().any(|turn| matches!(turn.prompt, Prompt::TokenIds(_))));
    if counter.is_none() && (recipe.salt || recipe.shared_prefix_tokens > 0) && has_ids() {
        notes.push(
            "prompts of token ids have neither salt nor prefix: there is no tokenizer to make ids of them".to_owned(),
        );
    }
    if recipe.needs_times && made.iter().any(|item| item.at_ns.is_none()) {
        let message = format!("is `trace`, and the dataset `{}` has no times of its own", recipe.dataset);
        return Err(WorkloadError::Setting { setting: "arrival", message });
    }
    let dataset = Dataset { name: recipe.dataset.clone(), format: format.to_owned(), items: made, notes };
    Ok(Prepared { dataset, categories })
}

type Conversations = (Vec<Item>, Vec<Option<String>>);

fn of_records(
    recipe: &Recipe,
    items: &Items<'_>,
    loaded: Loaded,
    needed: u64,
    notes: &mut Vec<String>,
) -> Result<Conversations, WorkloadError> {
    notes.extend(loaded.notes);
    let mut records = loaded.records;
    let is_timed = records.iter().all(|record| record.at_ns.is_some());
    if is_timed && !records.is_sorted_by_key(|record| record.at_ns) {
        records.sort_by_key(|record| record.at_ns);
        notes.push("its lines are not in order of time and were put in order".to_owned());
    }
    if recipe.shuffle {
        let times: Vec<Option<u64>> = records.iter().map(|record| record.at_ns).collect();
        records.shuffle(&mut stream(recipe.seed, Use::Shuffle, 0));
        if is_timed {
            for (record, at) in records.iter_mut().zip(times) {
                record.at_ns = at;
            }
            notes.push("requests are shuffled; the times at which one is sent stay".to_owned());
        }
    }
    let there = records.len();
    records.truncate(recipe.limit.map_or(there, |limit| limit as usize));
    if needed > 0 && needed < records.len() as u64 {
        notes.push(format!("the first {needed} of {} are used: no more are needed", records.len()));
        records.truncate(needed as usize);
    }
    // A trace begins with its first request.
    if is_timed {
        let begin = records.first().and_then(|record| record.at_ns).unwrap_or(0);
        for record in &mut records {
            record.at_ns = record.at_ns.map(|at| at - begin);
        }
    }
    let is_builtin = recipe.dataset == "builtin";
    let longest = records.iter().map(|record| record.turns.len()).max().unwrap_or(1);
    if recipe.turns > 1 && longest == 1 && !is_builtin {
        notes.push("`prompts.turns` does nothing: its prompts have one turn each".to_owned());
    }
    // Conversations are cut to `prompts.turns`; what a file gives as turns on purpose is not.
    let turns = |record: &Record| match loaded.format {
        Format::Prompts if !is_builtin => record.turns.len(),
        _ => recipe.turns as usize,
    };
    let count = records.len() as u64;
    let wanted = if recipe.salt && !is_timed { count.max(needed) } else { count };
    let made = collect(wanted, count.max(MOST_MADE), notes, |index| {
        let record = &records[(index % count) as usize];
        items.of_record(index, record, turns(record), is_builtin)
    })?;
    let categories = (0..made.len()).map(|index| records[index % records.len()].category.clone()).collect();
    Ok((made, categories))
}

/// Makes `wanted` items, unless they are more than `most` or become too large.
fn collect(
    wanted: u64,
    most: u64,
    notes: &mut Vec<String>,
    mut make: impl FnMut(u64) -> Result<Item, WorkloadError>,
) -> Result<Vec<Item>, WorkloadError> {
    let mut made = Vec::new();
    let mut bytes = 0;
    for index in 0..wanted {
        if index >= most || bytes > MOST_BYTES {
            notes.push(format!(
                "{index} of {wanted} prompts were made, and they repeat: more would take too much memory"
            ));
            break;
        }
        let item = make(index)?;
        bytes += item.turns.iter().map(|turn| size(&turn.prompt)).sum::<usize>();
        made.push(item);
    }
    Ok(made)
}

fn size(prompt: &Prompt) -> usize {
    match prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Messages(messages) => messages.iter().map(|message| message.content.len()).sum(),
        Prompt::TokenIds(ids) => 4 * ids.len(),
    }
}
