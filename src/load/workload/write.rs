//! Writes a dataset as JSON lines that [`super::read`] reads back as the same.

use serde_json::{Map, Value, json};

use super::item::{Item, Prompt, Turn};
use super::recipe::Prepared;

/// The dataset, one conversation a line.
pub fn jsonl(prepared: &Prepared) -> String {
    let mut text = String::new();
    for (item, category) in prepared.dataset.items.iter().zip(&prepared.categories) {
        text += &line(item, category.as_deref()).to_string();
        text.push('\n');
    }
    text
}

/// A conversation as one JSON object.
fn line(item: &Item, category: Option<&str>) -> Value {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), value);
        }
    };
    put("id", item.id.clone().map(Value::from));
    put("category", category.map(Value::from));
    put("at_ns", item.at_ns.map(Value::from));
    match item.turns.as_slice() {
        [turn] => fields.extend(turn_fields(turn, 0)),
        turns => {
            let turns = turns.iter().enumerate().map(|(index, turn)| Value::Object(turn_fields(turn, index)));
            fields.insert("turns".to_owned(), Value::Array(turns.collect()));
        }
    }
    Value::Object(fields)
}

fn turn_fields(turn: &Turn, index: usize) -> Map<String, Value> {
    let mut fields = Map::new();
    match &turn.prompt {
        Prompt::Text(text) => fields.insert("prompt".to_owned(), Value::from(text.as_str())),
        Prompt::TokenIds(ids) => fields.insert("prompt".to_owned(), json!(ids)),
        Prompt::Messages(messages) => fields.insert("messages".to_owned(), json!(messages)),
    };
    let numbers = [
        ("input_tokens", turn.input_tokens),
        ("min_output_tokens", turn.min_tokens),
        ("max_output_tokens", turn.max_tokens),
    ];
    fields.extend(numbers.into_iter().filter_map(|(name, number)| Some((name.to_owned(), Value::from(number?)))));
    if let Some(ignore) = turn.ignore_eos {
        fields.insert("ignore_eos".to_owned(), Value::Bool(ignore));
    }
    // Of a later turn even 0 is written: none would take the setting.
    if turn.think_ns > 0 || index > 0 {
        fields.insert("think_ns".to_owned(), Value::from(turn.think_ns));
    }
    fields
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::super::item::{Dataset, Message};
    use super::super::recipe::{Recipe, prepare};
    use super::*;

    /// Text that is not blank; any characters otherwise (a line separator alone is blank).
    fn text() -> impl Strategy<Value = String> {
        "(?s).{0,30}\u{2028}?[a-z\"\\\\é].{0,10}"
    }
    fn prompt() -> impl Strategy<Value = Prompt> {
        let role = prop_oneof![Just("system"), Just("user"), Just("assistant")];
        let messages = (vec((role, text()), 0..4), text()).prop_map(|(before, last)| {
            let message = |(role, content): (&str, String)| Message { role: role.to_owned(), content };
            let mut messages: Vec<Message> = before.into_iter().map(message).collect();
            messages.push(message(("user", last)));
            Prompt::Messages(messages)
        });
        prop_oneof![text().prop_map(Prompt::Text), vec(any::<u32>(), 1..9).prop_map(Prompt::TokenIds), messages]
    }
    fn turn(first: bool) -> impl Strategy<Value = Turn> {
        let lengths = option::of((0u32..=50, option::of(50u32..=u32::MAX)));
        (prompt(), option::of(any::<u32>()), lengths, option::of(any::<bool>()), any::<u64>()).prop_map(
            move |(prompt, input_tokens, lengths, ignore_eos, think_ns)| Turn {
                prompt,
                input_tokens,
                min_tokens: lengths.map(|(min, _)| min),
                max_tokens: lengths.and_then(|(_, max)| max),
                ignore_eos,
                think_ns: if first { 0 } else { think_ns },
            },
        )
    }
    fn items() -> impl Strategy<Value = Vec<Item>> {
        let item = (turn(true), vec(turn(false), 0..3), 0u64..1 << 60, option::of("[a-z]{1,4}"));
        let timed = any::<bool>();
        (vec(item, 1..6), timed).prop_map(|(items, timed)| {
            let mut at = 0u64;
            let mut made: Vec<Item> = Vec::new();
            for (index, (first, rest, gap, id)) in items.into_iter().enumerate() {
                // The first request of a trace is its begin, and times do not fall.
                at = if index == 0 { 0 } else { at + gap };
                let turns = std::iter::once(first).chain(rest).collect();
                let id = id.map(|id| format!("{id}{index}"));
                made.push(Item { turns, at_ns: timed.then_some(at), id });
            }
            made
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn what_is_written_is_read_back_as_the_same(items in items()) {
            let categories: Vec<Option<String>> = (0..items.len()).map(|index| (index % 2 == 0).then(|| "math".to_owned())).collect();
            let dataset = Dataset { name: "n".to_owned(), format: "prompts".to_owned(), items, notes: Vec::new() };
            let written = Prepared { dataset, categories };
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("set.jsonl");
            std::fs::write(&path, jsonl(&written)).unwrap();
            let mut expected = written.clone();
            // Token ids are counted by themselves, and the tokens a file tells of other prompts are kept.
            for turn in expected.dataset.items.iter_mut().flat_map(|item| &mut item.turns) {
                if let Prompt::TokenIds(ids) = &turn.prompt {
                    turn.input_tokens = Some(ids.len() as u32);
                }
            }
            let read = prepare(&Recipe::plain(&path.display().to_string()), None, 0).unwrap();
            prop_assert_eq!(&read.dataset.items, &expected.dataset.items);
            prop_assert_eq!(&read.categories, &expected.categories);
            prop_assert_eq!(jsonl(&read), jsonl(&expected));
        }
    }

    #[test]
    fn a_line_has_only_what_is_known() {
        let mut turn = Turn::new(Prompt::Text("hi".to_owned()));
        let item = |turn: &Turn| Item { turns: vec![turn.clone()], at_ns: None, id: None };
        assert_eq!(line(&item(&turn), None).to_string(), r#"{"prompt":"hi"}"#);
        turn.max_tokens = Some(9);
        assert_eq!(
            line(&item(&turn), Some("math")).to_string(),
            r#"{"category":"math","prompt":"hi","max_output_tokens":9}"#
        );
    }
}
