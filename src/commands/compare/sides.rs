//! Takes what the user names apart into sides, loads each, and gives each a name.

use std::path::{Path, PathBuf};

use super::CompareOptions;
use super::inputs::{LoadOptions, Loaded, LoadedTrace, load_subject};
use crate::commands::Context;
use crate::commands::interrupt::Interrupt;
use crate::compare::import::labels::{self, LabelSource};
use crate::compare::import::merge::merge;
use crate::compare::result::QualityRow;
use crate::compare::subject::Subject;
use crate::diagnostics::{ExitStatus, Failure};
use crate::record::quality::read_quality;

/// One side of a comparison.
#[derive(Debug)]
pub struct Side {
    /// Its values.
    pub subject: Subject,
    /// Its trace, where it is one.
    pub trace: Option<LoadedTrace>,
    /// Its run directories.
    run_dirs: Vec<PathBuf>,
}

impl Side {
    /// Quality of the predictions, from the first of its runs that measured it.
    pub(super) fn quality(&self) -> Option<QualityRow> {
        let found = self.run_dirs.iter().find_map(|dir| read_quality(dir).ok().flatten())?;
        Some(QualityRow::of(&self.subject.label, found.quality))
    }
}

/// `[LABEL=]WHAT[,WHAT…]` taken apart. What exists as a file is never cut.
fn parse(text: &str) -> (Option<&str>, Vec<&str>) {
    let whole = |text: &str| Path::new(text).exists();
    let (label, rest) = match text.split_once('=') {
        Some((label, rest)) if !whole(text) && !label.is_empty() && !label.contains('/') && !rest.is_empty() => {
            (Some(label), rest)
        }
        _ => (None, text),
    };
    let parts = if whole(rest) { vec![rest] } else { rest.split(',').filter(|part| !part.is_empty()).collect() };
    (label, parts)
}

/// Values that count twice would look like more evidence than there is.
fn distinct<'a>(text: &str, parts: &[&str], loaded: impl Iterator<Item = &'a Loaded>) -> Result<(), Failure> {
    let canonical = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut seen: Vec<PathBuf> = Vec::new();
    for (part, one) in parts.iter().zip(loaded) {
        let place = canonical(one.run_dir.as_deref().unwrap_or(Path::new(part)));
        if seen.contains(&place) {
            return Err(Failure::new(ExitStatus::Usage, format!("`{text}` names `{part}` twice"))
                .hint("each run joined by commas counts as an independent one"));
        }
        seen.push(place);
    }
    Ok(())
}

/// Loads every side, the baseline first.
pub(super) fn load(options: &CompareOptions, context: &Context, interrupt: &Interrupt) -> anyhow::Result<Vec<Side>> {
    let cancelled = || interrupt.asked();
    let load = LoadOptions {
        root: &context.output_root,
        salvage: options.salvage,
        traces_of_runs: true,
        cancelled: &cancelled,
    };
    let (mut subjects, mut sources, mut traces, mut directories) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for text in &options.sides {
        let (label, parts) = parse(text);
        let mut loaded = parts
            .iter()
            .map(|part| load_subject(part, label, &load))
            .collect::<anyhow::Result<Vec<Loaded>>>()?
            .into_iter();
        let Some(first) = loaded.next() else {
            return Err(Failure::new(ExitStatus::Usage, format!("`{text}` names nothing to compare")).into());
        };
        let rest: Vec<Loaded> = loaded.collect();
        distinct(text, &parts, std::iter::once(&first).chain(&rest))?;
        if rest.is_empty() {
            subjects.push(first.subject);
            sources.push(first.label);
            traces.push(first.trace);
            directories.push(first.run_dir.into_iter().collect());
            continue;
        }
        directories.push(std::iter::once(&first).chain(&rest).filter_map(|one| one.run_dir.clone()).collect());
        let source = first.label;
        let mut together = vec![first.subject];
        together.extend(rest.into_iter().map(|one| one.subject));
        // The tag or id of one of several runs would name the wrong thing.
        let first_of = source.tag.unwrap_or(source.fallback);
        let fallback = format!("{first_of} + {} more", together.len() - 1);
        let name = label.map_or_else(|| fallback.clone(), str::to_owned);
        let source = LabelSource { given: label.map(str::to_owned), tag: None, fallback };
        let merged = merge(&name, together, &[]).map_err(|error| {
            Failure::new(ExitStatus::Usage, format!("`{text}`: {error}"))
                .hint("runs joined by commas must be of one kind")
        })?;
        subjects.push(merged);
        sources.push(source);
        // Several traces are several runs: their values count, and differences are attributed by tables.
        traces.push(None);
    }
    labels::assign(&mut subjects, &sources);
    let sides = subjects.into_iter().zip(traces).zip(directories);
    Ok(sides.map(|((subject, trace), run_dirs)| Side { subject, trace, run_dirs }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_may_have_a_label_and_several_parts() {
        assert_eq!(parse("latest"), (None, vec!["latest"]));
        assert_eq!(parse("fast=a,b"), (Some("fast"), vec!["a", "b"]));
        assert_eq!(parse("a,b,"), (None, vec!["a", "b"]));
        assert_eq!(parse("dir/x=y"), (None, vec!["dir/x=y"]));
        assert_eq!(parse("=x"), (None, vec!["=x"]));
        assert_eq!(parse("new=out/a=b.json"), (Some("new"), vec!["out/a=b.json"]));
        assert_eq!(parse(","), (None, Vec::<&str>::new()));
    }

    #[test]
    fn a_file_with_commas_and_equal_signs_in_its_name_is_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a=b,c.json");
        std::fs::write(&path, "{}").unwrap();
        let text = path.to_str().unwrap();
        assert_eq!(parse(text), (None, vec![text]));
        let labelled = format!("x={text}");
        assert_eq!(parse(&labelled), (Some("x"), vec![text]));
    }
}
