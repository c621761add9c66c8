//! The command line of `perfprof mock`.

use clap::Args;

use crate::server::mock::{Fault, MockSettings, RoleChunk, UsagePolicy};

/// What a server without a model is to do.
#[derive(Debug, Args)]
pub(super) struct MockArgs {
    /// Address to listen on.
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    host: String,
    /// Port; 0 takes a free one.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Name of the model.
    #[arg(long, value_name = "NAME", default_value = "mock")]
    model: String,
    /// Answer 404 to requests for another model.
    #[arg(long)]
    strict_model: bool,
    /// From a request to its first token, in ms.
    #[arg(long, value_name = "MS", default_value_t = 100.0)]
    ttft_ms: f64,
    /// What each word of the prompt adds to that, in µs.
    #[arg(long, value_name = "US", default_value_t = 0.0)]
    prefill_us_per_token: f64,
    /// From one chunk to the next, in ms.
    #[arg(long, value_name = "MS", default_value_t = 20.0)]
    itl_ms: f64,
    /// Each chunk is late by up to so many µs, uniformly; the delays do not add up.
    #[arg(long, value_name = "US", default_value_t = 0)]
    jitter_us: u64,
    /// Seed of the jitter.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Tokens in a chunk.
    #[arg(long, value_name = "N", default_value_t = 1)]
    tokens_per_chunk: u32,
    /// Tokens of an answer whose request sets no limit; one that does gets exactly as many as it allows.
    #[arg(long, value_name = "N", default_value_t = 128)]
    default_tokens: u32,
    /// When the role of a chat is told: none, first (with the first token) or immediate (before the prompt is worked on).
    #[arg(long, value_name = "WHEN", default_value = "first", value_parser = RoleChunk::parse)]
    role: RoleChunk,
    /// The first N chunks of a chat are `reasoning_content`.
    #[arg(long, value_name = "N", default_value_t = 0)]
    reasoning: u32,
    /// The last N chunks of a chat are parts of a tool call.
    #[arg(long, value_name = "N", default_value_t = 0)]
    tool: u32,
    /// Every Nth request pauses in the middle of its chunks; 0 never.
    #[arg(long, value_name = "N", default_value_t = 0)]
    stall_every: u64,
    /// How long it pauses, in ms.
    #[arg(long, value_name = "MS", default_value_t = 0.0)]
    stall_ms: f64,
    /// When token counts are told: asked, always, never, or continuous (in every chunk).
    #[arg(long, value_name = "WHEN", default_value = "asked", value_parser = UsagePolicy::parse)]
    usage: UsagePolicy,
    /// End streams without `[DONE]`.
    #[arg(long)]
    no_done: bool,
    /// Put the time of sending into each event, as `t_send_ns` of the monotonic clock.
    #[arg(long)]
    stamp: bool,
    /// Work on so many requests at once and let the others wait; 0 sets no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_running: usize,
    /// Tokens that the cache of `vllm:kv_cache_usage_perc` would hold.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    kv_tokens: u64,
    /// Times of sending kept for `/stats`, 8 bytes each.
    #[arg(long, value_name = "N", default_value_t = 16_000_000)]
    most_stamps: usize,
    /// Let every Kth request go wrong: cut, reset, error_event, malformed, stall (these after N chunks), http_500, http_429, http_503, empty, silent,
    /// no_done; may be repeated.
    #[arg(long = "fault", value_name = "KIND:every=K[,after=N]", value_parser = Fault::parse)]
    faults: Vec<Fault>,
}

impl From<MockArgs> for MockSettings {
    fn from(args: MockArgs) -> Self {
        Self {
            host: args.host,
            port: args.port,
            model: args.model,
            strict_model: args.strict_model,
            ttft_ms: args.ttft_ms,
            prefill_us_per_token: args.prefill_us_per_token,
            itl_ms: args.itl_ms,
            jitter_us: args.jitter_us,
            seed: args.seed,
            tokens_per_chunk: args.tokens_per_chunk,
            default_tokens: args.default_tokens,
            role: args.role,
            reasoning: args.reasoning,
            tool: args.tool,
            stall_every: args.stall_every,
            stall_ms: args.stall_ms,
            usage: args.usage,
            done: !args.no_done,
            stamp: args.stamp,
            max_running: args.max_running,
            kv_tokens: args.kv_tokens,
            most_stamps: args.most_stamps,
            faults: args.faults,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{Parser, error::ErrorKind};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: MockArgs,
    }

    fn parse(words: &[&str]) -> Result<MockSettings, clap::Error> {
        Line::try_parse_from([&["mock"], words].concat()).map(|line| line.args.into())
    }

    #[test]
    fn without_flags_the_settings_are_those_of_the_library() {
        assert_eq!(parse(&[]).unwrap(), MockSettings::default());
    }

    #[test]
    fn flags_are_settings_and_nonsense_is_refused() {
        let read =
            parse(&["--fault", "cut:every=3", "--fault=reset:every=4,after=2", "--role=none", "--no-done"]).unwrap();
        assert_eq!(read.faults, ["cut:every=3", "reset:every=4,after=2"].map(|text| Fault::parse(text).unwrap()));
        assert!(!read.done && read.role == RoleChunk::None);
        let refused = parse(&["--fault", "explode:every=1"]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ValueValidation);
        assert!(refused.to_string().contains("there are cut, reset"), "{refused}");
    }
}
