//! The built-in prompts: two tasks of each of nine categories, with places that a seed fills differently.

use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

use super::lengths::{Use, stream};

/// The categories, in the order in which prompts are sent.
pub const CATEGORIES: [&str; 9] = [
    "coding",
    "reasoning",
    "creative_writing",
    "summarization",
    "json_extraction",
    "math",
    "question_answering",
    "translation",
    "code_debugging",
];

/// The fewest and the most new tokens that a prompt of this kind asks for.
pub const OUTPUT_TOKENS: std::ops::RangeInclusive<u32> = 50..=512;

/// An item of `benchmark_dataset.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchmarkItem {
    /// `<category>_<number>`, from 1 in each category.
    pub id: String,
    /// One of [`CATEGORIES`].
    pub category: String,
    /// The text.
    pub prompt: String,
    /// New tokens at least.
    pub min_output_tokens: u32,
    /// New tokens at most.
    pub max_output_tokens: u32,
    /// Whether to go on after the end-of-sequence token.
    pub ignore_eos: bool,
}

/// One task; `{0}`, `{1}`, … stand for one of the fillers of that place.
struct Template {
    category: &'static str,
    max_output_tokens: u32,
    text: &'static str,
    places: &'static [&'static [&'static str]],
}

impl Template {
    /// Number of different prompts.
    fn variations(&self) -> usize {
        self.places.iter().map(|fillers| fillers.len()).product()
    }
    /// The prompt of a number below [`Self::variations`]; 0 takes the first filler everywhere.
    fn prompt(&self, mut variation: usize) -> String {
        let mut text = self.text.to_owned();
        for (place, fillers) in self.places.iter().enumerate() {
            text = text.replace(&format!("{{{place}}}"), fillers[variation % fillers.len()]);
            variation /= fillers.len();
        }
        text
    }
}

/// The most prompts [`prompts`] can make that all differ.
pub fn most_prompts() -> usize {
    TEMPLATES.len() * TEMPLATES.iter().map(Template::variations).min().unwrap_or(0)
}

/// `count` prompts that all differ, the categories in turn. Without a seed the first 18 are always the same; a seed chooses other fillers.
///
/// # Errors
/// If so many cannot be made, or none is asked for.
pub fn prompts(count: usize, seed: Option<u64>) -> Result<Vec<BenchmarkItem>, String> {
    if count == 0 || count > most_prompts() {
        return Err(format!("{count} prompts cannot be made: 1 to {} can", most_prompts()));
    }
    let orders: Vec<Vec<usize>> = TEMPLATES
        .iter()
        .enumerate()
        .map(|(index, template)| {
            let mut order: Vec<usize> = (0..template.variations()).collect();
            if let Some(seed) = seed {
                order.shuffle(&mut stream(seed, Use::Template, index as u64));
            }
            order
        })
        .collect();
    let mut numbers = [0usize; CATEGORIES.len()];
    Ok((0..count)
        .map(|index| {
            let (template, round) = (&TEMPLATES[index % TEMPLATES.len()], index / TEMPLATES.len());
            let category = CATEGORIES.iter().position(|name| *name == template.category).unwrap_or(0);
            numbers[category] += 1;
            BenchmarkItem {
                id: format!("{}_{}", template.category, numbers[category]),
                category: template.category.to_owned(),
                prompt: template.prompt(orders[index % TEMPLATES.len()][round]),
                min_output_tokens: 1,
                max_output_tokens: template.max_output_tokens,
                ignore_eos: false,
            }
        })
        .collect())
}

/// Two tasks of each category; the second round of categories asks for something of another length.
const TEMPLATES: [Template; 18] = [
    Template {
        category: "coding",
        max_output_tokens: 384,
        text: "Write a Python function `{0}` that {1}. Use type hints, handle empty input, and add three assertions that show {2}.",
        places: &[
            &["solve", "run", "compute"],
            &[
                "merges overlapping intervals given as pairs of integers",
                "finds the longest run of equal characters in a string",
                "groups words that are anagrams of each other",
                "returns the k most frequent items of a list",
            ],
            &["that it works", "the usual case and two edge cases", "where a naive version would fail"],
        ],
    },
    Template {
        category: "reasoning",
        max_output_tokens: 256,
        text: "{0} sit in a row of four chairs. {1} The one who drinks {2} sits at the left end. Who can sit where? Reason step by step and list every arrangement.",
        places: &[
            &["Ada, Ben, Cleo, and Dan", "Mira, Noah, Olga, and Paul", "Ruth, Sami, Tove, and Umar"],
            &[
                "The first two named never sit together.",
                "The last two named always sit together.",
                "Exactly one chair is between the first and the third named.",
            ],
            &["tea and is named second", "water and is named last", "milk and is named first"],
        ],
    },
    Template {
        category: "creative_writing",
        max_output_tokens: 512,
        text: "Write a short story of about 300 words in which {0} finds {1} {2}. End it with a line of dialogue.",
        places: &[
            &["a lighthouse keeper", "a retired violin maker", "the night guard of a museum", "a lost courier"],
            &["a letter addressed to nobody", "a clock that runs backwards", "a door that was not there yesterday"],
            &["on the last day of winter", "during a power cut", "an hour before leaving for good"],
        ],
    },
    Template {
        category: "summarization",
        max_output_tokens: 128,
        text: "Summarize the following report in {0}, for {1}:\n\nThe town's {2} opened in March after two years of work. In its first six months it was used by 48,000 people, a third more than planned, most of them on weekday mornings. Costs ran 12 percent over budget because the ground was wetter than the survey had said. Complaints fell from 40 a week to 6 once the signs were replaced. The council will decide in November whether to keep it open at night, which would need four more staff and better lighting on the north side.",
        places: &[
            &["two sentences", "three bullet points", "one sentence of at most 30 words"],
            &["a council member who has no time", "the local newspaper", "a new employee"],
            &["cycle bridge", "public library", "tram stop"],
        ],
    },
    Template {
        category: "json_extraction",
        max_output_tokens: 160,
        text: "Extract the order below as JSON with the keys `customer`, `items` (each with `name`, `quantity`, `unit_price`), `delivery_date`, and `notes`. Answer with the JSON only.\n\n\"Hello, this is {0}. Please send me {1}, and {2}. Delivery on the 14th of May 2024 is fine. Ring twice, the bell is weak.\"",
        places: &[
            &["Ines Marquez", "Tomasz Nowak", "Grace Adeyemi"],
            &["3 boxes of tiles at 18.50 each", "two oak shelves for 64 euros apiece", "12 jars of honey, 7.20 a jar"],
            &["one tin of white paint at 22.90", "five brushes at 3.10 each", "a ladder for 89 euros"],
        ],
    },
    Template {
        category: "math",
        max_output_tokens: 256,
        text: "A tank holds {0} liters. One pipe fills it in {1} hours, another empties it in {2} hours. Both are opened while the tank is half full. How long until it is full, and how much water has flowed in by then? Show each step.",
        places: &[&["1200", "900", "2400"], &["4", "5", "6"], &["10", "12", "15"]],
    },
    Template {
        category: "question_answering",
        max_output_tokens: 96,
        text: "{0} {1} {2}",
        places: &[
            &[
                "Why does bread rise when it is baked?",
                "Why is the sky red at sunset and blue at noon?",
                "Why do leaves change color in autumn?",
                "Why does ice float on water?",
            ],
            &[
                "Answer in at most three sentences.",
                "Answer for a ten-year-old.",
                "Name the one cause that matters most.",
            ],
            &["Avoid technical terms.", "Give one everyday example."],
        ],
    },
    Template {
        category: "translation",
        max_output_tokens: 128,
        text: "Translate into {0}, keeping the tone {1}:\n\n\"{2}\"",
        places: &[
            &["German", "Spanish", "French"],
            &["friendly", "formal", "as it is"],
            &[
                "We are sorry that your parcel arrived late. The driver had the wrong street, and nobody told you. We have refunded the postage and added a voucher for your next order.",
                "The meeting has moved to Thursday at nine. Please bring the figures of the last quarter, and let me know if you would rather join by phone.",
                "Thank you for looking after the house. The key is under the blue pot, the cat eats twice a day, and the tomatoes are yours to take.",
            ],
        ],
    },
    Template {
        category: "code_debugging",
        max_output_tokens: 320,
        text: "The function below should return {0}, but {1}. Find the bug, explain it in {2}, and give the corrected function.\n\n```python\ndef pick(values):\n    best = 0\n    for i in range(1, len(values) - 1):\n        if values[i] > values[best]:\n            best = i\n    return values[best]\n```",
        places: &[
            &["the largest value of a list", "the highest of the given readings", "the maximum of its argument"],
            &[
                "it is wrong for some lists",
                "the last element is never returned",
                "a test with an ascending list fails",
            ],
            &["two sentences", "plain words", "a comment above the changed line"],
        ],
    },
    Template {
        category: "coding",
        max_output_tokens: 448,
        text: "Implement {0} in JavaScript without libraries. It must support {1}. Explain the running time of each operation {2}.",
        places: &[
            &["a least-recently-used cache", "a queue with two stacks", "a trie of words"],
            &["insertion, lookup, and removal", "iteration in order of insertion", "a limit on the number of entries"],
            &["in one line each", "in a table", "in comments beside the code"],
        ],
    },
    Template {
        category: "reasoning",
        max_output_tokens: 192,
        text: "{0} One of them always lies, the others always tell the truth. {1} {2} Explain how you know.",
        places: &[
            &[
                "Three guards stand before a gate.",
                "Three sailors argue about who drew the map.",
                "Three gardeners were asked who left the gate open.",
            ],
            &[
                "The first says: \"The second lies.\" The second says: \"The third tells the truth.\" The third says: \"The first lies.\"",
                "The first says: \"The third lies.\" The second says: \"The first tells the truth.\" The third says: \"The second lies.\"",
                "The first says: \"I tell the truth.\" The second says: \"The first lies.\" The third says: \"The second lies.\"",
            ],
            &["Who is the liar?", "Is it possible to say who lies?", "Which of them can be trusted for certain?"],
        ],
    },
    Template {
        category: "creative_writing",
        max_output_tokens: 64,
        text: "Write a {0} about {1} {2}.",
        places: &[
            &["haiku", "four-line rhyme", "limerick"],
            &["a delayed train", "the first snow", "an empty office", "a stubborn printer"],
            &["without naming it", "in a cheerful voice", "that asks a question"],
        ],
    },
    Template {
        category: "summarization",
        max_output_tokens: 192,
        text: "Read the minutes and list {0}. {1}\n\nMinutes, {2}: Present were nine of eleven members. The treasurer reported 3,410 euros, 200 less than in spring, since the heating was repaired. Jonas will ask two firms for offers for the roof by the end of the month. Lena proposed a summer concert; six were for it, two against, one abstained. Rehearsals need a room on Tuesdays, which Amir will look for. The chair reminded everyone that keys must be returned before the holidays. The next meeting is on the second of September.",
        places: &[
            &["decisions and open tasks separately", "who has to do what by when", "the five most important facts"],
            &["Use at most 80 words.", "Leave out names.", "Quote every number exactly."],
            &["garden club", "choir", "neighborhood association"],
        ],
    },
    Template {
        category: "json_extraction",
        max_output_tokens: 256,
        text: "Turn this log into a JSON array of objects with `time`, `level`, `service`, `message`{0}. Do not add any other text.\n\n{1}\n08:15:22 INFO auth user signed in from a new device\n08:15:40 {2}\n08:16:03 INFO billing invoice 5521 sent\n08:16:59 ERROR search index is older than one hour",
        places: &[
            &["", ", and use null where a part is missing", ", sorted by service"],
            &[
                "08:14:09 INFO gateway started on port 8443",
                "08:14:51 WARN gateway certificate ends in 9 days",
                "08:15:01 ERROR gateway upstream did not answer",
            ],
            &["WARN billing retry 2 of 5", "ERROR mail recipient refused", "INFO search 1204 documents added"],
        ],
    },
    Template {
        category: "math",
        max_output_tokens: 160,
        text: "{0} What is the probability that {1}? Give an exact fraction and a decimal with {2} digits.",
        places: &[
            &["Two fair dice are thrown.", "Two dice with eight sides are thrown.", "A fair die is thrown twice."],
            &["the sum is at least 9", "both numbers are even", "the first number is larger than the second"],
            &["two", "three", "four"],
        ],
    },
    Template {
        category: "question_answering",
        max_output_tokens: 50,
        text: "Using only the passage, answer the question in one short sentence.\n\nPassage: {0} lies on the {1} bank of the river and was founded by salt traders. Its market hall, built of {2}, survived the flood of 1784 because it stands on a low hill. Most of the old warehouses did not.\n\nQuestion: Why is the market hall still there?",
        places: &[
            &["Harden", "Lower Brandt", "Salis"],
            &["left", "right", "northern"],
            &["yellow stone", "oak", "red brick"],
        ],
    },
    Template {
        category: "translation",
        max_output_tokens: 96,
        text: "Translate this {0} sentence into English, then explain {1} in {2}: {3}",
        places: &[
            &["German"],
            &["the word order", "one word that has no exact match", "the tone"],
            &["one sentence", "at most 25 words", "simple terms"],
            &[
                "\"Wer zu spät kommt, muss mit dem vorliebnehmen, was übrig ist.\"",
                "\"Morgen soll es regnen, deshalb bleiben wir lieber zu Hause.\"",
                "\"Ohne deine Hilfe hätte ich den Zug bestimmt verpasst.\"",
            ],
        ],
    },
    Template {
        category: "code_debugging",
        max_output_tokens: 288,
        text: "{0} What is wrong, and what is the smallest change that repairs it? {1}\n\n```javascript\nasync function total(ids) {\n  let sum = 0;\n  ids.forEach(async (id) => {\n    const {2} = await load(id);\n    sum += {2}.price;\n  });\n  return sum;\n}\n```",
        places: &[
            &["This function always returns 0.", "Callers of this function get 0.", "The sum here is never right."],
            &[
                "Answer in three steps.",
                "Show only the changed lines.",
                "Say also how to load the entries in parallel.",
            ],
            &["entry", "item", "row"],
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn the_set_has_eighteen_prompts_of_nine_categories_and_asks_for_50_to_512_tokens() {
        let set = prompts(18, None).unwrap();
        let mut by_category: BTreeMap<&str, u32> = BTreeMap::new();
        for item in &set {
            *by_category.entry(&item.category).or_default() += 1;
            assert!(OUTPUT_TOKENS.contains(&item.max_output_tokens), "{item:?}");
            assert!(
                !item.prompt.contains("{0}") && !item.prompt.contains("{1}") && !item.prompt.contains("{2}"),
                "{item:?}"
            );
        }
        assert_eq!(by_category.len(), 9);
        assert!(by_category.values().all(|count| *count == 2));
        let lengths: BTreeSet<u32> = set.iter().map(|item| item.max_output_tokens).collect();
        assert_eq!((lengths.first(), lengths.last()), (Some(&50), Some(&512)));
        assert_eq!((set[0].id.as_str(), set[9].id.as_str()), ("coding_1", "coding_2"));
        assert_eq!(set, prompts(18, None).unwrap());
    }

    #[test]
    fn a_seed_chooses_other_prompts_and_the_same_seed_the_same() {
        let texts = |seed| prompts(18, seed).unwrap().into_iter().map(|item| item.prompt).collect::<Vec<_>>();
        assert_eq!(texts(Some(4)), texts(Some(4)));
        let changed = texts(Some(4)).iter().zip(texts(Some(5))).filter(|(one, other)| *one != other).count();
        assert!(changed > 9, "{changed}");
    }

    #[test]
    fn large_sets_have_no_prompt_and_no_id_twice() {
        let most = most_prompts();
        assert!(most >= 400, "{most}");
        let set = prompts(most, Some(1)).unwrap();
        let texts: BTreeSet<&str> = set.iter().map(|item| item.prompt.as_str()).collect();
        let ids: BTreeSet<&str> = set.iter().map(|item| item.id.as_str()).collect();
        assert_eq!((texts.len(), ids.len()), (most, most));
        assert!(prompts(most + 1, None).is_err() && prompts(0, None).is_err());
    }
}
