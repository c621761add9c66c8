//! The documents keep what they say: links lead somewhere, commands exist, the checklist is whole.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files below `folder` with one of the extensions; build output, models and runs left out.
fn files(folder: &Path, extensions: &[&str], into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the checkout is readable") {
        let path = entry.expect("its entries too").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            if !name.starts_with('.')
                && !name.starts_with("target")
                && !["models", "tmp", "node_modules"].contains(&name.as_str())
            {
                files(&path, extensions, into);
            }
        } else if path.extension().is_some_and(|extension| extensions.iter().any(|known| extension == *known)) {
            into.push(path);
        }
    }
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(root(), &["md"], &mut found);
    found.retain(|path| {
        let inside = path.strip_prefix(root()).unwrap_or(path);
        // Templates of reports are no documents of the repository.
        !inside.starts_with("src") && !inside.starts_with("tests")
    });
    found.sort();
    found
}

/// The text without fenced blocks and inline code.
fn prose(text: &str) -> String {
    let mut kept = String::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            for (position, part) in line.split('`').enumerate() {
                kept.push_str(if position % 2 == 0 { part } else { "code" });
            }
        }
        kept.push('\n');
    }
    kept
}

/// Targets of `[text](target)` and `![text](target)`.
fn links(text: &str) -> Vec<String> {
    let text = prose(text);
    text.match_indices("](")
        .filter_map(|(at, _)| text[at + 2..].split_once(')').map(|(target, _)| target.trim().to_owned()))
        .collect()
}

/// Anchors of the headings, as the usual renderers make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in text.lines() {
        fenced ^= line.trim_start().starts_with("```");
        let title = line.trim_start_matches('#');
        if !fenced && line.starts_with('#') && title.starts_with(' ') {
            let slug: String = title
                .trim()
                .to_lowercase()
                .chars()
                .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
                .map(|c| if c == ' ' { '-' } else { c })
                .collect();
            found.insert(slug);
        }
    }
    found
}

/// Why a link of the document leads nowhere, if so.
fn broken(document: &Path, target: &str) -> Option<String> {
    if target.starts_with("http://") || target.starts_with("https://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { document.to_owned() } else { document.parent()?.join(path) };
    if !file.exists() {
        return Some(format!("`{target}`: no such file"));
    }
    let anchor = anchor?;
    (!anchors(&read(&file)).contains(anchor)).then(|| format!("`{target}`: no such heading"))
}

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    assert!(documents.iter().any(|path| path.ends_with("README.md")), "{documents:?}");
    let mut wrong = Vec::new();
    let mut seen = 0;
    for document in &documents {
        for target in links(&read(document)) {
            seen += 1;
            if let Some(reason) = broken(document, &target) {
                wrong.push(format!("{}: {reason}", document.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 5, "only {seen} links were seen");
}

#[test]
fn broken_links_and_anchors_are_found() {
    let folder = tempfile::tempdir().unwrap();
    let document = folder.path().join("a.md");
    fs::write(&document, "# Die Überschrift, `code` & more\n\n```\n# no heading\n[no link](nowhere)\n```\n`[code](x)`")
        .unwrap();
    let text = read(&document);
    assert_eq!(links("see [a](b.md#c) and ![d](e.png), `[f](g)`"), ["b.md#c", "e.png"]);
    assert_eq!(links(&text), Vec::<String>::new());
    assert_eq!(anchors(&text).into_iter().collect::<Vec<_>>(), ["die-überschrift-code--more"]);
    assert_eq!(broken(&document, "b.md").as_deref(), Some("`b.md`: no such file"));
    assert_eq!(broken(&document, "#no-heading").as_deref(), Some("`#no-heading`: no such heading"));
    assert_eq!(broken(&document, "a.md#die-überschrift-code--more"), None);
    assert_eq!(broken(&document, "https://example.org/x"), None);
}

/// A row of a Markdown table as its cells.
fn cells(line: &str) -> Vec<String> {
    line.trim().trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('|').trim().to_owned()).collect()
}

/// What stands between back-ticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Rows of the checklist whose id begins with `prefix`: id, state, place.
fn checklist(prefix: &str) -> Vec<(String, String, String)> {
    let rows = read(&root().join("docs/CHECKLIST.md"));
    rows.lines()
        .filter(|line| line.strip_prefix("| ").is_some_and(|rest| rest.starts_with(prefix)))
        .map(cells)
        .map(|row| {
            assert_eq!(row.len(), 4, "{row:?}");
            (row[0].clone(), row[2].clone(), row[3].clone())
        })
        .filter(|(id, _, _)| id[prefix.len()..].chars().all(|c| c.is_ascii_digit()))
        .collect()
}

#[test]
fn the_checklist_has_every_id_once_with_a_known_state() {
    let promises = [("S0-", 35), ("S1-", 29), ("S2-", 42), ("S3-", 35), ("S4-", 22)];
    let faults = [("L", 37), ("V", 11), ("T", 20), ("E", 9), ("B", 10), ("A", 14), ("R", 7), ("S", 8), ("G", 5)];
    for (prefix, count) in promises.into_iter().chain(faults) {
        let rows = checklist(prefix);
        let ids: Vec<String> = rows.iter().map(|(id, _, _)| id.clone()).collect();
        let expected: Vec<String> = (1..=count)
            .map(
                |number| {
                    if prefix.ends_with('-') { format!("{prefix}{number}") } else { format!("{prefix}{number:02}") }
                },
            )
            .collect();
        assert_eq!(ids, expected);
        for (id, state, place) in rows {
            assert!(
                ["done", "partly", "open", "stage1: pending"].contains(&state.as_str()),
                "{id}: `{state}` is no state"
            );
            assert!(state != "done" || !place.is_empty(), "{id} is done, and does not say where");
            assert!(
                !matches!(state.as_str(), "open" | "partly") || !place.is_empty(),
                "{id} is {state}, and does not say why"
            );
            assert!(state != "done" || !place.contains("pending"), "{id} is done, and something of it pending");
        }
    }
}

#[test]
fn what_the_checklist_calls_finished_exists() {
    let mut sources = Vec::new();
    files(&root().join("src"), &["rs"], &mut sources);
    files(&root().join("tests"), &["rs"], &mut sources);
    let tests: BTreeSet<String> = sources
        .iter()
        .flat_map(|path| read(path).lines().map(str::to_owned).collect::<Vec<_>>())
        .filter_map(|line| {
            let (_, rest) = line.split_once("fn ")?;
            Some(rest.split(['(', '<']).next().unwrap_or_default().to_owned())
        })
        .collect();
    let mut wrong = Vec::new();
    for prefix in ["S0-", "S1-", "S2-", "S3-", "S4-", "L", "V", "T", "E", "B", "A", "R", "S", "G"] {
        for (id, state, place) in checklist(prefix) {
            if state != "done" && state != "partly" {
                continue;
            }
            for word in quoted(&place) {
                let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "_-./".contains(c));
                let is_test = word.matches('_').count() >= 3
                    && word.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c.is_ascii_digit());
                if is_test && !tests.contains(word) {
                    wrong.push(format!("{id}: there is no test `{word}`"));
                } else if plain && word.contains('/') && !word.starts_with("tmp/") && !root().join(word).exists() {
                    wrong.push(format!("{id}: there is no `{word}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The `perfprof` command lines of a document's console blocks, as words after the program's name.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut console = false;
    for line in text.lines() {
        if let Some(kind) = line.trim().strip_prefix("```") {
            console = !console && kind == "console";
            continue;
        }
        let Some(typed) = line.trim().strip_prefix("$ ").filter(|_| console) else { continue };
        let words = shell_words(typed);
        let program = |word: &String| word == "perfprof" || word.ends_with("/perfprof");
        if words.first().is_some_and(|word| word == "cargo") && words.get(1).is_some_and(|word| word == "run") {
            found.extend(words.iter().position(|word| word == "--").map(|at| words[at + 1..].to_vec()));
        } else if let Some(at) = words.iter().position(program) {
            found.push(words[at + 1..].to_vec());
        }
    }
    found
}

/// Words as a shell splits them, as far as documents need it: spaces and single quotes.
fn shell_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut inside = false;
    for c in line.chars() {
        match c {
            '\'' => inside = !inside,
            ' ' if !inside => words.push(String::new()),
            _ => words.last_mut().expect("it begins with one").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn command_lines_are_found_in_console_blocks_only() {
    let text = "perfprof prose\n```console\n$ cargo run --release -- stage1 a=b\n$ nsys profile -o x target/release/perfprof stage1 'c=[1, 2]'\n\
                $ ls\noutput perfprof x\n```\n```text\n$ perfprof not-this\n```\n";
    assert_eq!(command_lines(text), [vec!["stage1", "a=b"], vec!["stage1", "c=[1, 2]"]]);
}

#[test]
fn the_commands_that_documents_show_exist() {
    if !root().join("src/cli.rs").exists() {
        eprintln!("skipped: there is no command line yet");
        return;
    }
    let perfprof = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_perfprof"))
            .args(words)
            .output()
            .expect("the binary was built for this test");
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let mut seen = 0;
    for document in documents() {
        for words in command_lines(&read(&document)) {
            let command = words.iter().find(|word| !word.starts_with('-')).map_or("", String::as_str);
            let (known, help) = perfprof(&[command, "--help"]);
            assert!(
                known && help.contains("Usage"),
                "{}: `perfprof {}` does not exist",
                document.display(),
                words.join(" ")
            );
            if matches!(command, "stage1" | "stage2" | "estimate") {
                // They take the settings of stage1; `--print-config` composes and checks them, and starts nothing.
                let of = if command == "stage2" { "stage2" } else { "stage1" };
                let own = words.iter().map(String::as_str).take_while(|word| *word != "--");
                let settings = own.filter(|word| word.contains('=') && !word.starts_with('-'));
                let dry: Vec<&str> = [of].into_iter().chain(settings).chain(["--print-config"]).collect();
                assert!(perfprof(&dry).0, "{}: `perfprof {}` is refused", document.display(), words.join(" "));
            }
            for flag in words.iter().take_while(|word| *word != "--").filter(|word| word.starts_with("--")) {
                let flag = flag.split('=').next().unwrap_or_default();
                assert!(help.contains(flag), "{}: `perfprof {command}` has no `{flag}`", document.display());
            }
            seen += 1;
        }
    }
    assert!(seen >= 5, "only {seen} commands were seen");
}
