//! Texts of a given length: in tokens where there is a tokenizer, else in words.

use std::cell::Cell;

use rand::Rng as _;
use rand::rngs::StdRng;

use super::counter::Counter;
use super::lengths::{Use, stream};

/// English words for made-up prompts.
const WORDS: &str = include_str!("words.txt");
/// Verses for prompts that read like language.
const LINES: &str = include_str!("lines.txt");
/// Fewer words of the vocabulary than this make dull prompts.
const FEWEST_WORDS: usize = 64;
/// Ids of the vocabulary that are looked at for words.
const IDS_TRIED: u32 = 4096;
/// Attempts at an exact length.
const ATTEMPTS: u32 = 32;

/// A text and what it measures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Made {
    /// The text, without the head it was fitted to.
    pub(super) text: String,
    /// Tokens of head and text; `None` without a tokenizer.
    pub(super) tokens: Option<u32>,
}

/// Appends the next piece of a text, with whatever separates it from what is there.
pub(super) type NextPiece<'a> = dyn FnMut(&mut String) + 'a;

/// Makes texts.
pub(super) struct Maker<'a> {
    counter: Option<&'a dyn Counter>,
    words: Vec<String>,
    filler: Option<&'static str>,
    missed: Cell<u64>,
    farthest: Cell<u64>,
}

impl<'a> Maker<'a> {
    /// A maker that counts with `counter` and takes its words by `seed`.
    pub(super) fn new(counter: Option<&'a dyn Counter>, seed: u64) -> Self {
        let own = counter.map(|counter| vocabulary_words(counter, seed)).unwrap_or_default();
        let words = if own.len() >= FEWEST_WORDS { own } else { WORDS.split_whitespace().map(str::to_owned).collect() };
        Self { counter, words, filler: counter.and_then(filler), missed: Cell::new(0), farthest: Cell::new(0) }
    }

    /// `tokens` or `words`.
    pub(super) fn unit(&self) -> &'static str {
        if self.counter.is_some() { "tokens" } else { "words" }
    }

    /// Tokens of `text`; `None` without a tokenizer.
    pub(super) fn count(&self, text: &str) -> Option<u32> {
        self.counter.map(|counter| counter.count(text) as u32)
    }

    /// The tokenizer.
    pub(super) fn counter(&self) -> Option<&'a dyn Counter> {
        self.counter
    }

    /// What a reader should know of the lengths, if anything.
    pub(super) fn note(&self) -> Option<String> {
        match (self.counter, self.missed.get()) {
            (None, _) => Some("lengths are words and not tokens: no tokenizer is given (`prompts.tokenizer`, or `--tokenizer` of `dataset`)".to_owned()),
            (Some(_), 0) => None,
            (Some(_), missed) => Some(format!(
                "{missed} texts could not be made of exactly the length that was drawn; the farthest misses it by {} tokens",
                self.farthest.get()
            )),
        }
    }

    /// Random words after `head`, together `target` long.
    pub(super) fn random(&self, rng: &mut StdRng, head: &str, target: u32) -> Made {
        self.fit(head, target, &mut |text| {
            separate(text);
            text.push_str(&self.words[rng.random_range(0..self.words.len())]);
        })
    }

    /// Verses after `head`, from a random line on, together `target` long.
    pub(super) fn verses(&self, rng: &mut StdRng, head: &str, target: u32) -> Made {
        let lines: Vec<&str> = LINES.lines().filter(|line| !line.is_empty()).collect();
        let mut words = lines[rng.random_range(0..lines.len())].split(' ');
        let mut first = true;
        self.fit(head, target, &mut |text| {
            let word = words.next().unwrap_or_else(|| {
                text.push('\n');
                words = lines[rng.random_range(0..lines.len())].split(' ');
                first = true;
                words.next().unwrap_or("and")
            });
            if !std::mem::take(&mut first) {
                separate(text);
            }
            text.push_str(word);
        })
    }

    /// `text` cut, or said again from its begin, until it is `target` long.
    pub(super) fn resize(&self, text: &str, target: u32) -> Made {
        let pieces = pieces(text);
        let mut index = 0;
        self.fit("", target, &mut |made| {
            let piece = pieces.get(index % pieces.len().max(1)).copied().unwrap_or("a");
            if index > 0 && index.is_multiple_of(pieces.len().max(1)) {
                separate(made);
            }
            made.push_str(piece);
            index += 1;
        })
    }

    /// Pieces after `head`, together `target` long. Pieces are taken away and short fillers put at the end until the count is right.
    pub(super) fn fit(&self, head: &str, target: u32, next: &mut NextPiece<'_>) -> Made {
        let target = target as usize;
        let mut text = head.to_owned();
        // Where each piece ends.
        let mut ends: Vec<usize> = Vec::new();
        let Some(counter) = self.counter else {
            for _ in 0..target.max(1) {
                next(&mut text);
            }
            return Made { text: text.split_off(head.len()), tokens: None };
        };
        let fixed = if head.is_empty() { 0 } else { counter.count(head) };
        let mut count = fixed;
        let mut shrunk = false;
        let mut best: Option<(usize, String)> = None;
        for _ in 0..ATTEMPTS {
            let rate =
                if ends.is_empty() { 1.0 } else { ((count.saturating_sub(fixed)) as f64 / ends.len() as f64).max(1.0) };
            if count < target || ends.is_empty() {
                let missing = target.saturating_sub(count).max(1);
                match self.filler.filter(|_| shrunk) {
                    Some(filler) => {
                        for _ in 0..missing {
                            text.push_str(if text.is_empty() { filler.trim_start() } else { filler });
                            ends.push(text.len());
                        }
                    }
                    None => {
                        for _ in 0..((missing as f64 / rate) as usize).max(1) {
                            next(&mut text);
                            ends.push(text.len());
                        }
                    }
                }
            } else {
                shrunk = true;
                let excess = ((count - target) as f64 / rate).ceil().max(1.0) as usize;
                ends.truncate(ends.len().saturating_sub(excess));
                text.truncate(ends.last().copied().unwrap_or(head.len()));
                // A line break whose line is gone.
                let end = text.trim_end().len().max(head.len());
                text.truncate(end);
            }
            count = counter.count(&text);
            if !ends.is_empty()
                && best.as_ref().is_none_or(|(found, _)| count.abs_diff(target) < found.abs_diff(target))
            {
                best = Some((count, text.clone()));
            }
            if count == target && !ends.is_empty() {
                break;
            }
        }
        let (count, mut text) = best.unwrap_or((count, text));
        if count != target {
            self.missed.set(self.missed.get() + 1);
            self.farthest.set(self.farthest.get().max(count.abs_diff(target) as u64));
        }
        Made { text: text.split_off(head.len()), tokens: Some(count as u32) }
    }
}

/// The built-in words.
pub(super) fn words() -> Vec<&'static str> {
    WORDS.split_whitespace().collect()
}

/// A space, unless the text is empty or ends in one.
fn separate(text: &mut String) {
    if !text.is_empty() && !text.ends_with(char::is_whitespace) {
        text.push(' ');
    }
}

/// The words of a text, each with the white space before it; what has no spaces is cut every few characters.
fn pieces(text: &str) -> Vec<&str> {
    const LONG: usize = 24;
    const PART: usize = 8;
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let word = rest.len() - rest.trim_start().len();
        let length = rest[word..].find(char::is_whitespace).map_or(rest.len(), |end| word + end);
        let (piece, after) = rest.split_at(length);
        if piece.chars().count() > LONG {
            let mut cuts: Vec<usize> = piece.char_indices().step_by(PART).map(|(at, _)| at).collect();
            cuts.push(piece.len());
            pieces.extend(cuts.windows(2).map(|cut| &piece[cut[0]..cut[1]]));
        } else {
            pieces.push(piece);
        }
        rest = after;
    }
    pieces
}

/// Words of the vocabulary that are one token each after a space.
fn vocabulary_words(counter: &dyn Counter, seed: u64) -> Vec<String> {
    let mut rng = stream(seed, Use::Pool, 0);
    let mut words: Vec<String> = (0..IDS_TRIED.min(counter.vocab_size()))
        .filter_map(|_| counter.decode(&[rng.random_range(0..counter.vocab_size())]).ok())
        .map(|text| text.trim().to_owned())
        .filter(|word| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_alphabetic()))
        .filter(|word| counter.count(&format!(" {word}")) == 1)
        .collect();
    words.sort_unstable();
    words.dedup();
    words
}

/// A short text that is one token however often it is said.
fn filler(counter: &dyn Counter) -> Option<&'static str> {
    let one_each = |filler: &&str| {
        [1, 2, 3, 8]
            .into_iter()
            .all(|times| counter.count(&format!("word{}", filler.repeat(times))) == counter.count("word") + times)
    };
    [" a", " the", " of", ".", " -", "a"].into_iter().find(one_each)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::counter::testing::{bpe, bytes};
    use super::*;

    #[test]
    fn random_words_have_exactly_the_tokens_asked_for() {
        for counter in [bpe(), bytes()] {
            let maker = Maker::new(Some(&counter), 3);
            for target in [1, 2, 3, 17, 256, 2000] {
                let made = maker.random(&mut stream(1, Use::Body, u64::from(target)), "", target);
                assert_eq!(counter.encode(&made.text).len(), target as usize, "{} of {target}", counter.name());
                assert_eq!(made.tokens, Some(target));
                assert_eq!(made.text.trim(), made.text);
            }
            assert_eq!(maker.note(), None);
        }
    }

    #[test]
    fn a_head_counts_and_is_not_given_back() {
        let counter = bpe();
        let maker = Maker::new(Some(&counter), 3);
        let head = "some shared words\n\n";
        let made = maker.random(&mut stream(1, Use::Body, 0), head, 40);
        assert_eq!(counter.count(&format!("{head}{}", made.text)), 40);
        assert!(!made.text.starts_with(' '));
        // A head that is too long already still gets something to ask, and the miss is told.
        let made = maker.random(&mut stream(1, Use::Body, 0), head, 2);
        assert!(!made.text.is_empty());
        assert!(maker.note().unwrap().starts_with("1 texts"), "{:?}", maker.note());
    }

    #[test]
    fn without_a_tokenizer_lengths_are_words_and_that_is_told() {
        let maker = Maker::new(None, 0);
        let made = maker.random(&mut stream(1, Use::Body, 0), "", 37);
        assert_eq!((made.text.split_whitespace().count(), made.tokens), (37, None));
        assert_eq!(maker.verses(&mut stream(1, Use::Body, 0), "", 100).text.split_whitespace().count(), 100);
        assert!(maker.note().unwrap().contains("words and not tokens"));
        assert_eq!(maker.unit(), "words");
    }

    #[test]
    fn verses_are_lines_of_the_text_in_some_order() {
        let counter = bytes();
        let maker = Maker::new(Some(&counter), 0);
        let made = maker.verses(&mut stream(5, Use::Body, 0), "", 600);
        assert_eq!(made.text.len(), 600);
        let known: Vec<&str> = LINES.lines().collect();
        let lines: Vec<&str> = made.text.lines().collect();
        assert!(lines.len() > 5);
        assert!(lines[..lines.len() - 1].iter().all(|line| known.contains(line)), "{lines:#?}");
    }

    #[test]
    fn a_text_is_cut_or_said_again() {
        let maker = Maker::new(None, 0);
        assert_eq!(maker.resize("one two\nthree", 2).text, "one two");
        assert_eq!(maker.resize("one two\nthree", 5).text, "one two\nthree one two");
        let counter = bytes();
        let maker = Maker::new(Some(&counter), 0);
        assert_eq!(maker.resize("日本語日本語日本語日本語日本語日本語日本語日本語日本語", 24).text.len(), 24);
    }

    #[test]
    fn the_built_in_words_are_words_and_there_are_enough() {
        let words: Vec<&str> = WORDS.split_whitespace().collect();
        let distinct: std::collections::BTreeSet<&str> = words.iter().copied().collect();
        assert!(words.len() >= 512 && distinct.len() == words.len());
        assert!(words.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
        assert_eq!(LINES.lines().filter(|line| !line.is_empty()).count(), 60);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_is_cut_to_no_more_than_a_word_off(text in "\\PC{1,80}", target in 1u32..60) {
            let counter = bytes();
            let maker = Maker::new(Some(&counter), 0);
            let made = maker.resize(&text, target);
            prop_assert!(made.text.len().abs_diff(target as usize) <= 32, "{:?}", made);
        }
        #[test]
        fn pieces_are_the_text(text in "[ \\n\\ta-zé日]{0,90}") {
            prop_assert_eq!(pieces(&text).concat(), text);
        }
    }
}
