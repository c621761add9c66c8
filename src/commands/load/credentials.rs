//! Keys and header lines: from the environment or `.env`, into requests, and nowhere else.

use std::path::Path;

use crate::config::schema::load::LoadConfig;
use crate::diagnostics::{ExitStatus, Failure};

/// Header lines of each request, and the secrets in them.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    /// Lines, each ended by CR LF.
    pub lines: String,
    /// What must stand in no artifact.
    pub secrets: Vec<String>,
}

/// Collects what `config` asks for.
pub(super) fn collect(config: &LoadConfig, dotenv: &Path) -> Result<Credentials, Failure> {
    collect_from(config, &|name| variable(name, dotenv))
}

fn collect_from(config: &LoadConfig, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Credentials, Failure> {
    let mut found = Credentials::default();
    let missing = |name: &str, key: &str| {
        Failure::new(
            ExitStatus::Usage,
            format!("`{key}` names the variable `{name}`, which is neither in the environment nor in `.env`"),
        )
        .hint(format!("export {name}=…, or write it into `.env`; the key itself never stands in a setting"))
    };
    if let Some(name) = &config.api_key_env {
        let key = lookup(name).ok_or_else(|| missing(name, "api_key_env"))?;
        found.line("Authorization", &format!("Bearer {key}"), "api_key_env")?;
        found.secrets.push(key);
    }
    for header in &config.headers {
        let Some((name, value)) = header.split_once(':') else { continue };
        let (value, secrets) = expand(value.trim(), lookup).map_err(|name| missing(&name, "headers"))?;
        found.line(name.trim(), &value, "headers")?;
        found.secrets.extend(secrets);
        // A header that carries a key is one, wherever its value comes from.
        if ["authorization", "api-key", "x-api-key", "cookie", "proxy-authorization"]
            .contains(&name.trim().to_ascii_lowercase().as_str())
        {
            found.secrets.push(value);
        }
    }
    Ok(found)
}

impl Credentials {
    fn line(&mut self, name: &str, value: &str, key: &str) -> Result<(), Failure> {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) || value.chars().any(char::is_control) {
            return Err(Failure::new(
                ExitStatus::Usage,
                format!(
                    "`{key}` gives a header that cannot be sent: a name has letters, digits and `-`, and a value no line breaks"
                ),
            ));
        }
        self.lines.push_str(&format!("{name}: {value}\r\n"));
        Ok(())
    }
}

/// `text` with each `${NAME}` replaced, and what they were replaced by; else the name that is not known.
fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<(String, Vec<String>), String> {
    let (mut expanded, mut secrets, mut rest) = (String::new(), Vec::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        let Some((name, behind)) = after.split_once('}') else { break };
        let value = lookup(name).ok_or_else(|| name.to_owned())?;
        expanded.push_str(before);
        expanded.push_str(&value);
        secrets.push(value);
        rest = behind;
    }
    expanded.push_str(rest);
    Ok((expanded, secrets))
}

/// The variable `name` of the environment, else of `.env`.
pub(in crate::commands) fn variable(name: &str, dotenv: &Path) -> Option<String> {
    if let Ok(value) = std::env::var(name)
        && !value.is_empty()
    {
        return Some(value);
    }
    from_dotenv(&std::fs::read_to_string(dotenv).ok()?, name)
}

/// `NAME=value`, `export NAME="value"`, `# comment`.
fn from_dotenv(text: &str, wanted: &str) -> Option<String> {
    text.lines().rev().find_map(|line| {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=')?;
        if line.starts_with('#') || name.trim() != wanted {
            return None;
        }
        let value = value.trim();
        let quoted = ['"', '\''].iter().find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote));
        let value = quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or(value).trim());
        Some(value.to_owned()).filter(|value| !value.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::compose::{ComposeRequest, compose};

    fn config(overrides: &[&str]) -> LoadConfig {
        let request = ComposeRequest {
            command: "load".to_owned(),
            overrides: overrides.iter().map(|text| (*text).to_owned()).collect(),
            ..ComposeRequest::default()
        };
        compose(&request).and_then(|tree| tree.load()).unwrap()
    }

    #[test]
    fn keys_come_from_variables_and_are_known_as_secrets() {
        let lookup = |name: &str| (name == "KEY").then(|| "sentinel".to_owned());
        let found =
            collect_from(&config(&["api_key_env=KEY", "headers=['X-Team: a', 'X-Token: t-${KEY}']"]), &lookup).unwrap();
        assert_eq!(found.lines, "Authorization: Bearer sentinel\r\nX-Team: a\r\nX-Token: t-sentinel\r\n");
        assert_eq!(found.secrets, ["sentinel", "sentinel"]);
        let error = collect_from(&config(&["api_key_env=NONE"]), &lookup).unwrap_err().to_string();
        assert!(error.contains("NONE"), "{error}");
        assert!(collect_from(&config(&["headers=['Bad Name: x']"]), &lookup).is_err());
    }

    #[test]
    fn a_file_of_variables_is_read_as_shells_do() {
        let text = "# KEY=no\nexport KEY='a b'\nOTHER=1 # comment\nEMPTY=\nLAST=x\nLAST=y\n";
        assert_eq!(from_dotenv(text, "KEY").as_deref(), Some("a b"));
        assert_eq!(from_dotenv(text, "OTHER").as_deref(), Some("1"));
        assert_eq!(from_dotenv(text, "EMPTY"), None);
        assert_eq!(from_dotenv(text, "LAST").as_deref(), Some("y"));
    }
}
