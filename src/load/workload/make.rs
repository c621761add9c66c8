//! Records of a file, or nothing but lengths, become the conversations that are sent.

use std::cell::RefCell;
use std::collections::HashMap;

use rand::Rng as _;

use super::error::WorkloadError;
use super::fit::{Made, Maker};
use super::item::{Item, Message, Prompt, Turn};
use super::lengths::{Sampler, Use, stream};
use super::read::{Asked, Record, SourceTurn};
use super::recipe::Recipe;

/// Length of made-up prompts where `prompts.input_tokens` says nothing.
const DEFAULT_INPUT: u32 = 256;
/// Tokens of a block of a Mooncake trace.
const BLOCK: u32 = 512;
/// Texts that are made once and used often are kept up to so many bytes.
const KEPT_BYTES: usize = 64 << 20;
/// More turns than a conversation may have, so that every turn of every conversation has an index of its own.
const TURN_STRIDE: u64 = 1024;
/// Words in front of a salted prompt, beside those that number it.
const SALT_WORDS: usize = 4;

/// What follows the first turn of a conversation made up from a single prompt.
const FOLLOW_UPS: [&str; 8] = [
    "Now say the same in half as many words.",
    "Which part of that are you least sure of, and why?",
    "Give one more example that differs from the first.",
    "Rewrite your answer for somebody who knows nothing of the subject.",
    "What would have to change for your answer to be wrong?",
    "List the key points of what we have so far.",
    "Continue from where you stopped.",
    "Take the opposite view and argue for it briefly.",
];

/// What a made-up prompt consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// Random words.
    Words,
    /// Verses.
    Verses,
}

/// Makes the conversations of one dataset.
pub(super) struct Items<'a> {
    recipe: &'a Recipe,
    maker: Maker<'a>,
    input: Option<Sampler>,
    output: Option<Sampler>,
    think: Sampler,
    kept: RefCell<KeptTexts>,
}

/// Texts that are made once and used often.
#[derive(Default)]
struct KeptTexts {
    texts: HashMap<(Kept, u64), String>,
    bytes: usize,
}

/// What a text that is kept is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kept {
    Prefix,
    FirstBlock,
    LaterBlock,
}

impl<'a> Items<'a> {
    pub(super) fn new(recipe: &'a Recipe, maker: Maker<'a>) -> Self {
        let sampler = |lengths: Option<&_>, setting| lengths.map(|lengths| Sampler::new(lengths, setting));
        Self {
            recipe,
            maker,
            input: sampler(recipe.input_tokens.as_ref(), "prompts.input_tokens"),
            output: sampler(recipe.output_tokens.as_ref(), "prompts.output_tokens"),
            think: Sampler::new(&recipe.think_time_s, "prompts.think_time_s"),
            kept: RefCell::default(),
        }
    }

    /// What a reader should know of the lengths.
    pub(super) fn note(&self) -> Option<String> {
        self.maker.note()
    }
    /// `tokens` or `words`.
    pub(super) fn unit(&self) -> &'static str {
        self.maker.unit()
    }

    /// A made-up conversation.
    pub(super) fn made_up(&self, index: u64, style: Style) -> Result<Item, WorkloadError> {
        let turns = (0..u64::from(self.recipe.turns)).map(|turn| {
            let number = index * TURN_STRIDE + turn;
            let input = self.input_length(number)?.unwrap_or(DEFAULT_INPUT);
            let head = if turn == 0 { self.head(index, style) } else { String::new() };
            let target = self.maker.count(&head).unwrap_or(0).saturating_add(input);
            let mut rng = stream(self.recipe.seed, Use::Body, number);
            let made = match style {
                Style::Words => self.maker.random(&mut rng, &head, target),
                Style::Verses => self.maker.verses(&mut rng, &head, target),
            };
            Ok(Turn {
                input_tokens: made.tokens,
                max_tokens: self.output_length(number)?,
                think_ns: if turn == 0 { 0 } else { self.think_time(number)? },
                ..Turn::new(Prompt::Text(head + &made.text))
            })
        });
        Ok(Item { turns: turns.collect::<Result<_, WorkloadError>>()?, at_ns: None, id: None })
    }

    /// The conversation of a record, with at most `turns` turns; those that the record lacks are made up if `follow_up` says so.
    pub(super) fn of_record(
        &self,
        index: u64,
        record: &Record,
        turns: usize,
        follow_up: bool,
    ) -> Result<Item, WorkloadError> {
        let mut made = Vec::new();
        for (position, source) in record.turns.iter().take(turns).enumerate() {
            made.push(self.turn(index, position as u64, source, record.line)?);
        }
        while follow_up && made.len() < turns {
            let position = made.len() as u64;
            let text = FOLLOW_UPS[((index + position - 1) % FOLLOW_UPS.len() as u64) as usize];
            let source = SourceTurn::new(Asked::Prompt(Prompt::Text(text.to_owned())));
            made.push(self.turn(index, position, &source, record.line)?);
        }
        Ok(Item { turns: made, at_ns: record.at_ns, id: record.id.clone() })
    }

    fn turn(&self, index: u64, position: u64, source: &SourceTurn, line: u64) -> Result<Turn, WorkloadError> {
        let number = index * TURN_STRIDE + position;
        let length = self.input_length(number)?;
        let head = if position == 0 { self.head(index, Style::Words) } else { String::new() };
        let (prompt, input_tokens) = match &source.asked {
            Asked::Made { tokens, blocks } => {
                let length = length.unwrap_or(*tokens);
                let text = self.blocks(number, blocks, length);
                // The words of a text made without a tokenizer are as many as the trace tells tokens, so nobody knows its tokens.
                let tokens = self.maker.counter().map(|_| length + self.maker.count(&head).unwrap_or(0));
                (Prompt::Text(head + &text), tokens)
            }
            Asked::Prompt(prompt) => {
                let prompt = match length {
                    Some(length) => self.resized(prompt.clone(), length),
                    None => prompt.clone(),
                };
                let told = source.input_tokens.filter(|_| head.is_empty() && length.is_none());
                let prompt = self.sendable(self.headed(prompt, &head), line)?;
                let counted = self.tokens(&prompt);
                (prompt, counted.or(told))
            }
        };
        let replied = || source.reply.as_deref().and_then(|reply| self.maker.count(reply)).filter(|tokens| *tokens > 0);
        let max_tokens = self.output_length(number)?.or(source.max_tokens).or_else(replied);
        let min_tokens = match (source.min_tokens, max_tokens) {
            (Some(min), Some(max)) => Some(min.min(max)),
            (min, _) => min,
        };
        let think_ns = match source.think_ns {
            Some(think) => think,
            None if position == 0 => 0,
            None => self.think_time(number)?,
        };
        Ok(Turn {
            prompt,
            input_tokens,
            max_tokens,
            min_tokens: min_tokens.filter(|min| !self.recipe.leave_out_defaults || *min > 1 || self.recipe.min_tokens),
            ignore_eos: source
                .ignore_eos
                .filter(|ignore| !self.recipe.leave_out_defaults || *ignore || self.recipe.ignore_eos),
            think_ns,
        })
    }

    fn input_length(&self, number: u64) -> Result<Option<u32>, WorkloadError> {
        let draw = |sampler: &Sampler| sampler.tokens(&mut stream(self.recipe.seed, Use::Input, number));
        self.input.as_ref().map(draw).transpose()
    }
    fn output_length(&self, number: u64) -> Result<Option<u32>, WorkloadError> {
        let draw = |sampler: &Sampler| sampler.tokens(&mut stream(self.recipe.seed, Use::Output, number));
        self.output.as_ref().map(draw).transpose()
    }
    fn think_time(&self, number: u64) -> Result<u64, WorkloadError> {
        self.think.nanoseconds(&mut stream(self.recipe.seed, Use::Think, number))
    }

    /// What stands before the first prompt of a conversation: its salt, then the prefix of its group.
    fn head(&self, index: u64, style: Style) -> String {
        let mut head = String::new();
        if self.recipe.salt {
            head = self.salt(index) + "\n\n";
        }
        if self.recipe.shared_prefix_tokens > 0 {
            let group = index % u64::from(self.recipe.prefixes.max(1));
            head += &self.kept(Kept::Prefix, group, || {
                let mut rng = stream(self.recipe.seed, Use::Prefix, group);
                match style {
                    Style::Words => self.maker.random(&mut rng, "", self.recipe.shared_prefix_tokens).text,
                    Style::Verses => self.maker.verses(&mut rng, "", self.recipe.shared_prefix_tokens).text,
                }
            });
            head += "\n\n";
        }
        head
    }

    /// Words that no other prompt of the set begins with: some at random, then the index written in words.
    fn salt(&self, index: u64) -> String {
        let words: Vec<&str> = super::fit::words();
        let mut rng = stream(self.recipe.seed, Use::Salt, index);
        let mut salt: Vec<&str> = (0..SALT_WORDS).map(|_| words[rng.random_range(0..words.len())]).collect();
        let mut rest = index;
        loop {
            salt.push(words[(rest % words.len() as u64) as usize]);
            rest /= words.len() as u64;
            if rest == 0 {
                return salt.join(" ");
            }
        }
    }

    /// A text of `length` whose blocks are the same wherever their hashes are; what no hash is for is like nothing else.
    fn blocks(&self, number: u64, blocks: &[u64], length: u32) -> String {
        let mut text = String::new();
        let mut rest = length;
        for hash in blocks {
            if rest == 0 {
                break;
            }
            let tokens = rest.min(BLOCK);
            let first = text.is_empty();
            let make = || self.piece(stream(self.recipe.seed, Use::Block, *hash), first, tokens).text;
            let kind = if first { Kept::FirstBlock } else { Kept::LaterBlock };
            text += &if tokens == BLOCK { self.kept(kind, *hash, make) } else { make() };
            rest -= tokens;
        }
        if rest > 0 {
            let made = self.piece(stream(self.recipe.seed, Use::Body, number), text.is_empty(), rest);
            text += &made.text;
        }
        text
    }

    /// Random words that begin a text or go on with it. A full stop stands for what is before them, so that no block has to be counted twice.
    fn piece(&self, mut rng: rand::rngs::StdRng, first: bool, tokens: u32) -> Made {
        let head = if first { "" } else { "." };
        let before = if first { 0 } else { self.maker.count(head).unwrap_or(0) };
        self.maker.random(&mut rng, head, before + tokens)
    }

    /// A text that is made at most once, as long as there is room to keep it.
    fn kept(&self, kind: Kept, key: u64, make: impl FnOnce() -> String) -> String {
        if let Some(text) = self.kept.borrow().texts.get(&(kind, key)) {
            return text.clone();
        }
        let text = make();
        let mut kept = self.kept.borrow_mut();
        if kept.bytes + text.len() <= KEPT_BYTES {
            kept.bytes += text.len();
            kept.texts.insert((kind, key), text.clone());
        }
        text
    }

    /// The prompt cut or said again until it is `length` long; of messages, the last one.
    fn resized(&self, prompt: Prompt, length: u32) -> Prompt {
        match prompt {
            Prompt::Text(text) => Prompt::Text(self.maker.resize(&text, length).text),
            Prompt::Messages(mut messages) => {
                if let Some(last) = messages.last_mut() {
                    last.content = self.maker.resize(&last.content, length).text;
                }
                Prompt::Messages(messages)
            }
            Prompt::TokenIds(ids) => Prompt::TokenIds(ids.iter().copied().cycle().take(length as usize).collect()),
        }
    }

    /// The prompt with `head` before it.
    fn headed(&self, prompt: Prompt, head: &str) -> Prompt {
        if head.is_empty() {
            return prompt;
        }
        match prompt {
            Prompt::Text(text) => Prompt::Text(format!("{head}{text}")),
            Prompt::Messages(mut messages) => {
                match messages.first_mut() {
                    Some(first) => first.content.insert_str(0, head),
                    None => messages.push(Message { role: "user".to_owned(), content: head.to_owned() }),
                }
                Prompt::Messages(messages)
            }
            Prompt::TokenIds(ids) => {
                let mut all = self.maker.counter().map(|counter| counter.encode(head)).unwrap_or_default();
                all.extend(ids);
                Prompt::TokenIds(all)
            }
        }
    }

    /// Token ids as text where the API takes no ids.
    fn sendable(&self, prompt: Prompt, line: u64) -> Result<Prompt, WorkloadError> {
        match prompt {
            Prompt::TokenIds(ids) if !self.recipe.takes_token_ids => {
                let Some(counter) = self.maker.counter() else {
                    let message = format!(
                        "takes text, and line {line} of the dataset has token ids: set `endpoint=completions`, or `prompts.tokenizer` to make text of them"
                    );
                    return Err(WorkloadError::Setting { setting: "endpoint", message });
                };
                counter.decode(&ids).map(Prompt::Text).map_err(WorkloadError::Tokenizer)
            }
            other => Ok(other),
        }
    }

    fn tokens(&self, prompt: &Prompt) -> Option<u32> {
        match prompt {
            Prompt::Text(text) => self.maker.count(text),
            Prompt::Messages(messages) => messages.iter().map(|message| self.maker.count(&message.content)).sum(),
            Prompt::TokenIds(ids) => Some(ids.len() as u32),
        }
    }
}
