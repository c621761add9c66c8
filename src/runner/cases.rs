//! The cases of a run: which token ids go in, how many come out, and whether they fit the model.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::config::dataset::Prompt;
use crate::config::schema::stage1::{CaseConfig, Stage1Config};
use crate::engine::tokenizer::{Tokenizer, TokenizerError};
use crate::estimate::architecture::Architecture;
use crate::record::context::CasePlan;

/// The text of a run that names none: long enough to be a prompt, short enough for every context.
const DEFAULT_PROMPT: &str = "Explain in a few sentences why reading memory, not arithmetic, sets the pace when a language model writes one token after another.";

/// A case that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum CaseError {
    /// The prompt is longer than the model's context.
    #[error(
        "case `{case}` needs {needed} positions ({prompt_len} prompt + {new_tokens} new tokens), but {limit_name} is {limit}"
    )]
    ContextOverflow {
        /// The case.
        case: String,
        /// Prompt tokens.
        prompt_len: usize,
        /// New tokens.
        new_tokens: usize,
        /// Their sum.
        needed: usize,
        /// Which limit it breaks.
        limit_name: &'static str,
        /// The limit.
        limit: usize,
    },
    /// There is nothing to read or to write.
    #[error("case `{case}` has {what}")]
    Empty {
        /// The case.
        case: String,
        /// `an empty prompt` or the like.
        what: &'static str,
    },
    /// More work in one pass than can be counted.
    #[error(
        "case `{case}` asks for {batch} sequences of {prompt_len} prompt tokens, more than one pass can hold ({limit} tokens)"
    )]
    BatchTooLarge {
        /// The case.
        case: String,
        /// Sequences.
        batch: usize,
        /// Prompt tokens of each.
        prompt_len: usize,
        /// Tokens of one pass at most.
        limit: usize,
    },
    /// The prompt cannot be tokenized.
    #[error("the prompt of case `{case}` cannot be tokenized")]
    Tokenizer {
        /// The case.
        case: String,
        /// Why.
        #[source]
        source: TokenizerError,
    },
    /// `infer.chat_template=true`, but the model has none that is known.
    #[error("`infer.chat_template=true`, but the model has no chat template that perfprof knows")]
    NoChatTemplate,
}

impl CaseError {
    /// What the user can do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::ContextOverflow { .. } => {
                "shorten the prompt (`prompt_tokens=`, `prompt=`) or generate less (`infer.max_new_tokens=`)"
            }
            Self::BatchTooLarge { .. } => "lower `batch=` or `prompt_tokens=`",
            Self::NoChatTemplate => "use `infer.chat_template=false`",
            Self::Empty { .. } | Self::Tokenizer { .. } => {
                "give a prompt with `prompt=`, or ids of an exact length with `prompt_tokens=`"
            }
        }
    }
}

/// A case ready to run.
#[derive(Debug, Clone)]
pub struct PreparedCase {
    /// What it is.
    pub plan: CasePlan,
    /// Token ids of each sequence, all of one length.
    pub prompts: Vec<Vec<u32>>,
    /// The text they came from.
    pub text: Option<String>,
    /// Seed of synthetic ids.
    pub seed: Option<u64>,
}

/// Ids from the whole vocabulary, the same for the same seed; each sequence of a batch gets its own.
fn synthetic_ids(length: usize, vocabulary: usize, seed: u64, sequence: usize) -> Vec<u32> {
    let mut generator = StdRng::seed_from_u64(seed.wrapping_add((sequence as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
    (0..length).map(|_| generator.random_range(0..vocabulary as u32)).collect()
}

/// Prepares the cases of `config`; `dataset` holds the prompts of `dataset.root`, each of which becomes a case.
pub fn prepare(
    config: &Stage1Config,
    dataset: &[Prompt],
    architecture: &Architecture,
    tokenizer: &Tokenizer,
) -> Result<Vec<PreparedCase>, CaseError> {
    let batch = config.batch as usize;
    let mut wanted: Vec<(CaseConfig, &'static str)> = Vec::new();
    if dataset.is_empty() {
        wanted.extend(config.effective_cases().into_iter().map(|case| (case, "text")));
    } else {
        wanted.extend(dataset.iter().map(|prompt| {
            let new_tokens = prompt
                .max_output_tokens
                .map_or(config.infer.max_new_tokens, |limit| limit.min(config.infer.max_new_tokens));
            let case = CaseConfig {
                name: Some(prompt.id.clone()),
                prompt: Some(prompt.text.clone()),
                prompt_tokens: None,
                new_tokens: Some(new_tokens),
            };
            (case, "file")
        }));
    }
    let mut cases = Vec::with_capacity(wanted.len());
    for (index, (case, source)) in wanted.into_iter().enumerate() {
        let new_tokens = case.new_tokens.unwrap_or(config.infer.max_new_tokens) as usize;
        let label = case.name.clone().unwrap_or_else(|| format!("case{index}"));
        // Rows of an operator are counted in 32 bits, of attention one per head; and the ids themselves must fit before any check.
        let fits = |prompt_len: usize| {
            let limit = u32::MAX as usize / architecture.num_heads.max(1);
            if batch.saturating_mul(prompt_len) > limit {
                return Err(CaseError::BatchTooLarge { case: label.clone(), batch, prompt_len, limit });
            }
            Ok(())
        };
        let (prompts, text, source, seed) = match (case.prompt_tokens, case.prompt) {
            (Some(length), _) => {
                fits(length as usize)?;
                let seed = config.infer.seed.wrapping_add(index as u64);
                let ids = |sequence| synthetic_ids(length as usize, architecture.vocab_size, seed, sequence);
                ((0..batch).map(ids).collect::<Vec<_>>(), None, "synthetic", Some(seed))
            }
            (None, text) => {
                let text = text.unwrap_or_else(|| DEFAULT_PROMPT.to_owned());
                let ids = encode(config, tokenizer, &text, &label)?;
                fits(ids.len())?;
                // A batch of one text is that text side by side: the work of a batch, whatever the words.
                (vec![ids; batch], Some(text), source, None)
            }
        };
        let prompt_len = prompts.first().map_or(0, Vec::len);
        let name = case.name.unwrap_or_else(|| format!("p{prompt_len}_n{new_tokens}_b{batch}"));
        let name = unique(name, &cases);
        if prompt_len == 0 {
            return Err(CaseError::Empty { case: name, what: "an empty prompt" });
        }
        if new_tokens == 0 {
            return Err(CaseError::Empty { case: name, what: "no new token to generate" });
        }
        // The last token is never fed back, so it needs no position in the cache; the model's limit is on positions all the same.
        let needed = prompt_len + new_tokens;
        let limits = [
            ("the model's context (max_position_embeddings)", Some(architecture.max_position_embeddings)),
            ("`engine.max_context`", config.engine.max_context.map(|limit| limit as usize)),
        ];
        if let Some((limit_name, limit)) =
            limits.into_iter().filter_map(|(n, limit)| Some((n, limit?))).find(|(_, limit)| needed > *limit)
        {
            return Err(CaseError::ContextOverflow { case: name, prompt_len, new_tokens, needed, limit_name, limit });
        }
        let plan = CasePlan {
            name,
            batch: config.batch,
            prompt_len: prompt_len as u32,
            new_tokens: new_tokens as u32,
            source: source.to_owned(),
        };
        cases.push(PreparedCase { plan, prompts, text, seed });
    }
    Ok(cases)
}

fn encode(config: &Stage1Config, tokenizer: &Tokenizer, text: &str, case: &str) -> Result<Vec<u32>, CaseError> {
    let fail = |source| CaseError::Tokenizer { case: case.to_owned(), source };
    if config.infer.chat_template {
        let wrapped = tokenizer.apply_chat_template_user(text).ok_or(CaseError::NoChatTemplate)?;
        return tokenizer.encode(&wrapped, true).map_err(fail);
    }
    tokenizer.encode(text, true).map_err(fail)
}

/// Two cases of one shape get different names, or their rows could not be told apart.
fn unique(name: String, cases: &[PreparedCase]) -> String {
    let taken = |name: &str| cases.iter().any(|case| case.plan.name == name);
    if !taken(&name) {
        return name;
    }
    (2..=cases.len() + 1).map(|number| format!("{name}#{number}")).find(|name| !taken(name)).unwrap_or(name)
}

/// What the settings alone say is needed at the least: known before any prompt is made.
pub fn least_room(config: &Stage1Config) -> super::assemble::Room {
    let positions = |case: &CaseConfig| case.prompt_tokens.unwrap_or(1).saturating_add(case.new_tokens.unwrap_or(1));
    let longest = config.effective_cases().iter().map(positions).max().unwrap_or(1);
    super::assemble::Room {
        batch: config.batch as usize,
        context: config.engine.max_context.unwrap_or(longest) as usize,
    }
}

/// The longest context and the batch all cases need.
pub fn room(cases: &[PreparedCase], max_context: Option<u32>) -> super::assemble::Room {
    let longest = cases.iter().map(|case| case.plan.prompt_len + case.plan.new_tokens).max().unwrap_or(1);
    super::assemble::Room {
        batch: cases.iter().map(|case| case.prompts.len()).max().unwrap_or(1),
        context: max_context.unwrap_or(longest) as usize,
    }
}
