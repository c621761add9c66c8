//! Where the server is: its URL taken apart, and the addresses behind it.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};

use thiserror::Error;

/// Why a URL cannot be used.
#[derive(Debug, Error)]
pub enum TargetError {
    /// It is not written as one.
    #[error("`{url}` is no URL of a server: {reason}")]
    Malformed {
        /// As given, secrets cut out.
        url: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Its name has no address.
    #[error("the name `{host}` of `{url}` has no address")]
    Unresolved {
        /// The URL, secrets cut out.
        url: String,
        /// The name.
        host: String,
        /// What the resolver says.
        source: std::io::Error,
    },
}

impl TargetError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "write it as `http://HOST:PORT`, with or without `/v1`",
            Self::Unresolved { .. } => "check the name, or give the address itself",
        }
    }
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path of the API, e.g. `/v1`.
    pub base_path: String,
    /// Only HTTP/2 will do: TLS has to agree on it, and without TLS it is spoken without asking.
    pub http2: bool,
    /// User and password of the URL, as `user:password`.
    pub userinfo: Option<String>,
    /// Addresses in the order in which they are tried; empty before [`Target::resolve`].
    pub addresses: Vec<SocketAddr>,
}

impl Target {
    /// Takes `url` apart. A path that does not end in a version such as `/v1` gets `/v1`; that of an endpoint loses its end.
    ///
    /// # Errors
    /// [`TargetError::Malformed`].
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let url = url.trim();
        let malformed = |reason| TargetError::Malformed { url: without_userinfo(url), reason };
        let (tls, rest) = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
            Some(_) => return Err(malformed("only `http` and `https` are spoken")),
            None => return Err(malformed("it does not begin with `http://` or `https://`")),
        };
        if rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(malformed("it has a blank or a control character in it"));
        }
        if rest.contains(['?', '#']) {
            return Err(malformed("it has a query or a fragment"));
        }
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (userinfo, authority) = match authority.rsplit_once('@') {
            Some((userinfo, authority)) => (Some(userinfo.to_owned()), authority),
            None => (None, authority),
        };
        let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
            let Some((host, rest)) = rest.split_once(']') else { return Err(malformed("`]` is missing")) };
            (host, rest.strip_prefix(':').or(if rest.is_empty() { None } else { Some(rest) }))
        } else {
            match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            }
        };
        if host.is_empty() {
            return Err(malformed("the host is missing"));
        }
        let port = match port {
            None => {
                if tls {
                    443
                } else {
                    80
                }
            }
            Some(port) => match port.parse() {
                Ok(port) if port > 0 => port,
                _ => return Err(malformed("the port is no number from 1 to 65535")),
            },
        };
        let path = path.trim_end_matches('/');
        // The address of one endpoint, as documentation of servers has it, says where the others are too.
        let endpoint =
            ["/chat/completions", "/completions", "/responses"].iter().find_map(|end| path.strip_suffix(end));
        let path = endpoint.unwrap_or(path);
        let last = path.rsplit('/').next().unwrap_or_default();
        let versioned = last.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        let base_path = if versioned { path.to_owned() } else { format!("{path}/v1") };
        Ok(Self { tls, host: host.to_owned(), port, base_path, http2: false, userinfo, addresses: Vec::new() })
    }

    /// Looks the addresses up.
    ///
    /// # Errors
    /// [`TargetError::Unresolved`].
    pub fn resolve(mut self) -> Result<Self, TargetError> {
        self.addresses = if let Ok(address) = self.host.parse::<IpAddr>() {
            vec![SocketAddr::new(address, self.port)]
        } else {
            let failed = |source| TargetError::Unresolved { url: self.to_string(), host: self.host.clone(), source };
            let found: Vec<SocketAddr> = (self.host.as_str(), self.port).to_socket_addrs().map_err(failed)?.collect();
            if found.is_empty() {
                return Err(failed(std::io::Error::other("the list of addresses is empty")));
            }
            found
        };
        Ok(self)
    }

    /// The value of `Host`: the port is left out where it is the scheme's own.
    pub fn host_header(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let default = if self.tls { 443 } else { 80 };
        if self.port == default { host } else { format!("{host}:{}", self.port) }
    }

    /// The path without the API's version: where `/health` and `/metrics` are.
    pub fn root_path(&self) -> &str {
        self.base_path.rsplit_once('/').map_or("", |(root, _)| root)
    }
}

/// Without user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", if self.tls { "https" } else { "http" }, self.host_header(), self.base_path)
    }
}

/// The text of a URL that may be none, without what stands before `@`.
fn without_userinfo(url: &str) -> String {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| start + at);
    match url[start..end].rfind('@') {
        Some(at) => format!("{}{}", &url[..start], &url[start + at + 1..]),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Target {
        Target::parse(url).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn a_url_is_taken_with_or_without_the_version() {
        for (url, shown) in [
            ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
            ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
            ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
            ("HTTP://localhost:8000/v1/", "http://localhost:8000/v1"),
            ("https://api.example.org", "https://api.example.org/v1"),
            ("https://api.example.org:443/openai/v1", "https://api.example.org/openai/v1"),
            ("https://api.example.org/api/paas/v4", "https://api.example.org/api/paas/v4"),
            ("http://gateway/team", "http://gateway/team/v1"),
            ("http://[::1]:8000", "http://[::1]:8000/v1"),
        ] {
            assert_eq!(target(url).to_string(), shown, "{url}");
        }
        assert_eq!(target("http://h/team").root_path(), "/team");
        assert_eq!(target("http://h").root_path(), "");
        assert_eq!(target("http://[::1]").host, "::1");
    }

    #[test]
    fn what_is_no_url_is_refused_without_showing_its_password() {
        for url in [
            "",
            "localhost:8000",
            "ftp://h",
            "http://",
            "http://h:0",
            "http://h:x",
            "http://h:70000",
            "http://[::1",
            "http://h/a?b=c",
            "http://a b",
        ] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
        let error = Target::parse("http://user:sentinel@h:x/v1").unwrap_err().to_string();
        assert!(!error.contains("sentinel"), "{error}");
        let kept = target("http://user:sentinel@h:1/v1");
        assert_eq!(kept.userinfo.as_deref(), Some("user:sentinel"));
        assert_eq!(kept.to_string(), "http://h:1/v1");
    }

    #[test]
    fn addresses_need_no_resolver_and_names_do() {
        assert_eq!(target("http://127.0.0.1:81").resolve().unwrap().addresses, ["127.0.0.1:81".parse().unwrap()]);
        let error = target("http://name.invalid").resolve().unwrap_err();
        assert!(error.to_string().contains("name.invalid"), "{error}");
    }
}
