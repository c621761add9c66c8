//! Datasets as the settings ask for them.

use std::collections::HashSet;
use std::path::PathBuf;

use super::build;
use super::counter::Counter;
use super::counter::testing::{bpe, bytes};
use super::error::WorkloadError;
use super::item::{Dataset, Item, Message, Prompt};
use crate::config::compose::{ComposeRequest, compose};
use crate::config::schema::load::LoadConfig;

fn config(settings: &[&str]) -> LoadConfig {
    let request = ComposeRequest {
        command: "load".to_owned(),
        overrides: settings.iter().map(|text| (*text).to_owned()).collect(),
        ..ComposeRequest::default()
    };
    compose(&request)
        .unwrap_or_else(|error| panic!("{settings:?}: {error}"))
        .load()
        .unwrap_or_else(|error| panic!("{error}"))
}
fn built(settings: &[&str], counter: Option<&dyn Counter>, needed: u64) -> Dataset {
    build(&config(settings), counter, needed).unwrap_or_else(|error| panic!("{settings:?}: {error}"))
}
fn refused(settings: &[&str]) -> WorkloadError {
    build(&config(settings), None, 0).expect_err("it is refused")
}
fn text(item: &Item, turn: usize) -> &str {
    match &item.turns[turn].prompt {
        Prompt::Text(text) => text,
        other => panic!("{other:?}"),
    }
}
/// A file in a directory that stays, and the setting that names it.
fn file(content: &str) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("set.data");
    std::fs::write(&path, content).unwrap();
    let setting = format!("dataset={}", path.display());
    (directory, setting)
}

#[test]
fn the_built_in_set_asks_for_lengths_of_its_own_and_for_nothing_a_server_may_not_know() {
    let dataset = built(&[], None, 100);
    assert_eq!((dataset.format.as_str(), dataset.items.len(), dataset.distinct()), ("builtin", 18, 18));
    let turn = &dataset.items[0].turns[0];
    assert!(turn.max_tokens.is_some_and(|tokens| (50..=512).contains(&tokens)));
    assert_eq!((turn.min_tokens, turn.ignore_eos, turn.input_tokens), (None, None, None));
    assert_eq!(dataset.items[0].id.as_deref(), Some("coding_1"));
    let counter = bytes();
    let counted = built(&["prompts.limit=3", "prompts.output_tokens=77"], Some(&counter), 0);
    assert_eq!(counted.items.len(), 3);
    assert_eq!(counted.items[0].turns[0].input_tokens, Some(text(&counted.items[0], 0).len() as u32));
    assert!(counted.items.iter().all(|item| item.turns[0].max_tokens == Some(77)));
}

#[test]
fn random_prompts_have_the_lengths_that_were_drawn() {
    let counter = bpe();
    let dataset =
        built(&["dataset=random", "prompts.input_tokens=100-120", "prompts.output_tokens=5-9"], Some(&counter), 60);
    assert_eq!(dataset.items.len(), 60);
    let mut lengths = HashSet::new();
    for item in &dataset.items {
        let tokens = counter.encode(text(item, 0)).len();
        assert_eq!(item.turns[0].input_tokens, Some(tokens as u32));
        assert!((100..=120).contains(&tokens) && (5..=9).contains(&item.turns[0].max_tokens.unwrap()));
        assert_eq!(item.turns[0].min_tokens, None);
        lengths.insert(tokens);
    }
    assert!(lengths.len() > 10);
    assert_eq!((dataset.distinct(), dataset.notes.len()), (60, 0));
    // Without a tokenizer lengths are words, which is told, and no count is claimed.
    let words = built(&["dataset=random", "prompts.input_tokens=30"], None, 2);
    assert_eq!(text(&words.items[1], 0).split_whitespace().count(), 30);
    assert_eq!(words.items[1].turns[0].input_tokens, None);
    assert!(words.notes[0].contains("words and not tokens"), "{:?}", words.notes);
    assert_eq!(text(&built(&["dataset=random"], None, 1).items[0], 0).split_whitespace().count(), 256);
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_a_larger_set_begins_alike() {
    let counter = bpe();
    let settings = [
        "dataset=synthetic",
        "prompts.input_tokens='normal(80,10)'",
        "prompts.turns=2",
        "prompts.think_time_s='exponential(2)'",
        "prompts.salt=true",
    ];
    let one = built(&settings, Some(&counter), 20);
    assert_eq!(one.sha256(), built(&settings, Some(&counter), 20).sha256());
    assert_eq!(one.items[..], built(&settings, Some(&counter), 50).items[..20]);
    let other = [&settings[..], &["seed=1"]].concat();
    assert_ne!(one.sha256(), built(&other, Some(&counter), 20).sha256());
    let turn = &one.items[0].turns;
    assert!(turn.len() == 2 && turn[0].think_ns == 0 && turn[1].think_ns > 0);
}

#[test]
fn a_shared_prefix_comes_before_the_drawn_length_and_differs_by_group() {
    let counter = bytes();
    let settings =
        ["dataset=random", "prompts.input_tokens=50", "prompts.shared_prefix_tokens=200", "prompts.prefixes=3"];
    let dataset = built(&settings, Some(&counter), 9);
    let head = |index: usize| &text(&dataset.items[index], 0)[..202];
    assert!(dataset.items.iter().all(|item| text(item, 0).len() == 252 && item.turns[0].input_tokens == Some(252)));
    for index in 0..9 {
        assert_eq!(head(index), head(index % 3));
        assert!(head(index).ends_with("\n\n"));
    }
    assert_eq!(HashSet::from([head(0), head(1), head(2)]).len(), 3);
    assert_eq!(dataset.distinct(), 9);
    assert!(dataset.notes.iter().any(|note| note.contains("3 prefixes of 200 tokens")), "{:?}", dataset.notes);
}

#[test]
fn salt_makes_every_prompt_begin_differently_and_a_small_set_large() {
    let dataset = built(&["prompts.salt=true"], None, 40);
    assert_eq!((dataset.items.len(), dataset.distinct()), (40, 40));
    let begins: HashSet<&str> = dataset.items.iter().map(|item| text(item, 0).split("\n\n").next().unwrap()).collect();
    assert_eq!(begins.len(), 40);
    let plain = built(&[], None, 40);
    assert!(text(&dataset.items[20], 0).ends_with(text(&plain.items[2], 0)));
    assert_ne!(text(&dataset.items[0], 0), text(&built(&["prompts.salt=true", "seed=9"], None, 40).items[0], 0));
}

#[test]
fn shuffle_and_limit_choose_by_seed() {
    let lines: Vec<String> = (0..50).map(|index| format!("{{\"id\":{index},\"prompt\":\"p{index}\"}}")).collect();
    let (_directory, name) = file(&lines.join("\n"));
    let ids = |settings: &[&str]| -> Vec<u32> {
        let all = [&[name.as_str()], settings].concat();
        built(&all, None, 0).items.iter().map(|item| item.id.as_ref().unwrap().parse().unwrap()).collect()
    };
    assert_eq!(ids(&["prompts.limit=3"]), [0, 1, 2]);
    let shuffled = ids(&["prompts.shuffle=true"]);
    assert_ne!(shuffled, (0..50).collect::<Vec<_>>());
    assert_eq!(ids(&["prompts.shuffle=true", "prompts.limit=5"]), shuffled[..5]);
    assert_ne!(ids(&["prompts.shuffle=true", "seed=3"]), shuffled);
    let mut sorted = shuffled;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..50).collect::<Vec<_>>());
    assert_eq!(built(&[&name], None, 7).items.len(), 7);
}

#[test]
fn conversations_give_one_turn_or_as_many_as_are_asked_for() {
    let (_directory, name) = file(
        r#"[{"id":"c","conversations":[{"from":"human","value":"one"},{"from":"gpt","value":"12345"},{"from":"human","value":"two"},{"from":"gpt","value":"123"},{"from":"human","value":"three"}]}]"#,
    );
    let counter = bytes();
    let single = built(&[&name], Some(&counter), 0);
    assert_eq!((single.format.as_str(), single.items[0].turns.len()), ("sharegpt", 1));
    assert_eq!(single.items[0].turns[0].max_tokens, Some(5), "the length of the reply in tokens");
    assert_eq!(built(&[&name], None, 0).items[0].turns[0].max_tokens, None);
    let several = built(&[&name, "prompts.turns=5", "prompts.think_time_s=1.5"], Some(&counter), 0);
    let turns = &several.items[0].turns;
    assert_eq!(turns.iter().map(|turn| turn.max_tokens).collect::<Vec<_>>(), [Some(5), Some(3), None]);
    assert_eq!(turns.iter().map(|turn| turn.think_ns).collect::<Vec<_>>(), [0, 1_500_000_000, 1_500_000_000]);
    assert_eq!(built(&[&name, "prompts.turns=2"], None, 0).items[0].turns.len(), 2);
    // Built-in prompts are gone on with.
    let followed = built(&["prompts.turns=3", "prompts.limit=2"], None, 0);
    assert_eq!(followed.items[0].turns.len(), 3);
    assert_ne!(text(&followed.items[0], 1), text(&followed.items[0], 2));
}

#[test]
fn equal_hashes_are_equal_blocks_of_512_tokens_and_unequal_ones_are_not() {
    let (_directory, name) = file(
        "{\"timestamp\": 1000, \"input_length\": 1300, \"output_length\": 7, \"hash_ids\": [1, 2, 3]}\n\
         {\"timestamp\": 3500, \"input_length\": 1100, \"output_length\": 8, \"hash_ids\": [1, 2, 4]}\n\
         {\"timestamp\": 1500, \"input_length\": 600, \"output_length\": 9, \"hash_ids\": [5, 2]}\n",
    );
    let shared = |one: &str, other: &str| one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let counter = bytes();
    let dataset = built(&[&name, "arrival=trace"], Some(&counter), 0);
    assert_eq!(dataset.format, "mooncake");
    // In order of time, from the first on.
    assert_eq!(
        dataset.items.iter().map(|item| item.at_ns.unwrap()).collect::<Vec<_>>(),
        [0, 500_000_000, 2_500_000_000]
    );
    let [first, other, second] = [0, 1, 2].map(|index| text(&dataset.items[index], 0));
    assert_eq!([first.len(), other.len(), second.len()], [1300, 600, 1100], "bytes are tokens here");
    assert_eq!(dataset.items[0].turns[0].input_tokens, Some(1300));
    assert_eq!(dataset.items[2].turns[0].max_tokens, Some(8));
    let common = shared(first, second);
    assert!((1024..1024 + 40).contains(&common), "{common}");
    assert!(shared(first, other) < 40);
    // Words, where there is no tokenizer.
    let words = built(&[&name], None, 0);
    let of = |index: usize| text(&words.items[index], 0).split_whitespace().collect::<Vec<_>>();
    assert_eq!([of(0).len(), of(1).len(), of(2).len()], [1300, 600, 1100]);
    assert_eq!(of(0)[..1024], of(2)[..1024]);
    assert_ne!(of(0)[1024..1034], of(2)[1024..1034]);
    assert_eq!(words.items[0].turns[0].input_tokens, None, "nobody counted the tokens of these words");
}

#[test]
fn a_trace_in_csv_keeps_its_times_when_shuffled_and_is_cut_to_what_is_needed() {
    let rows: String = (0..20)
        .fold(String::new(), |text, index| text + &format!("{},GPT-4,{},{}\n", 100 + index * 2, 10 + index, 5 + index));
    let (_directory, name) = file(&format!("Timestamp,Model,Request tokens,Response tokens\n{rows}"));
    let dataset = built(&[&name, "arrival=trace", "prompts.shuffle=true"], None, 10);
    let times: Vec<u64> = dataset.items.iter().map(|item| item.at_ns.unwrap() / 1_000_000_000).collect();
    assert_eq!(times, (0..10).map(|index| index * 2).collect::<Vec<_>>());
    let lengths: Vec<usize> = dataset.items.iter().map(|item| text(item, 0).split_whitespace().count()).collect();
    assert_ne!(lengths, (10..20).collect::<Vec<_>>());
    for (item, length) in dataset.items.iter().zip(lengths) {
        assert_eq!(item.turns[0].max_tokens, Some(length as u32 - 5), "prompt and answer stay together");
    }
    assert!(dataset.notes.iter().any(|note| note.starts_with("the first 10 of 20")), "{:?}", dataset.notes);
}

#[test]
fn prompts_of_a_file_take_drawn_lengths_salt_and_prefix_like_made_up_ones() {
    let (_directory, name) = file(
        "{\"prompt\":\"one two three four five six\"}\n{\"messages\":[{\"role\":\"system\",\"content\":\"rules\"},{\"role\":\"user\",\"content\":\"a b\"}]}\n",
    );
    let dataset = built(&[&name, "prompts.input_tokens=4", "prompts.shared_prefix_tokens=2"], None, 0);
    let parts: Vec<&str> = text(&dataset.items[0], 0).split("\n\n").collect();
    assert_eq!((parts[0].split_whitespace().count(), parts[1]), (2, "one two three four"));
    let Prompt::Messages(messages) = &dataset.items[1].turns[0].prompt else { panic!() };
    assert_eq!(messages[0].content, format!("{}\n\nrules", parts[0]));
    assert_eq!(messages[1], Message { role: "user".to_owned(), content: "a b a b".to_owned() });
}

#[test]
fn what_an_item_says_beats_the_settings_only_where_it_says_something() {
    let (_directory, name) =
        file("{\"prompt\":\"x\",\"min_output_tokens\":1,\"max_output_tokens\":9,\"ignore_eos\":false}\n");
    let turn = |settings: &[&str]| {
        let turn = built(&[&[name.as_str()], settings].concat(), None, 0).items[0].turns[0].clone();
        (turn.min_tokens, turn.max_tokens, turn.ignore_eos)
    };
    assert_eq!(turn(&[]), (None, Some(9), None));
    assert_eq!(turn(&["min_tokens=5", "ignore_eos=true"]), (Some(1), Some(9), Some(false)));
    let (_directory, name) = file("{\"prompt\":\"x\",\"min_output_tokens\":8}\n");
    let shortened = built(&[&name, "prompts.output_tokens=3"], None, 0);
    assert_eq!((shortened.items[0].turns[0].min_tokens, shortened.items[0].turns[0].max_tokens), (Some(3), Some(3)));
}

#[test]
fn token_ids_go_to_completions_or_become_text() {
    let (_directory, name) = file("{\"prompt\":[104,105]}\n");
    let error = refused(&[&name]).to_string();
    assert!(error.contains("`endpoint`") && error.contains("line 1"), "{error}");
    let counter = bytes();
    assert_eq!(text(&built(&[&name], Some(&counter), 0).items[0], 0), "hi");
    let sent = built(&[&name, "endpoint=completions"], None, 0);
    assert_eq!(sent.items[0].turns[0].prompt, Prompt::TokenIds(vec![104, 105]));
    assert_eq!(sent.items[0].turns[0].input_tokens, Some(2));
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    assert!(refused(&["dataset=randon"]).to_string().contains("there is no dataset `randon`"));
    assert!(matches!(refused(&["dataset=./nowhere.json"]), WorkloadError::Io { .. }));
    assert!(refused(&["dataset=random", "prompts.input_tokens=9999999"]).to_string().contains("prompts.input_tokens"));
    let error = refused(&["arrival=trace"]).to_string();
    assert!(error.contains("no times of its own"), "{error}");
    let (_directory, name) = file("{\"prompt\":\"x\"}\n{\n");
    assert!(refused(&[&name]).to_string().contains("set.data:2: "));
    assert_eq!(built(&[&name, "prompts.lenient=true"], None, 0).items.len(), 1);
}
