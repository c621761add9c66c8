//! What the mock server does, and what it does wrong on purpose.

/// Tokens one request may ask for; more is refused, as a server refuses what is beyond its context.
pub(super) const MOST_TOKENS: u64 = 1_000_000;
/// The longest time a setting may name, in milliseconds: a day.
const MOST_MS: f64 = 86_400_000.0;

/// When the chunk of a chat comes that holds the role and no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RoleChunk {
    /// Never.
    None,
    /// With the first token, as vLLM does.
    #[default]
    First,
    /// At once, before the prompt is worked on, as some gateways do.
    Immediate,
}

impl RoleChunk {
    /// The value named `text`: `none`, `first` or `immediate`.
    ///
    /// # Errors
    /// What is wrong with the name, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self::None),
            "first" => Ok(Self::First),
            "immediate" => Ok(Self::Immediate),
            _ => Err(format!("`{text}` is not `none`, `first` or `immediate`")),
        }
    }
}

/// When token counts are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsagePolicy {
    /// In a stream where the request asks for them, elsewhere always.
    #[default]
    Asked,
    /// Always.
    Always,
    /// Never, asked or not.
    Never,
    /// Always, and in every chunk of a stream.
    Continuous,
}

impl UsagePolicy {
    /// The value named `text`: `asked`, `always`, `never` or `continuous`.
    ///
    /// # Errors
    /// What is wrong with the name, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "asked" => Ok(Self::Asked),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            "continuous" => Ok(Self::Continuous),
            _ => Err(format!("`{text}` is not `asked`, `always`, `never` or `continuous`")),
        }
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultKind {
    /// The connection ends in order in the middle of the answer.
    Cut,
    /// The connection is reset in the middle of the answer.
    Reset,
    /// An event with an error in the middle of a stream that began with 200.
    ErrorEvent,
    /// Status 500.
    Http500,
    /// Status 429 with `Retry-After`.
    Http429,
    /// Status 503.
    Http503,
    /// Status 200 and a stream without events.
    Empty,
    /// One event of the stream is broken JSON; the rest comes as ever.
    Malformed,
    /// Accepted, and never answered.
    Silent,
    /// The answer stops, and the connection stays open.
    Stall,
    /// The stream ends without `[DONE]`.
    NoDone,
}

impl FaultKind {
    const ALL: [(&'static str, Self); 11] = [
        ("cut", Self::Cut),
        ("reset", Self::Reset),
        ("error_event", Self::ErrorEvent),
        ("http_500", Self::Http500),
        ("http_429", Self::Http429),
        ("http_503", Self::Http503),
        ("empty", Self::Empty),
        ("malformed", Self::Malformed),
        ("silent", Self::Silent),
        ("stall", Self::Stall),
        ("no_done", Self::NoDone),
    ];

    /// The name in settings.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    /// Whether it happens after some chunks, so that `after` means something.
    pub fn is_inside(self) -> bool {
        matches!(self, Self::Cut | Self::Reset | Self::ErrorEvent | Self::Malformed | Self::Stall)
    }
}

/// A fault and the requests it befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// Every so many requests, in order of arrival: 1 is all of them.
    pub every: u64,
    /// Chunks with tokens before it happens, for the kinds that happen inside an answer; at most those the answer has.
    pub after: u32,
}

impl Fault {
    /// Reads `KIND:every=K[,after=N]`, such as `cut:every=10,after=5`. `after` is 1 if it is left out.
    ///
    /// # Errors
    /// What is wrong with the text, in words.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once(':').ok_or_else(|| format!("`{text}` is not `KIND:every=K[,after=N]`"))?;
        let Some((_, kind)) = FaultKind::ALL.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = FaultKind::ALL.iter().map(|(name, _)| *name).collect();
            return Err(format!("`{name}` is no fault; there are {}", names.join(", ")));
        };
        let (mut every, mut after) = (None, None);
        for part in rest.split(',') {
            match part.split_once('=') {
                Some(("every", value)) if every.is_none() => every = Some(number(value)?),
                Some(("after", value)) if after.is_none() && kind.is_inside() => after = Some(number(value)?),
                Some(("after", _)) if !kind.is_inside() => {
                    return Err(format!("`{name}` does not happen inside an answer, so `after` means nothing"));
                }
                _ => return Err(format!("`{part}` is not `every=K` or `after=N`, each once")),
            }
        }
        let every = every.ok_or_else(|| format!("`{text}` does not say which requests: `every=K`"))?;
        if every == 0 {
            return Err("`every` counts from 1".to_owned());
        }
        Ok(Self { kind: *kind, every: u64::from(every), after: after.unwrap_or(1) })
    }
}

fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("`{text}` is not a whole number below 2^32"))
}

/// All settings of the mock server.
#[derive(Debug, Clone, PartialEq)]
pub struct MockSettings {
    /// Address or name of the interface to listen on.
    pub host: String,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Name of the model, in `/v1/models` and for requests that name none.
    pub model: String,
    /// Answer 404 to requests for another model, as vLLM does; else the answer bears the name that was asked for.
    pub strict_model: bool,
    /// From the arrival of a request to its first token, in milliseconds.
    pub ttft_ms: f64,
    /// Microseconds that each token of the prompt adds to the TTFT. Tokens of a prompt are its words.
    pub prefill_us_per_token: f64,
    /// From one chunk to the next, in milliseconds.
    pub itl_ms: f64,
    /// Each chunk is late by up to so many microseconds, uniformly. The delays do not add up.
    pub jitter_us: u64,
    /// Seed of the jitter.
    pub seed: u64,
    /// Tokens in a chunk; the last one may have fewer.
    pub tokens_per_chunk: u32,
    /// Tokens of an answer whose request sets no limit. One that does gets exactly as many as it allows.
    pub default_tokens: u32,
    /// When the role of a chat is told.
    pub role: RoleChunk,
    /// So many chunks of a chat, the first ones, are reasoning.
    pub reasoning: u32,
    /// So many chunks of a chat, the last ones, are parts of a tool call.
    pub tool: u32,
    /// Every so many requests pause in the middle of their chunks; 0 never.
    pub stall_every: u64,
    /// How long they pause, in milliseconds.
    pub stall_ms: f64,
    /// When token counts are told.
    pub usage: UsagePolicy,
    /// End streams of chats and completions with `[DONE]`.
    pub done: bool,
    /// Put the time of sending into each event, as `t_send_ns` of `CLOCK_MONOTONIC`.
    pub stamp: bool,
    /// So many requests are worked on at once and the others wait, as in a server with a limited batch; 0 sets no limit.
    pub max_running: usize,
    /// Tokens that the cache of `vllm:kv_cache_usage_perc` would hold. It limits nothing.
    pub kv_tokens: u64,
    /// Times of sending that are kept, 8 bytes each. Requests beyond are served and not recorded, and `/stats` says how many.
    pub most_stamps: usize,
    /// Faults; where several befall a request, the first does.
    pub faults: Vec<Fault>,
}

impl Default for MockSettings {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 0,
            model: "mock".to_owned(),
            strict_model: false,
            ttft_ms: 100.0,
            prefill_us_per_token: 0.0,
            itl_ms: 20.0,
            jitter_us: 0,
            seed: 0,
            tokens_per_chunk: 1,
            default_tokens: 128,
            role: RoleChunk::default(),
            reasoning: 0,
            tool: 0,
            stall_every: 0,
            stall_ms: 0.0,
            usage: UsagePolicy::default(),
            done: true,
            stamp: false,
            max_running: 0,
            kv_tokens: 1_000_000,
            most_stamps: 16_000_000,
            faults: Vec::new(),
        }
    }
}

impl MockSettings {
    /// Whether the settings make sense.
    ///
    /// # Errors
    /// What does not, in words.
    pub fn check(&self) -> Result<(), String> {
        let times = [
            ("ttft_ms", self.ttft_ms, MOST_MS),
            ("itl_ms", self.itl_ms, MOST_MS),
            ("stall_ms", self.stall_ms, MOST_MS),
            ("prefill_us_per_token", self.prefill_us_per_token, 1e6),
        ];
        for (name, value, most) in times {
            // NaN is in no range.
            if !(0.0..=most).contains(&value) {
                return Err(format!("`{name}` is {value}, and may be from 0 to {most}"));
            }
        }
        if self.jitter_us > MOST_MS as u64 * 1000 {
            return Err(format!("`jitter_us` is {}, more than a day", self.jitter_us));
        }
        if self.tokens_per_chunk == 0 || u64::from(self.tokens_per_chunk) > MOST_TOKENS {
            return Err(format!("`tokens_per_chunk` is {}, and may be from 1 to {MOST_TOKENS}", self.tokens_per_chunk));
        }
        if self.default_tokens == 0 || u64::from(self.default_tokens) > MOST_TOKENS {
            return Err(format!("`default_tokens` is {}, and may be from 1 to {MOST_TOKENS}", self.default_tokens));
        }
        if self.kv_tokens == 0 {
            return Err("`kv_tokens` is 0: a cache holds something".to_owned());
        }
        if self.faults.iter().any(|fault| fault.every == 0) {
            return Err("`every` of a fault counts from 1".to_owned());
        }
        if self.model.is_empty() || self.model.len() > 1000 {
            return Err("`model` must have 1 to 1000 bytes".to_owned());
        }
        Ok(())
    }

    /// The fault that befalls the request with this number, which counts from 1 in order of arrival.
    pub fn fault_of(&self, number: u64) -> Option<Fault> {
        self.faults.iter().find(|fault| number.is_multiple_of(fault.every)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_says_what_whom_and_when() {
        let read = |text: &str| Fault::parse(text).unwrap();
        assert_eq!(read("cut:every=10,after=5"), Fault { kind: FaultKind::Cut, every: 10, after: 5 });
        assert_eq!(read("stall:after=0,every=1"), Fault { kind: FaultKind::Stall, every: 1, after: 0 });
        assert_eq!(read("reset:every=3"), Fault { kind: FaultKind::Reset, every: 3, after: 1 });
        for (name, kind) in FaultKind::ALL {
            assert_eq!(read(&format!("{name}:every=2")).kind, kind);
            assert_eq!(kind.name(), name);
        }
    }

    #[test]
    fn a_fault_that_says_nonsense_is_refused_in_words() {
        for (text, reason) in [
            ("cut", "KIND:every=K"),
            ("explode:every=2", "there are cut, reset"),
            ("cut:after=2", "which requests"),
            ("cut:every=0", "from 1"),
            ("cut:every=x", "whole number"),
            ("cut:every=-1", "whole number"),
            ("cut:every=1,every=2", "each once"),
            ("cut:every=1,", "each once"),
            ("http_500:every=1,after=2", "not happen inside"),
            ("cut:every=99999999999", "2^32"),
        ] {
            let error = Fault::parse(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn every_kth_request_meets_the_first_fault_that_is_due() {
        let faults = vec![Fault::parse("cut:every=4").unwrap(), Fault::parse("http_500:every=2").unwrap()];
        let settings = MockSettings { faults, ..MockSettings::default() };
        let met: Vec<&str> =
            (1..=8).map(|number| settings.fault_of(number).map_or("-", |fault| fault.kind.name())).collect();
        assert_eq!(met, ["-", "http_500", "-", "cut", "-", "http_500", "-", "cut"]);
    }

    #[test]
    fn settings_without_sense_are_refused() {
        assert_eq!(MockSettings::default().check(), Ok(()));
        for settings in [
            MockSettings { ttft_ms: -1.0, ..MockSettings::default() },
            MockSettings { itl_ms: f64::NAN, ..MockSettings::default() },
            MockSettings { stall_ms: f64::INFINITY, ..MockSettings::default() },
            MockSettings { tokens_per_chunk: 0, ..MockSettings::default() },
            MockSettings { default_tokens: 0, ..MockSettings::default() },
            MockSettings { model: String::new(), ..MockSettings::default() },
        ] {
            assert!(settings.check().is_err(), "{settings:?}");
        }
    }

    #[test]
    fn words_of_settings_are_read() {
        assert_eq!(RoleChunk::parse("immediate"), Ok(RoleChunk::Immediate));
        assert_eq!(UsagePolicy::parse("continuous"), Ok(UsagePolicy::Continuous));
        assert!(RoleChunk::parse("First").unwrap_err().contains("immediate"));
        assert!(UsagePolicy::parse("").unwrap_err().contains("asked"));
    }
}
