//! From the head of a request of HTTP/1.1 to the request of HTTP/2 that says the same.

use http::header::{self, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};

/// Fields that speak of a connection, which HTTP/2 has none of (RFC 9113, section 8.2.2), and the length, which each request has its own of.
const LEFT_OUT: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
    "http2-settings",
    "content-length",
];
/// Fields that stand once: the last one counts, so that the user's takes the place of ours.
const ONCE: [HeaderName; 5] =
    [header::USER_AGENT, header::ACCEPT, header::ACCEPT_ENCODING, header::CONTENT_TYPE, header::AUTHORIZATION];
/// Fields whose values are secrets: no table of compression keeps them.
const SECRET: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "api-key", "x-api-key"];

/// The request that `head` stands for: a request line and header lines, each ended by CR LF.
///
/// # Errors
/// What cannot be said in HTTP/2, in words that hold no value of a field.
pub fn request_of(head: &str, tls: bool) -> Result<Request<()>, String> {
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request = Request::new(());
    *request.version_mut() = Version::HTTP_2;
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is no method"))?;
    let mut authority = "";
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if name == "host" {
            authority = value;
            continue;
        }
        if LEFT_OUT.contains(&name.as_str()) {
            continue;
        }
        let mut value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| format!("the value of the header `{name}` cannot be sent"))?;
        value.set_sensitive(SECRET.contains(&name.as_str()));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no name of a header"))?;
        if ONCE.contains(&name) {
            request.headers_mut().insert(name, value);
        } else {
            request.headers_mut().append(name, value);
        }
    }
    let authority: Authority = authority.parse().map_err(|_| "the value of `Host` cannot be sent".to_owned())?;
    let path: PathAndQuery = path.parse().map_err(|_| "the path cannot be sent".to_owned())?;
    *request.uri_mut() = Uri::builder()
        .scheme(if tls { Scheme::HTTPS } else { Scheme::HTTP })
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(request)
}

/// `request` for a body of `length` bytes.
pub fn with_length(request: &Request<()>, length: usize) -> Request<()> {
    let mut request = request.clone();
    request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: example.org:8000\r\nUser-Agent: perfprof/0\r\n\
        Accept: text/event-stream\r\nConnection: close\r\nX-Team: a\r\nX-Team: b\r\nuser-agent: mine\r\n\
        Authorization: Bearer sentinel\r\nTransfer-Encoding: chunked\r\nContent-Length: ";

    #[test]
    fn the_same_is_said_without_what_speaks_of_the_connection() {
        let request = with_length(&request_of(HEAD, true).unwrap(), 12);
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "https://example.org:8000/v1/chat/completions");
        let mut fields: Vec<(&str, &str)> =
            request.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        fields.sort_unstable();
        assert_eq!(
            fields,
            [
                ("accept", "text/event-stream"),
                ("authorization", "Bearer sentinel"),
                ("content-length", "12"),
                ("user-agent", "mine"),
                ("x-team", "a"),
                ("x-team", "b"),
            ]
        );
        assert!(request.headers()["authorization"].is_sensitive());
        assert!(!format!("{request:?}").contains("sentinel"));
    }

    #[test]
    fn what_cannot_be_said_is_told_without_its_value() {
        let error = request_of("POST / HTTP/1.1\r\nHost: h\r\nX-A: sen\u{1}tinel\r\n", false).unwrap_err();
        assert_eq!(error, "the value of the header `x-a` cannot be sent");
        assert!(request_of("POST / HTTP/1.1\r\nHost: \r\n", false).is_err());
    }
}
