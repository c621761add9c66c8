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
const ABOUT: [&str; 16] = [
    "env", "file", "path", "dir", "source", "type", "count", "len", "length", "bytes", "name", "names", "ms", "s",
    "sock", "socket",
];
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
            // The shell's working directory is the one variable of this name that holds no password.
            .filter(|(name, value)| name != "PWD" && is_secret_name(name) && value.len() >= MIN_WHOLE)
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

    /// Text in our own words, such as an error: only values of secret variables are taken out, since `key: value` in a message is
    /// what the message is about.
    pub fn message(&self, text: &str) -> String {
        self.mask_known(text)
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
        let after = words.get(index + 1).map(String::as_str);
        match word.as_str() {
            // Of attention: `num_key_value_heads`.
            "key" if after == Some("value") => false,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SENTINEL: &str = "S3nt1nel-Value_0042";

    fn strings(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn names_that_hold_secrets_are_told_from_names_of_the_field() {
        for secret in [
            "api_key",
            "--api-key",
            "OPENAI_API_KEY",
            "HF_TOKEN",
            "hf.token",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_ACCESS_KEY_ID",
            "password",
            "dbPassword",
            "Authorization",
            "Proxy-Authorization",
            "X-Api-Key",
            "authToken",
            "APIKEY",
            "access_tokens",
            "X-Amz-Signature",
            "api%5Fkey",
            "cookie",
            "client_secret",
        ] {
            assert!(is_secret_name(secret), "{secret}");
        }
        for plain in [
            "prompt_tokens",
            "infer.max_new_tokens",
            "max_tokens",
            "tokenizer",
            "tokens",
            "api_key_env",
            "token_source",
            "eos_token",
            "kv_bytes_per_token",
            "kv_cache",
            "keyboard",
            "model.path",
            "device",
            "author",
            "monkey",
            "",
            "--",
            "token_count",
        ] {
            assert!(!is_secret_name(plain), "{plain}");
        }
    }

    #[test]
    fn no_way_of_giving_a_secret_on_the_command_line_is_recorded() {
        let redactor = Redactor::default();
        let given: &[&[&str]] = &[
            &["--api-key", SENTINEL],
            &[&format!("--api-key={SENTINEL}")],
            &[&format!("api_key={SENTINEL}")],
            &[&format!("+server.api_key={SENTINEL}")],
            &["-H", &format!("Authorization: Bearer {SENTINEL}")],
            &["-H", &format!("authorization: Basic {SENTINEL} {SENTINEL}")],
            &[&format!("headers={{X-Api-Key: {SENTINEL}, Accept: text}}")],
            &[&format!("headers={{\"X-Api-Key\": \"{SENTINEL}, still {SENTINEL}\"}}")],
            &[&format!("api_keys=[{SENTINEL},{SENTINEL}]")],
            &[&format!("base_url=https://user:{SENTINEL}@host:8000/v1")],
            &[&format!("base_url=https://{SENTINEL}@host/v1")],
            &[&format!("base_url=https://host/v1?a=1&api_key={SENTINEL}&b=2")],
            &[&format!("base_url=https://host/v1?api%5Fkey={SENTINEL}#part")],
        ];
        for arguments in given {
            let written = redactor.argv(&strings(arguments)).join("\u{1f}");
            assert!(!written.contains(SENTINEL), "{arguments:?} gave {written:?}");
            assert!(written.contains(MASK));
        }
    }

    #[test]
    fn what_is_no_secret_stays_as_it_was() {
        let arguments = strings(&[
            "perfprof",
            "stage1",
            "model=smollm2",
            "repeats=3",
            "infer.max_new_tokens=64",
            "prompt_tokens=512",
            "api_key_env=MY_KEY",
            "base_url=http://127.0.0.1:8000/v1?stream=true",
            "'torch_profiler.activities=[cpu,cuda]'",
            "prompt=what time is it: 12:30?",
        ]);
        let redactor = Redactor::from_vars([("PATH".to_owned(), "smollm2".to_owned())]);
        assert_eq!(redactor.argv(&arguments), arguments);
        assert_eq!(
            redactor.text("base_url=https://u:p@host/v1?a=1&sig=x&b=2"),
            "base_url=https://***@host/v1?a=1&sig=***&b=2"
        );
    }

    #[test]
    fn secrets_of_the_environment_are_found_without_a_name() {
        let redactor = Redactor::from_vars([
            ("SOME_TOKEN".to_owned(), SENTINEL.to_owned()),
            ("OTHER_KEY".to_owned(), format!("{SENTINEL}-longer")),
            ("SHORT_KEY".to_owned(), "cpu1".to_owned()),
        ]);
        assert_eq!(redactor.text(&format!("server said `bad {SENTINEL}`")), "server said `bad ***`");
        assert_eq!(redactor.text(&format!("{SENTINEL}-longer")), "***");
        // Too short to be looked for inside words, long enough to be a value.
        assert_eq!(redactor.argv(&strings(&["x=cpu1", "cpu1", "acpu1b"])), ["x=***", "***", "acpu1b"]);
        assert_eq!(format!("{redactor:?}"), "Redactor { secrets: 3 }");
    }

    #[test]
    fn the_working_directory_is_no_password() {
        let shell = [("PWD", "/data/project"), ("OLDPWD", "/data/before"), ("SSH_AUTH_SOCK", "/run/agent.1")];
        let redactor = Redactor::from_vars(shell.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let text = "/data/project/tmp /data/before /run/agent.1";
        assert_eq!(redactor.text(text), text);
    }

    #[test]
    fn tokens_of_well_known_services_are_known_by_their_shape() {
        let redactor = Redactor::default();
        for token in [
            "sk-proj-abcdefghijklmnopqrstuvwx",
            "hf_abcdefghijklmnopqrstuvwxyz",
            "AKIAABCDEFGHIJKLMNOP",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc",
        ] {
            assert_eq!(redactor.text(&format!("got {token}, gave up")), "got ***, gave up");
            assert_eq!(redactor.text(&format!("x={token}")), "x=***");
        }
        assert_eq!(redactor.text("task-list and sk-short stay"), "task-list and sk-short stay");
        assert_eq!(redactor.text("Bearer abcd1234"), "Bearer ***");
    }

    #[test]
    fn only_allow_listed_variables_are_recorded() {
        let variables = [
            ("RAYON_NUM_THREADS", "4"),
            ("HF_TOKEN", SENTINEL),
            ("AWS_SECRET_ACCESS_KEY", SENTINEL),
            ("HOME", "/home/someone"),
            ("LANG", SENTINEL),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
        let redactor = Redactor::from_vars(variables.clone());
        let kept = redactor.environment(variables);
        let expected =
            [("LANG", MASK), ("RAYON_NUM_THREADS", "4")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(kept, BTreeMap::from(expected));
    }

    #[test]
    fn the_allow_list_names_nothing_that_looks_secret() {
        assert!(ENVIRONMENT_ALLOW_LIST.iter().all(|name| !is_secret_name(name)));
    }

    proptest! {
        #[test]
        fn any_text_is_redacted_without_a_panic_and_once_is_enough(text in "\\PC{0,80}") {
            let redactor = Redactor::from_vars([("A_KEY".to_owned(), "12345678".to_owned())]);
            let once = redactor.text(&text);
            prop_assert_eq!(redactor.text(&once), once);
        }

        #[test]
        fn a_known_secret_never_survives(before in "\\PC{0,40}", after in "\\PC{0,40}") {
            let redactor = Redactor::from_vars([("A_KEY".to_owned(), SENTINEL.to_owned())]);
            let text = format!("{before}{SENTINEL}{after}");
            prop_assert!(!redactor.text(&text).contains(SENTINEL));
        }
    }
}
