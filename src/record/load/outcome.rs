//! How a request ended: exactly one of these, so that what was issued is the sum of them.

use serde::{Deserialize, Serialize};

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered, with at least one token; only these enter latencies and rates.
    Ok,
    /// A status of 400 to 499 other than 429, or a redirect, which is not followed.
    #[serde(rename = "http_4xx")]
    Http4xx,
    /// 429.
    RateLimited,
    /// A status of 500 or more.
    #[serde(rename = "http_5xx")]
    Http5xx,
    /// No connection, or one that was gone before an answer began.
    ConnectError,
    /// TLS could not be agreed on, or the certificate is not to be trusted.
    TlsError,
    /// No connection in time.
    TimeoutConnect,
    /// No first token in time.
    TimeoutFirstToken,
    /// A stream that went silent.
    TimeoutStall,
    /// No end in time.
    TimeoutTotal,
    /// A stream that ended before its end.
    StreamTruncated,
    /// An error told within a stream whose status was 200.
    StreamErrorEvent,
    /// An answer that is no event stream and no JSON where one was due.
    MalformedSse,
    /// An event that is no JSON.
    MalformedJson,
    /// A whole answer without a token.
    EmptyOutput,
    /// An event, or an answer, longer than the limit.
    Oversize,
    /// The user ended the test.
    CancelledUser,
    /// The stage was over, and its time of grace.
    CancelledDeadline,
    /// It was due while the most were in flight, and `when_full` is `drop`.
    Dropped,
    /// The client could not do it: no descriptor, no port, no memory.
    ClientError,
}

impl Outcome {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 20] = [
        Self::Ok,
        Self::Http4xx,
        Self::RateLimited,
        Self::Http5xx,
        Self::ConnectError,
        Self::TlsError,
        Self::TimeoutConnect,
        Self::TimeoutFirstToken,
        Self::TimeoutStall,
        Self::TimeoutTotal,
        Self::StreamTruncated,
        Self::StreamErrorEvent,
        Self::MalformedSse,
        Self::MalformedJson,
        Self::EmptyOutput,
        Self::Oversize,
        Self::CancelledUser,
        Self::CancelledDeadline,
        Self::Dropped,
        Self::ClientError,
    ];

    /// The name in every artifact.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Http4xx => "http_4xx",
            Self::RateLimited => "rate_limited",
            Self::Http5xx => "http_5xx",
            Self::ConnectError => "connect_error",
            Self::TlsError => "tls_error",
            Self::TimeoutConnect => "timeout_connect",
            Self::TimeoutFirstToken => "timeout_first_token",
            Self::TimeoutStall => "timeout_stall",
            Self::TimeoutTotal => "timeout_total",
            Self::StreamTruncated => "stream_truncated",
            Self::StreamErrorEvent => "stream_error_event",
            Self::MalformedSse => "malformed_sse",
            Self::MalformedJson => "malformed_json",
            Self::EmptyOutput => "empty_output",
            Self::Oversize => "oversize",
            Self::CancelledUser => "cancelled_user",
            Self::CancelledDeadline => "cancelled_deadline",
            Self::Dropped => "dropped",
            Self::ClientError => "client_error",
        }
    }

    /// Whether it was the test that ended the request, and not the server: neither a success nor an error.
    pub const fn is_cancelled(self) -> bool {
        matches!(self, Self::CancelledUser | Self::CancelledDeadline)
    }

    /// Whether it counts as an error.
    pub const fn is_error(self) -> bool {
        !matches!(self, Self::Ok) && !self.is_cancelled()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_what_is_written() {
        for outcome in Outcome::ALL {
            assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.name());
        }
    }
}
