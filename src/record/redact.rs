//! Keeps secrets out of everything that is written: `***` takes their place.
//!
//! Four nets, each of which would hold alone: names that promise a secret (`api_key=…`, `Authorization: …`), credentials in URLs,
//! values that equal a secret of the environment, and values shaped like the tokens of well-known services.

use std::collections::BTreeMap;
use std::ops::Range;

/// What stands where a secret was.
pub const MASK: &str = "***";

/// Words that make a name secret wherever they stand in it.
const SECRET_WORDS: [&str; 19] = [
    "key",
    "keys",
    "token",
    "secret",
    "secrets",
    "password",
    "passwords",
    "passwd",
    "pwd",
    "passphrase",
    "authorization",
    "auth",
    "bearer",
    "credential",
    "credentials",
    "cookie",
    "signature",
    "sig",
    "apikey",
];
/// The same, run together with other words as in `authtoken` or `mypassword`.
const SECRET_PARTS: [&str; 9] =
    ["password", "passwd", "secret", "apikey", "authtoken", "accesstoken", "authorization", "credential", "privatekey"];
/// Last words that make a name speak about a secret, not hold one: `api_key_env`, `token_source`.
const ABOUT: [&str; 14] =
    ["env", "file", "path", "dir", "source", "type", "count", "len", "length", "bytes", "name", "names", "ms", "s"];
/// Words before `token` in names of the field, which are no credentials: `bytes_per_token`, `eos_token`.
const TEXT_TOKEN: [&str; 14] =
    ["per", "bos", "eos", "pad", "unk", "mask", "sep", "cls", "first", "next", "stop", "max", "min", "last"];
/// Words before `tokens` that make them credentials; alone they are what models read.
const SECRET_TOKENS: [&str; 7] = ["auth", "access", "api", "bearer", "refresh", "secret", "hf"];
/// Beginnings of the tokens of well-known services and how long such a token is at least.
const TOKEN_SHAPES: [(&str, usize); 14] = [
    ("sk-", 20),
    ("hf_", 20),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghs_", 20),
    ("github_pat_", 20),
    ("glpat-", 20),
    ("nvapi-", 20),
    ("gsk_", 20),
    ("xoxb-", 20),
    ("xoxp-", 20),
    ("AKIA", 20),
    ("AIza", 30),
    ("eyJ", 40),
];
/// A secret of the environment this long is replaced anywhere in a text; a shorter one could be part of ordinary words.
const MIN_EMBEDDED: usize = 8;
/// A secret of the environment this long is replaced where it is a whole value.
const MIN_WHOLE: usize = 4;

/// Environment variables that may be recorded: they change how fast things run or what is measured, and hold no secret.
pub const ENVIRONMENT_ALLOW_LIST: [&str; 33] = [
    "CANDLE_DEQUANTIZE_ALL",
    "CANDLE_DEQUANTIZE_ALL_F16",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_CACHE_DISABLE",
    "CUDA_DEVICE_MAX_CONNECTIONS",
    "CUDA_DEVICE_ORDER",
    "CUDA_LAUNCH_BLOCKING",
    "CUDA_MODULE_LOADING",
    "CUDA_VISIBLE_DEVICES",
    "GLIBC_TUNABLES",
    "GOMP_CPU_AFFINITY",
    "HIP_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "LC_NUMERIC",
    "MALLOC_ARENA_MAX",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
    "MKL_NUM_THREADS",
    "NO_COLOR",
    "NVIDIA_TF32_OVERRIDE",
    "NVIDIA_VISIBLE_DEVICES",
    "OMP_NUM_THREADS",
    "OMP_PLACES",
    "OMP_PROC_BIND",
    "OMP_WAIT_POLICY",
    "OPENBLAS_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "ROCR_VISIBLE_DEVICES",
    "RUST_BACKTRACE",
    "RUST_MIN_STACK",
    "TOKENIZERS_PARALLELISM",
    "TZ",
];

/// Redacts with the secrets of one environment.
#[derive(Clone, Default)]
pub struct Redactor {
    /// Values of secret-looking variables, longest first so that no secret survives as the rest of a shorter one.
    secrets: Vec<String>,
}

/// Shows how many secrets are known, never which.
impl std::fmt::Debug for Redactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Redactor").field("secrets", &self.secrets.len()).finish()
    }
}

/// The command line with secrets replaced, by the environment of this process.
pub fn argv(arguments: &[String]) -> Vec<String> {
    Redactor::from_env().argv(arguments)
}

impl Redactor {
    /// With the secrets in the environment of this process.
    pub fn from_env() -> Self {
        Self::from_vars(
            std::env::vars_os()
                .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())),
        )
    }

    /// With the secrets among `variables`.
    pub fn from_vars(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut secrets: Vec<String> = variables
            .into_iter()
            .filter(|(name, value)| is_secret_name(name) && value.len() >= MIN_WHOLE)
            .map(|(_, value)| value)
            .collect();
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { secrets }
    }

    /// Knows one more secret, for one that came by a file or a flag.
    pub fn add_secret(&mut self, value: &str) {
        if value.len() >= MIN_WHOLE {
            self.secrets.push(value.to_owned());
            self.secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        }
    }

    /// A command line: `--api-key X`, `--api-key=X`, `api_key=X`, `-H 'Authorization: X'`, URLs and everything [`Self::text`]
    /// knows.
    pub fn argv(&self, arguments: &[String]) -> Vec<String> {
        let mut mask_next = false;
        arguments
            .iter()
            .map(|argument| {
                if std::mem::take(&mut mask_next) && !argument.starts_with("--") {
                    return MASK.to_owned();
                }
                mask_next =
                    argument.starts_with('-') && !argument.contains(['=', ' ', ':']) && is_secret_name(argument);
                self.text(argument)
            })
            .collect()
    }

    /// The value of the variable, header or setting `name`.
    pub fn value(&self, name: &str, value: &str) -> String {
        if is_secret_name(name) { MASK.to_owned() } else { self.text(value) }
    }

    /// Any text: an error message, a URL, a line of a log.
    pub fn text(&self, text: &str) -> String {
        let text = self.mask_known(text);
        let text = mask_userinfo(&text);
        let text = mask_named(&text);
        mask_shapes(&text)
    }

    /// The allow-listed part of `variables`, redacted all the same.
    pub fn environment(&self, variables: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
        variables
            .into_iter()
            .filter(|(name, _)| ENVIRONMENT_ALLOW_LIST.contains(&name.as_str()))
            .map(|(name, value)| (name, self.text(&value)))
            .collect()
    }

    fn mask_known(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.secrets {
            if secret.len() >= MIN_EMBEDDED {
                if text.contains(secret.as_str()) {
                    text = text.replace(secret.as_str(), MASK);
                }
            } else if text == *secret {
                return MASK.to_owned();
            } else if let Some(name) = text.strip_suffix(secret.as_str()).filter(|name| name.ends_with(['=', ' '])) {
                text = format!("{name}{MASK}");
            }
        }
        text
    }
}

/// Whether a name promises a secret: `API_KEY`, `hf-token`, `X-Amz-Signature`, `authToken`, but not `max_new_tokens`,
/// `api_key_env` or `kv_bytes_per_token`.
pub fn is_secret_name(name: &str) -> bool {
    let name = percent_decoded(name);
    let words = words(&name);
    let Some(last) = words.last() else { return false };
    if ABOUT.contains(&last.as_str()) {
        return false;
    }
    let named = words.iter().enumerate().any(|(index, word)| {
        let before = index.checked_sub(1).map(|index| words[index].as_str());
        match word.as_str() {
            "token" => !before.is_some_and(|before| TEXT_TOKEN.contains(&before)),
            "tokens" => before.is_some_and(|before| SECRET_TOKENS.contains(&before)),
            word => SECRET_WORDS.contains(&word),
        }
    });
    let joined = words.concat();
    named || SECRET_PARTS.iter().any(|part| joined.contains(part))
}

/// Lower-case words of a name, split at punctuation and at the humps of camelCase.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous_lower = false;
    for c in name.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && previous_lower) {
            words.push(String::new());
        }
        if c.is_alphanumeric()
            && let Some(word) = words.last_mut()
        {
            word.extend(c.to_lowercase());
        }
        previous_lower = c.is_lowercase() || c.is_ascii_digit();
    }
    words.retain(|word| !word.is_empty());
    words
}

fn percent_decoded(name: &str) -> String {
    if !name.contains('%') {
        return name.to_owned();
    }
    let bytes = name.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let hex = bytes.get(index + 1..index + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match hex.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(byte) if bytes[index] == b'%' => {
                decoded.push(byte);
                index += 3;
            }
            _ => {
                decoded.push(bytes[index]);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// `scheme://user:password@host` becomes `scheme://***@host`.
fn mask_userinfo(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        let end = after.find(|c: char| matches!(c, '/' | '?' | '#' | '"' | '\'' | '<' | '>') || c.is_whitespace());
        let authority = &after[..end.unwrap_or(after.len())];
        match authority.rfind('@') {
            Some(sign) => {
                masked.push_str(MASK);
                rest = &after[sign..];
            }
            None => rest = after,
        }
    }
    masked.push_str(rest);
    masked
}

/// Masks the values behind secret names: `name=value`, `name: value`, `"name": "value"`, `?name=value&`.
fn mask_named(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut kept = 0;
    let mut from = 0;
    while let Some(offset) = text[from..].find([':', '=']) {
        let separator = from + offset;
        from = separator + 1;
        let name = name_before(text, separator);
        if !is_secret_name(&text[name]) {
            continue;
        }
        let value = value_after(text, separator);
        if value.is_empty() {
            continue;
        }
        masked.push_str(&text[kept..value.start]);
        masked.push_str(MASK);
        kept = value.end;
        from = value.end;
    }
    masked.push_str(&text[kept..]);
    masked
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '%')
}

/// The name that ends before `separator`, quotes and spaces between passed over.
fn name_before(text: &str, separator: usize) -> Range<usize> {
    let end = text[..separator].trim_end().trim_end_matches(['"', '\'']).len();
    let start = text[..end]
        .rfind(|c: char| !is_name_char(c))
        .map_or(0, |at| at + text[at..].chars().next().map_or(1, char::len_utf8));
    start..end
}

/// The value after `separator`: to the closing quote if it is quoted, else to the next delimiter. A header value may hold spaces.
fn value_after(text: &str, separator: usize) -> Range<usize> {
    let after = &text[separator + 1..];
    let start = separator + 1 + (after.len() - after.trim_start_matches(' ').len());
    let value = &text[start..];
    if let Some(quote) = value.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let inner = start + 1;
        let mut escaped = false;
        let length = text[inner..].find(|c: char| {
            let ends = c == quote && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        return inner..length.map_or(text.len(), |length| inner + length);
    }
    let lists = text[separator..].starts_with('=') && value.starts_with('[');
    let end = if lists {
        value.find(']').map(|at| at + 1)
    } else {
        value.find(['\n', '\r', ',', ';', '}', ']', '&', '"', '\'', '#'])
    };
    start..end.map_or(text.len(), |end| start + end)
}

/// Masks words shaped like the tokens of well-known services, and what follows `Bearer`.
fn mask_shapes(text: &str) -> String {
    let is_token_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '+' | '/' | '=' | '~');
    let mut masked = String::with_capacity(text.len());
    let mut after_bearer = false;
    let mut rest = text;
    while !rest.is_empty() {
        let gap = rest.find(is_token_char).unwrap_or(rest.len());
        masked.push_str(&rest[..gap]);
        rest = &rest[gap..];
        let length = rest.find(|c| !is_token_char(c)).unwrap_or(rest.len());
        let word = &rest[..length];
        rest = &rest[length..];
        if after_bearer && word.len() >= MIN_WHOLE {
            masked.push_str(MASK);
        } else {
            masked.push_str(&mask_shape(word));
        }
        after_bearer = word.eq_ignore_ascii_case("bearer");
    }
    masked
}

/// Masks a token that begins anywhere in `word` at a place where a value may begin.
fn mask_shape(word: &str) -> String {
    for (start, _) in word.char_indices() {
        let begins = start == 0 || word[..start].ends_with(['=', '/', '+']);
        if begins
            && TOKEN_SHAPES
                .iter()
                .any(|(prefix, least)| word[start..].starts_with(prefix) && word.len() - start >= *least)
        {
            return format!("{}{MASK}", &word[..start]);
        }
    }
    word.to_owned()
}
