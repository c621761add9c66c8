//! What the subjects of a comparison are called.

use super::builder::clipped;
use crate::compare::subject::{Subject, SubjectKind, fact};

/// What may name a subject, best first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSource {
    /// As the user says on the command line.
    pub given: Option<String>,
    /// Tag of the run.
    pub tag: Option<String>,
    /// Run id, or name of the file without its extension.
    pub fallback: String,
}

/// Facts that make good names, the most telling first, with what stands before their value in a label.
const TELLING: [(&str, &str); 13] = [
    (fact::MODEL, ""),
    (fact::DTYPE, ""),
    (fact::OPS, "ops="),
    (fact::THREADS, "threads="),
    (fact::KV_DTYPE, "kv="),
    (fact::COMPUTE_DTYPE, "compute="),
    (fact::BATCH, "batch="),
    (fact::DEVICE, ""),
    (fact::GPU, ""),
    (fact::CPU, ""),
    (fact::BACKEND, ""),
    (fact::CONCURRENCY, "concurrency="),
    ("request_rate", "rate="),
];

/// At most this many facts in a label.
const PARTS: usize = 3;

/// Gives every subject a label of its own: as given by the user, else its tag, else what tells it from the others, else the run id or the name of
/// its file. Of equal labels the second is `name #2`, and so on.
pub fn assign(subjects: &mut [Subject], sources: &[LabelSource]) {
    let descriptions = descriptions(subjects);
    for (index, subject) in subjects.iter_mut().enumerate() {
        let source = sources.get(index);
        let named = source.and_then(|source| source.given.as_ref().or(source.tag.as_ref()));
        let label = named
            .or_else(|| descriptions.as_ref().and_then(|texts| texts.get(index)))
            .or_else(|| source.map(|source| &source.fallback))
            .filter(|label| !label.trim().is_empty());
        if let Some(label) = label {
            subject.label = clipped(label.trim());
        }
    }
    make_unique(subjects);
}

/// What tells each subject from all others in at most [`PARTS`] facts; `None` where known facts do not.
fn descriptions(subjects: &[Subject]) -> Option<Vec<String>> {
    // A trace says little of what was run: the name of its file is what the user knows it by.
    if subjects.len() < 2 || subjects.iter().any(|subject| subject.kind == SubjectKind::Trace) {
        return None;
    }
    let value = |subject: &Subject, name: &str| subject.facts.get(name).cloned().flatten();
    let mut texts = vec![Vec::new(); subjects.len()];
    let mut used = 0;
    for (name, before) in TELLING {
        let values: Option<Vec<String>> = subjects.iter().map(|subject| value(subject, name)).collect();
        // A label that some subjects lack would read as if they had the default.
        let Some(values) = values else { continue };
        if values.windows(2).all(|pair| pair[0] == pair[1]) {
            continue;
        }
        for (text, value) in texts.iter_mut().zip(values) {
            text.push(format!("{before}{value}"));
        }
        used += 1;
        if used == PARTS {
            break;
        }
    }
    let texts: Vec<String> = texts.into_iter().map(|parts| parts.join(", ")).collect();
    let distinct = texts.iter().enumerate().all(|(index, text)| !text.is_empty() && !texts[..index].contains(text));
    distinct.then_some(texts)
}

fn make_unique(subjects: &mut [Subject]) {
    for index in 1..subjects.len() {
        let (before, rest) = subjects.split_at_mut(index);
        let wanted = rest[0].label.clone();
        let taken = |label: &str| before.iter().any(|subject| subject.label == label);
        if !taken(&wanted) {
            continue;
        }
        // Among n labels one of the first n + 1 numbers is free.
        if let Some(free) =
            (2..=index + 2).map(|number| format!("{wanted} #{number}")).find(|candidate| !taken(candidate))
        {
            rest[0].label = free;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::builder::Builder;
    use super::*;

    fn subjects(facts: &[&[(&str, &str)]]) -> Vec<Subject> {
        let make = |facts: &&[(&str, &str)]| {
            let mut builder = Builder::new(SubjectKind::Stage1, "made", "t");
            for (name, value) in *facts {
                builder.fact(name, Some((*value).to_owned()));
            }
            builder.finish()
        };
        facts.iter().map(make).collect()
    }

    fn source(given: Option<&str>, tag: Option<&str>, fallback: &str) -> LabelSource {
        LabelSource { given: given.map(str::to_owned), tag: tag.map(str::to_owned), fallback: fallback.to_owned() }
    }

    fn labels(mut subjects: Vec<Subject>, sources: &[LabelSource]) -> Vec<String> {
        assign(&mut subjects, sources);
        subjects.into_iter().map(|subject| subject.label).collect()
    }

    #[test]
    fn the_users_word_comes_before_the_tag_and_that_before_what_differs() {
        let facts: &[&[(&str, &str)]] = &[&[("dtype", "q4_1")], &[("dtype", "q8_0")], &[("dtype", "f32")]];
        let sources = [source(Some("mine"), Some("tag"), "a"), source(None, Some("tag"), "b"), source(None, None, "c")];
        assert_eq!(labels(subjects(facts), &sources), ["mine", "tag", "f32"]);
    }

    #[test]
    fn a_fact_that_one_side_does_not_tell_is_no_name() {
        let facts: &[&[(&str, &str)]] = &[&[("engine.threads", "1"), ("model", "m")], &[("model", "m")]];
        assert_eq!(labels(subjects(facts), &[source(None, None, "a"), source(None, None, "b")]), ["a", "b"]);
        let facts: &[&[(&str, &str)]] =
            &[&[("engine.threads", "1"), ("model", "m")], &[("engine.threads", "2"), ("model", "m")]];
        assert_eq!(
            labels(subjects(facts), &[source(None, None, "a"), source(None, None, "b")]),
            ["threads=1", "threads=2"]
        );
    }

    #[test]
    fn traces_are_called_by_their_files_and_nothing_by_its_tool() {
        let facts: &[&[(&str, &str)]] =
            &[&[("gpu", "H100"), ("tool", "nsys 1")], &[("gpu", "A100"), ("tool", "nsys 2")]];
        let mut traces = subjects(facts);
        let sources = [source(None, None, "before"), source(None, None, "after")];
        assert_eq!(labels(traces.clone(), &sources), ["H100", "A100"]);
        for subject in &mut traces {
            subject.kind = SubjectKind::Trace;
        }
        assert_eq!(labels(traces, &sources), ["before", "after"]);
        let facts: &[&[(&str, &str)]] = &[&[("tool", "llama-bench 1")], &[("tool", "llama-bench 2")]];
        assert_eq!(labels(subjects(facts), &sources), ["before", "after"]);
    }

    #[test]
    fn equal_names_are_numbered_even_if_the_number_is_taken() {
        let facts: &[&[(&str, &str)]] = &[&[], &[], &[], &[]];
        let sources =
            [source(None, None, "x"), source(Some("x #2"), None, ""), source(None, None, "x"), source(None, None, "x")];
        assert_eq!(labels(subjects(facts), &sources), ["x", "x #2", "x #3", "x #4"]);
    }
}
