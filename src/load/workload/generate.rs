//! Asks a model for the prompts of a benchmark, and takes only an answer that is what was asked for.

use std::collections::BTreeSet;

use serde_json::Value;

use super::builtin::{BenchmarkItem, CATEGORIES, OUTPUT_TOKENS};

/// Further attempts after an answer that cannot be used.
const RETRIES: u32 = 3;
/// A longer answer is not looked at.
const MAX_REPLY_BYTES: usize = 4 << 20;
/// A longer prompt is not what was asked for.
const MAX_PROMPT_CHARS: usize = 8000;
/// Places of a reply that are tried as the begin of a list.
const MAX_PLACES: usize = 200;

/// What the model is told.
pub fn request(count: usize, seed: Option<u64>) -> String {
    let (least, most) = (OUTPUT_TOKENS.start(), OUTPUT_TOKENS.end());
    let names = CATEGORIES.join(", ");
    let every = if count >= CATEGORIES.len() { " Use every category at least once." } else { "" };
    let variety =
        seed.map_or_else(String::new, |seed| format!(" Take number {seed} as a hint to choose unusual subjects."));
    format!(
        "Write {count} prompts that test a language model under load. Each belongs to one of these categories: {names}.{every} They must differ in \
         subject, in length (from one sentence to several paragraphs) and in the length of the answer they call for. A prompt must be complete: where it \
         speaks of a text, of data or of code, these are in it.{variety}\n\nAnswer with a JSON array of exactly {count} objects and nothing else. Each \
         object has the fields \"category\" (one of the names above), \"prompt\" (text) and \"max_output_tokens\" (a whole number from {least} to {most} \
         that fits the answer)."
    )
}

/// Asks until an answer can be used, at most four times. Each further request says what was wrong with the answer before.
///
/// # Errors
/// What was wrong with the last answer, or why none came.
pub fn ask(
    count: usize,
    seed: Option<u64>,
    ask: &mut dyn FnMut(&str) -> Result<String, String>,
) -> Result<Vec<BenchmarkItem>, String> {
    let plain = request(count, seed);
    let mut text = plain.clone();
    let mut wrong = String::new();
    for _ in 0..=RETRIES {
        match ask(&text)
            .map_err(|error| (error, false))
            .and_then(|reply| parse_reply(&reply, count).map_err(|error| (error, true)))
        {
            Ok(items) => return Ok(items),
            Err((error, answered)) => {
                // Only words of our own go back to the model.
                text = if answered {
                    format!("{plain}\n\nAn earlier answer could not be used: {error}.")
                } else {
                    plain.clone()
                };
                wrong = error;
            }
        }
    }
    Err(format!("no answer of {} could be used; the last: {wrong}", RETRIES + 1))
}

/// The prompts in a reply: a JSON array, with prose or a code fence around it or not. Ids are given anew.
///
/// # Errors
/// What is wrong with it, in words of our own.
pub fn parse_reply(text: &str, count: usize) -> Result<Vec<BenchmarkItem>, String> {
    if text.len() > MAX_REPLY_BYTES {
        return Err(format!("the answer is longer than {} MiB", MAX_REPLY_BYTES >> 20));
    }
    let list = array(text).ok_or("the answer has no JSON array of objects")?;
    if list.len() != count {
        return Err(format!("the answer has {} prompts, and {count} were asked for", list.len()));
    }
    let mut numbers = [0usize; CATEGORIES.len()];
    let mut seen = BTreeSet::new();
    let mut items = Vec::with_capacity(count);
    for (index, entry) in list.iter().enumerate() {
        let refuse = |message: &str| format!("prompt {} {message}", index + 1);
        let category = entry["category"].as_str().ok_or_else(|| refuse("has no category"))?;
        let category = category.trim().to_lowercase().replace([' ', '-'], "_");
        let Some(known) = CATEGORIES.iter().position(|name| *name == category) else {
            return Err(refuse("is of a category that was not asked for"));
        };
        let prompt = clean(entry["prompt"].as_str().ok_or_else(|| refuse("has no text"))?);
        if prompt.is_empty() {
            return Err(refuse("is empty"));
        }
        if prompt.chars().count() > MAX_PROMPT_CHARS {
            return Err(refuse(&format!("is longer than {MAX_PROMPT_CHARS} characters")));
        }
        let tokens = entry["max_output_tokens"].as_u64().and_then(|tokens| u32::try_from(tokens).ok());
        let Some(max_output_tokens) = tokens.filter(|tokens| OUTPUT_TOKENS.contains(tokens)) else {
            let (least, most) = (OUTPUT_TOKENS.start(), OUTPUT_TOKENS.end());
            return Err(refuse(&format!("has a `max_output_tokens` that is not from {least} to {most}")));
        };
        if !seen.insert(prompt.clone()) {
            return Err(refuse("is the same as one before it"));
        }
        numbers[known] += 1;
        items.push(BenchmarkItem {
            id: format!("{category}_{}", numbers[known]),
            category,
            prompt,
            min_output_tokens: 1,
            max_output_tokens,
            ignore_eos: false,
        });
    }
    if let Some(missing) = numbers.iter().position(|number| *number == 0).filter(|_| count >= CATEGORIES.len()) {
        return Err(format!("the answer has no prompt of the category {}", CATEGORIES[missing]));
    }
    Ok(items)
}

/// The first JSON array of objects in a text.
fn array(text: &str) -> Option<Vec<Value>> {
    text.match_indices('[').take(MAX_PLACES).find_map(|(at, _)| {
        let mut stream = serde_json::Deserializer::from_str(&text[at..]).into_iter::<Vec<Value>>();
        let list = stream.next()?.ok()?;
        (!list.is_empty() && list.iter().all(Value::is_object)).then_some(list)
    })
}

/// The text without control characters, and without characters that change how others are shown.
fn clean(text: &str) -> String {
    let hidden =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
    let kept: String = text
        .replace("\r\n", "\n")
        .chars()
        .filter(|c| matches!(c, '\n' | '\t') || !(c.is_control() || hidden(*c)))
        .collect();
    kept.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn answer(count: usize) -> Vec<Value> {
        (0..count)
            .map(|index| json!({"category": CATEGORIES[index % 9], "prompt": format!("Task {index}: sum [1, 2]."), "max_output_tokens": 50 + index, "id": "ignored"}))
            .collect()
    }
    fn text(list: &[Value]) -> String {
        Value::Array(list.to_vec()).to_string()
    }

    #[test]
    fn an_answer_is_taken_with_prose_or_a_fence_around_it() {
        let list = text(&answer(18));
        for reply in [
            list.clone(),
            format!("Here are [as you asked] 18 prompts [1]:\n```json\n{list}\n```\nEnjoy [them]!"),
            format!("{{\"prompts\": {list}}}"),
        ] {
            let items = parse_reply(&reply, 18).unwrap_or_else(|error| panic!("{reply}: {error}"));
            assert_eq!(items.len(), 18);
            assert_eq!((items[0].id.as_str(), items[9].id.as_str()), ("coding_1", "coding_2"));
            assert_eq!((items[17].prompt.as_str(), items[17].max_output_tokens), ("Task 17: sum [1, 2].", 67));
        }
    }

    #[test]
    fn an_answer_that_is_not_what_was_asked_for_is_refused_in_words() {
        let changed = |index: usize, field: &str, value: Value| {
            let mut list = answer(18);
            list[index][field] = value;
            text(&list)
        };
        for (reply, expected) in [
            (text(&answer(17)), "17 prompts, and 18 were asked for"),
            (text(&answer(19)), "19 prompts"),
            ("I cannot help with that.".to_owned(), "no JSON array"),
            ("[1, 2, 3]".to_owned(), "no JSON array"),
            (text(&answer(18))[..600].to_owned(), "no JSON array"),
            (changed(3, "category", json!("weapons")), "prompt 4 is of a category that was not asked for"),
            (changed(3, "category", Value::Null), "prompt 4 has no category"),
            (changed(5, "prompt", json!(" \u{1b}\n")), "prompt 6 is empty"),
            (changed(5, "prompt", json!(7)), "prompt 6 has no text"),
            (changed(5, "prompt", json!("Task 0: sum [1, 2].")), "prompt 6 is the same"),
            (changed(7, "max_output_tokens", json!(100_000)), "prompt 8 has a `max_output_tokens`"),
            (changed(7, "prompt", json!("x".repeat(9000))), "prompt 8 is longer"),
            (text(&answer(18)).replace("translation", "math"), "no prompt of the category translation"),
        ] {
            let error = parse_reply(&reply, 18).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn control_characters_and_hidden_ones_are_taken_out() {
        let mut list = answer(18);
        list[0]["prompt"] = json!("\u{1b}[31mred\u{7}\r\n\u{202e}line\u{200b} two\u{0}\t.");
        list[1]["category"] = json!("Reasoning ");
        let items = parse_reply(&text(&list), 18).unwrap();
        assert_eq!(items[0].prompt, "[31mred\nline two\t.");
        assert_eq!(items[1].category, "reasoning");
    }

    #[test]
    fn a_bad_answer_is_asked_for_again_at_most_three_times() {
        let mut asked = Vec::new();
        let good = text(&answer(18));
        let items = ask(18, Some(4), &mut |request| {
            asked.push(request.to_owned());
            match asked.len() {
                1 => Ok("prose <script>".to_owned()),
                2 => Err("HTTP 503".to_owned()),
                3 => Ok(text(&answer(17))),
                _ => Ok(good.clone()),
            }
        });
        assert_eq!(items.unwrap().len(), 18);
        assert_eq!(asked.len(), 4);
        assert!(asked[1].contains("no JSON array") && !asked[1].contains("script"), "{}", asked[1]);
        assert_eq!(asked[2], asked[0]);
        let mut calls = 0;
        let error = ask(18, None, &mut |_| {
            calls += 1;
            Ok(text(&answer(17)))
        });
        assert_eq!(calls, 4);
        assert!(error.unwrap_err().contains("17 prompts"));
    }

    #[test]
    fn the_request_says_how_many_and_of_what() {
        let text = request(18, None);
        assert!(text.contains("exactly 18 objects") && text.contains("from 50 to 512"));
        assert!(CATEGORIES.iter().all(|name| text.contains(name)));
    }

    proptest! {
        #[test]
        fn any_answer_is_taken_or_refused(text in "[\\[\\]{}\",: a-z0-9\\\\]{0,120}", count in 0usize..4) {
            let _ = parse_reply(&text, count);
        }
    }
}
