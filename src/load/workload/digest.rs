//! What identifies a dataset: the hash of all that is sent, and how many prompts differ.

use std::collections::HashSet;

use sha2::{Digest as _, Sha256};

use super::item::{Dataset, Prompt, Turn};

impl Dataset {
    /// SHA-256, in hex, over every prompt, length, pause and time in order: the same for the same settings, files and seed.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        number(&mut hash, self.items.len() as u64);
        for item in &self.items {
            optional(&mut hash, item.at_ns);
            number(&mut hash, item.turns.len() as u64);
            for turn in &item.turns {
                add_turn(&mut hash, turn);
            }
        }
        hash.finalize().iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
    }

    /// Different prompts among the first turns.
    pub fn distinct(&self) -> u64 {
        let digest = |prompt: &Prompt| -> [u8; 32] {
            let mut hash = Sha256::new();
            add_prompt(&mut hash, prompt);
            hash.finalize().into()
        };
        let prompts = self.items.iter().filter_map(|item| item.turns.first());
        prompts.map(|turn| digest(&turn.prompt)).collect::<HashSet<_>>().len() as u64
    }
}

fn add_turn(hash: &mut Sha256, turn: &Turn) {
    add_prompt(hash, &turn.prompt);
    optional(hash, turn.max_tokens.map(u64::from));
    optional(hash, turn.min_tokens.map(u64::from));
    optional(hash, turn.ignore_eos.map(u64::from));
    number(hash, turn.think_ns);
}

fn add_prompt(hash: &mut Sha256, prompt: &Prompt) {
    match prompt {
        Prompt::Text(text) => {
            hash.update(b"t");
            add_text(hash, text);
        }
        Prompt::Messages(messages) => {
            hash.update(b"m");
            number(hash, messages.len() as u64);
            for message in messages {
                add_text(hash, &message.role);
                add_text(hash, &message.content);
            }
        }
        Prompt::TokenIds(ids) => {
            hash.update(b"i");
            number(hash, ids.len() as u64);
            for id in ids {
                hash.update(id.to_le_bytes());
            }
        }
    }
}

/// A text with its length before it, so that no two lists of texts look alike.
fn add_text(hash: &mut Sha256, text: &str) {
    number(hash, text.len() as u64);
    hash.update(text.as_bytes());
}

fn number(hash: &mut Sha256, number: u64) {
    hash.update(number.to_le_bytes());
}

fn optional(hash: &mut Sha256, value: Option<u64>) {
    hash.update([u8::from(value.is_some())]);
    number(hash, value.unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::super::item::Item;
    use super::*;

    fn dataset(turns: Vec<Turn>) -> Dataset {
        let items = turns.into_iter().map(|turn| Item { turns: vec![turn], at_ns: None, id: None }).collect();
        Dataset { name: "x".to_owned(), format: "prompts".to_owned(), items, notes: Vec::new() }
    }
    fn text(text: &str) -> Turn {
        Turn::new(Prompt::Text(text.to_owned()))
    }

    #[test]
    fn the_hash_depends_on_what_is_sent_and_on_nothing_else() {
        let base = dataset(vec![text("ab"), text("c")]);
        let mut named = base.clone();
        named.name = "y".to_owned();
        named.notes.push("note".to_owned());
        named.items[0].id = Some("id".to_owned());
        named.items[0].turns[0].input_tokens = Some(3);
        assert_eq!(named.sha256(), base.sha256());
        assert_eq!(base.sha256().len(), 64);
        let mut hashes = vec![
            base.sha256(),
            dataset(vec![text("a"), text("bc")]).sha256(),
            dataset(vec![text("c"), text("ab")]).sha256(),
        ];
        for change in [
            (|turn: &mut Turn| turn.max_tokens = Some(0)) as fn(&mut Turn),
            |turn| turn.min_tokens = Some(0),
            |turn| turn.ignore_eos = Some(false),
            |turn| turn.think_ns = 1,
            |turn| turn.prompt = Prompt::TokenIds(vec![97, 98]),
        ] {
            let mut changed = base.clone();
            change(&mut changed.items[0].turns[0]);
            hashes.push(changed.sha256());
        }
        let mut timed = base.clone();
        timed.items[1].at_ns = Some(0);
        hashes.push(timed.sha256());
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
    }

    #[test]
    fn prompts_that_are_equal_count_once() {
        assert_eq!(dataset(vec![text("a"), text("b"), text("a")]).distinct(), 2);
    }
}
