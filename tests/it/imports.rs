//! The module graph: imports point one way, a heavy crate has one home, files stay readable, nothing unwraps.
//!
//! The check reads the source as tokens (comments, strings and test code left out), so that it needs no compiler and sees every
//! feature's code alike.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The top modules; each may import only those before it.
const ORDER: [&str; 19] = [
    "units",
    "diagnostics",
    "net",
    "stats",
    "estimate",
    "trace",
    "hardware",
    "config",
    "record",
    "instrument",
    "engine",
    "load",
    "server",
    "analysis",
    "compare",
    "runner",
    "report",
    "commands",
    "cli",
];

/// Crates that may be named in one place only: crate, then the path prefixes below `src/`.
const HOMES: [(&str, &[&str]); 19] = [
    ("candle_core", &["engine/"]),
    ("candle_nn", &["engine/"]),
    ("candle_transformers", &["engine/"]),
    ("tokenizers", &["engine/"]),
    ("tera", &["report/"]),
    ("serde_saphyr", &["config/yaml"]),
    ("nvml_wrapper", &["hardware/"]),
    ("rusqlite", &["trace/nsys"]),
    ("parquet", &["trace/parquet"]),
    ("zstd", &["trace/chrome"]),
    ("flate2", &["trace/chrome", "load/client/reception"]),
    ("httparse", &["load/client/response"]),
    ("rustls", &["net/tls", "load/client/transport"]),
    ("rustls_native_certs", &["net/tls"]),
    ("ratatui", &["commands/load/tui"]),
    ("cpp_demangle", &["analysis/kernel_names"]),
    ("clap", &["cli.rs", "cli/", "main.rs"]),
    ("clap_complete", &["cli.rs", "cli/", "main.rs"]),
    ("clap_mangen", &["cli.rs", "cli/", "main.rs"]),
];

/// Modules that take data and return data.
const PURE: [&str; 4] = ["stats", "estimate", "analysis", "compare"];
/// What they may not name: files, the clock, the environment, randomness without a seed in the arguments.
const EFFECTS: [&str; 9] =
    ["File", "OpenOptions", "Instant", "SystemTime", "TcpStream", "Command", "ThreadRng", "OsRng", "from_os_rng"];

const MAX_LINES: usize = 800;

#[derive(Debug, Clone, PartialEq)]
struct Token {
    text: String,
    line: usize,
}

/// Identifiers and punctuation (`::` as one) of Rust source, without comments, literals and lifetimes.
fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let at = |i: usize| chars.get(i).copied().unwrap_or('\0');
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let (mut i, mut line) = (0, 1);
    while i < chars.len() {
        let start = i;
        let c = chars[i];
        if c == '/' && at(i + 1) == '/' {
            while i < chars.len() && chars[i] != '\n' {
                i += 1;
            }
        } else if c == '/' && at(i + 1) == '*' {
            let mut depth = 0;
            loop {
                if at(i) == '/' && at(i + 1) == '*' {
                    depth += 1;
                    i += 2;
                } else if at(i) == '*' && at(i + 1) == '/' {
                    depth -= 1;
                    i += 2;
                } else {
                    i += 1;
                }
                if depth == 0 || i >= chars.len() {
                    break;
                }
            }
        } else if let Some(end) = raw_string_end(&chars, i) {
            i = end;
        } else if c == '"' || (c == 'b' && at(i + 1) == '"') || (c == 'c' && at(i + 1) == '"') {
            i = quoted_end(&chars, if c == '"' { i } else { i + 1 }, '"');
        } else if c == '\'' && (at(i + 1) == '\\' || at(i + 2) == '\'') {
            i = quoted_end(&chars, i, '\'');
        } else if c == '\'' {
            // A lifetime or a loop label.
            i += 1;
            while word(at(i)) {
                i += 1;
            }
        } else if word(c) {
            while word(at(i)) {
                i += 1;
            }
            found.push(Token { text: chars[start..i].iter().collect(), line });
        } else if c == ':' && at(i + 1) == ':' {
            i += 2;
            found.push(Token { text: "::".to_owned(), line });
        } else {
            i += 1;
            if !c.is_whitespace() {
                found.push(Token { text: c.to_string(), line });
            }
        }
        let end = i.min(chars.len());
        line += chars[start..end].iter().filter(|c| **c == '\n').count();
    }
    found
}

/// The end of a literal opened by `quote` at `open`, escapes obeyed.
fn quoted_end(chars: &[char], open: usize, quote: char) -> usize {
    let mut i = open + 1;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The end of `r"…"`, `r#"…"#`, `br#"…"#` at `i`, if one begins there.
fn raw_string_end(chars: &[char], i: usize) -> Option<usize> {
    if i > 0 && (chars[i - 1].is_alphanumeric() || chars[i - 1] == '_') {
        return None;
    }
    let mut j = i;
    if matches!(chars.get(j), Some('b' | 'c')) {
        j += 1;
    }
    if chars.get(j) != Some(&'r') {
        return None;
    }
    j += 1;
    let hashes = chars[j..].iter().take_while(|c| **c == '#').count();
    j += hashes;
    if chars.get(j) != Some(&'"') {
        return None;
    }
    j += 1;
    while j < chars.len() {
        if chars[j] == '"' && chars[j + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return Some(j + 1 + hashes);
        }
        j += 1;
    }
    Some(chars.len())
}

/// Leaves out every item under `#[cfg(test)]`.
fn without_tests(all: &[Token]) -> Vec<Token> {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut i = 0;
    while i < all.len() {
        if all[i..].len() >= MARK.len() && all[i..].iter().zip(MARK).all(|(token, mark)| token.text == mark) {
            i += MARK.len();
            // The item ends at its own `;`, or with the block it opens.
            let mut depth = 0_i32;
            while i < all.len() {
                let text = all[i].text.as_str();
                depth += i32::from(matches!(text, "{" | "(" | "[")) - i32::from(matches!(text, "}" | ")" | "]"));
                i += 1;
                if depth == 0 && matches!(text, ";" | "}") {
                    break;
                }
            }
        } else {
            kept.push(all[i].clone());
            i += 1;
        }
    }
    kept
}

/// Paths (relative to `src/`, without `.rs`) of the modules that `path` declares as files of their own under `#[cfg(test)]`.
fn test_files(path: &str, source: &str) -> Vec<String> {
    let all = tokens(source);
    let kept = without_tests(&all);
    let stem = path.trim_end_matches(".rs");
    let folder = match stem.strip_suffix("mod").or_else(|| stem.strip_suffix("lib")) {
        Some(folder) => folder.to_owned(),
        None => format!("{stem}/"),
    };
    let declares = |token: &[Token]| token[0].text == "mod" && token[2].text == ";";
    let names = |list: &[Token]| -> BTreeSet<(String, usize)> {
        list.windows(3).filter(|w| declares(w)).map(|w| (w[1].text.clone(), w[1].line)).collect()
    };
    let mut found: Vec<String> =
        names(&all).difference(&names(&kept)).map(|(name, _)| format!("{folder}{name}")).collect();
    // `#[path = "…"]` is taken from the folder of the file itself.
    let beside = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
    for after in source.split("#[cfg(test)]").skip(1) {
        let named = after.trim_start().strip_prefix("#[path = \"").and_then(|rest| rest.split_once(".rs\"]"));
        found.extend(named.map(|(name, _)| format!("{beside}{name}")));
    }
    found
}

/// The first names of a path or of a `{…}` group that starts at `i`.
fn heads(all: &[Token], mut i: usize) -> Vec<Token> {
    let Some(first) = all.get(i) else { return Vec::new() };
    if first.text != "{" {
        return vec![first.clone()];
    }
    let mut found = Vec::new();
    let mut depth = 0;
    while i < all.len() {
        match all[i].text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
        if depth == 1 && matches!(all[i].text.as_str(), "{" | ",") {
            found.extend(all.get(i + 1).filter(|next| next.text != "}" && next.text != "self").cloned());
        }
        i += 1;
    }
    found
}

/// How many modules deep below the crate root the items of a file lie.
fn depth_of(path: &str) -> usize {
    let parts: Vec<&str> = path.trim_end_matches(".rs").split('/').filter(|part| *part != "mod").collect();
    if parts == ["lib"] || parts == ["main"] { 0 } else { parts.len() }
}

/// Everything wrong with one file; `path` is relative to `src/` with forward slashes.
fn violations(path: &str, source: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = source.lines().count();
    if lines > MAX_LINES {
        wrong.push(format!("{path}: {lines} lines, more than {MAX_LINES}: split it"));
    }
    let top = path.split(['/', '.']).next().unwrap_or_default();
    let rank = |name: &str| ORDER.iter().position(|known| *known == name);
    let all = without_tests(&tokens(source));
    let text = |i: usize| all.get(i).map_or("", |token| token.text.as_str());

    let mut imports = Vec::new();
    let depth = depth_of(path);
    let mut i = 0;
    while i < all.len() {
        let fresh = i == 0 || text(i - 1) != "::";
        if text(i) == "crate" && text(i + 1) == "::" && fresh {
            imports.extend(heads(&all, i + 2));
        } else if text(i) == "super" && fresh {
            let mut supers = 0;
            while text(i) == "super" && text(i + 1) == "::" {
                supers += 1;
                i += 2;
            }
            if supers > 0 && supers >= depth {
                imports.extend(heads(&all, i));
            }
        }
        i += 1;
    }
    for import in imports {
        let (name, line) = (import.text.as_str(), import.line);
        if matches!(path, "lib.rs" | "main.rs") || name == top {
            continue;
        }
        match (rank(top), rank(name)) {
            (Some(own), Some(other)) if other < own => {}
            (Some(_), Some(_)) => {
                wrong.push(format!("{path}:{line}: `{top}` may not import `{name}`, which stands above it"));
            }
            (None, _) => wrong.push(format!("{path}:{line}: module `{top}` has no place in the order")),
            (_, None) => wrong.push(format!("{path}:{line}: `crate::{name}` is no module of the order")),
        }
    }

    for (i, &Token { line, .. }) in all.iter().enumerate() {
        let path_start = text(i + 1) == "::" || (i > 0 && text(i - 1) == "use");
        let inner = i > 1 && text(i - 1) == "::" && text(i - 2) != "use";
        if let Some((name, homes)) = HOMES.iter().find(|(name, _)| *name == text(i)).filter(|_| path_start && !inner)
            && !homes.iter().any(|home| path.starts_with(home))
        {
            wrong.push(format!("{path}:{line}: `{name}` may be named only in {}", homes.join(", ")));
        }
        if text(i) == "." && text(i + 1) == "unwrap" && text(i + 2) == "(" && text(i + 3) == ")" {
            wrong.push(format!("{path}:{line}: `.unwrap()` outside tests"));
        }
        if PURE.contains(&top) {
            let effect = EFFECTS.contains(&text(i))
                || (text(i) == "std" && text(i + 1) == "::" && matches!(text(i + 2), "fs" | "env" | "net" | "process"));
            if effect {
                wrong.push(format!("{path}:{line}: `{top}` is pure and may not name `{}`", text(i)));
            }
        }
    }
    wrong
}

fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("src/ is readable") {
        let path = entry.expect("its entries too").path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

#[test]
fn the_source_keeps_the_rules_of_the_house() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    files.sort();
    let mut wrong = Vec::new();
    let mut tops = BTreeSet::new();
    let inside = |file: &PathBuf| file.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
    let test_only: Vec<String> =
        files.iter().flat_map(|file| test_files(&inside(file), &fs::read_to_string(file).unwrap())).collect();
    for file in &files {
        let path = inside(file);
        let is_test = |module: &String| path == format!("{module}.rs") || path.starts_with(&format!("{module}/"));
        if test_only.iter().any(is_test) {
            continue;
        }
        tops.insert(path.split(['/', '.']).next().unwrap().to_owned());
        wrong.extend(violations(&path, &fs::read_to_string(file).unwrap()));
    }
    for top in tops.iter().filter(|top| !ORDER.contains(&top.as_str()) && !matches!(top.as_str(), "lib" | "main")) {
        wrong.push(format!("src/{top}: no place in the order of tests/it/imports.rs"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(files.len() > 20, "only {} files were read", files.len());
}

#[test]
fn an_import_against_the_order_is_found_in_every_spelling() {
    for source in [
        "use crate::engine::generate;",
        "use crate::{units::Bytes, engine};",
        "use crate::{\n    engine::{Model, weights::Weight},\n};",
        "fn f() -> crate::engine::Model { todo() }",
        "use super::super::engine::Model;",
        "use super::super::{stats, engine};",
        "#[cfg(feature = \"cuda\")]\nuse crate::engine::Model;",
    ] {
        let wrong = violations("trace/timeline.rs", source);
        assert_eq!(wrong.len(), 1, "{source}: {wrong:?}");
        assert!(wrong[0].contains("`trace` may not import `engine`"), "{wrong:?}");
    }
    assert_eq!(violations("units.rs", "use super::stats::Summary;").len(), 1);
    assert_eq!(
        violations("trace/nsys/mod.rs", "\n\nuse crate::report::Html;"),
        ["trace/nsys/mod.rs:3: `trace` may not import `report`, which stands above it"]
    );
}

#[test]
fn imports_along_the_order_and_inside_a_module_are_fine() {
    for (path, source) in [
        ("engine/generate.rs", "use crate::{config::Settings, engine::weights, units::Seconds};"),
        ("engine/models/llama.rs", "use super::super::weights::Linear; use super::Model;"),
        ("trace/mod.rs", "pub(crate) mod strings; pub(crate) use strings::Strings;"),
        (
            "trace/timeline.rs",
            "// use crate::engine::Model;\n/* crate::engine */ const A: &str = \"crate::engine::x\";",
        ),
        (
            "trace/timeline.rs",
            "const A: &str = r#\"a \" crate::engine::x\"#; const Q: char = '\"'; struct S<'a>(&'a str);",
        ),
        ("trace/timeline.rs", "#[cfg(test)]\nmod tests { use crate::engine::Model; fn f() { x.unwrap() } }"),
        ("trace/timeline.rs", "#[cfg(test)]\nuse crate::engine::Model;\nfn f() {}"),
        ("lib.rs", "pub mod engine; pub use crate::engine::Model;"),
    ] {
        assert_eq!(violations(path, source), Vec::<String>::new(), "{path}: {source}");
    }
}

#[test]
fn code_after_a_test_module_is_still_checked() {
    let source = "#[cfg(test)]\nmod tests { fn f() { a[0]; } }\nfn g() { value.unwrap(); }";
    assert_eq!(violations("stats/mean.rs", source), ["stats/mean.rs:3: `.unwrap()` outside tests"]);
}

#[test]
fn test_modules_in_files_of_their_own_are_known() {
    let source = "mod cpu;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\nmod inline { mod deeper; }\npub mod simd;";
    assert_eq!(test_files("engine/ops/mod.rs", source), ["engine/ops/deeper", "engine/ops/tests"]);
    assert_eq!(test_files("engine/ops.rs", "#[cfg(test)] mod tests;"), ["engine/ops/tests"]);
    let named = "#[cfg(test)]\n#[path = \"flops_tests.rs\"]\nmod tests;";
    assert!(test_files("estimate/flops.rs", named).contains(&"estimate/flops_tests".to_owned()));
    assert_eq!(test_files("lib.rs", "pub mod units;"), Vec::<String>::new());
}

#[test]
fn a_heavy_crate_outside_its_home_is_found() {
    for (path, source) in [
        ("runner/stage1.rs", "use candle_core::Tensor;"),
        ("commands/stage1.rs", "fn f(args: clap::ArgMatches) {}"),
        ("config/compose.rs", "let x = serde_saphyr::from_str(text)?;"),
        ("report/html.rs", "use rusqlite::Connection;"),
        ("trace/reader.rs", "use ::rusqlite::Connection;"),
        ("instrument/sampler.rs", "use nvml_wrapper as nvml;"),
        ("record/manifest.rs", "tera::Tera::default()"),
    ] {
        assert_eq!(violations(path, source).len(), 1, "{path}: {source}");
    }
    for (path, source) in [
        ("engine/loader.rs", "use candle_core::Tensor;"),
        ("config/yaml.rs", "serde_saphyr::from_str(text)"),
        ("cli.rs", "use clap::Parser;"),
        ("main.rs", "use clap::Parser;"),
        ("runner/stage1.rs", "let tera = self.tera; perfprof::clap::x();"),
    ] {
        assert_eq!(violations(path, source), Vec::<String>::new(), "{path}: {source}");
    }
}

#[test]
fn effects_in_a_pure_module_and_long_files_are_found() {
    assert_eq!(violations("stats/bootstrap.rs", "let t = std::time::Instant::now();").len(), 1);
    assert_eq!(violations("estimate/memory.rs", "std::fs::read(path)").len(), 1);
    assert_eq!(violations("analysis/idle.rs", "use std::collections::BTreeMap;").len(), 0);
    assert_eq!(violations("record/rows.rs", &"\n".repeat(MAX_LINES)), Vec::<String>::new());
    assert_eq!(violations("record/rows.rs", &"\n".repeat(MAX_LINES + 1)).len(), 1);
}
