//! Tells the library how it is built, for `env.json`: compiler, target, and the versions in the lock file.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::process::Command;

/// The crates whose version changes what is measured.
const CRATES: [&str; 9] =
    ["candle-core", "candle-nn", "candle-transformers", "cudarc", "gemm", "half", "rayon", "safetensors", "tokenizers"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=Cargo.lock");
    println!("cargo:rerun-if-env-changed=PERFPROF_BUILD_COMMIT");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .arg("--version")
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default();
    tell("PERFPROF_RUSTC", &rustc);
    tell("PERFPROF_TARGET", &variable("TARGET"));
    tell("PERFPROF_PROFILE", &variable("PROFILE"));
    tell("PERFPROF_OPT_LEVEL", &variable("OPT_LEVEL"));
    tell("PERFPROF_TARGET_FEATURES", &variable("CARGO_CFG_TARGET_FEATURE"));
    let features: Vec<String> = env::vars()
        .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(|name| name.to_lowercase().replace('_', "-")))
        .collect();
    tell("PERFPROF_FEATURES", &features.join(","));
    let lock = fs::read_to_string("Cargo.lock").unwrap_or_default();
    let crates: Vec<String> = locked(&lock).into_iter().map(|(name, version)| format!("{name}={version}")).collect();
    tell("PERFPROF_CRATES", &crates.join(","));
}

fn tell(name: &str, value: &str) {
    println!("cargo:rustc-env={name}={value}");
}

/// Versions of [`CRATES`] in the text of a lock file. Cargo itself writes the file, one `name` and one `version` line per
/// package, so a TOML parser would add a dependency and nothing else. Of several versions the newest line wins: they are sorted.
fn locked(text: &str) -> BTreeMap<&str, &str> {
    let mut found = BTreeMap::new();
    let mut name = "";
    for line in text.lines() {
        if let Some(value) = quoted(line, "name") {
            name = value;
        } else if let Some(version) = quoted(line, "version")
            && CRATES.contains(&name)
        {
            found.insert(name, version);
        }
    }
    found
}

/// The value of a `key = "value"` line.
fn quoted<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"')
}
