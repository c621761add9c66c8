//! What the system allows: descriptors and local ports.

use std::io;

/// Descriptors a process keeps for itself beside its sockets: files, pollers, libraries.
pub const OWN_DESCRIPTORS: u64 = 40;

/// Raises the limit of open descriptors of this process to `wanted` if the hard limit allows it, and says what it is then.
///
/// # Errors
/// If the system does not tell its limits.
pub fn raise_descriptors(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call fills one `rlimit`, which outlives it.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } < 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < wanted && limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: wanted.min(limit.rlim_max), rlim_max: limit.rlim_max };
        // SAFETY: the call reads one `rlimit`, which outlives it.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) } == 0 {
            return Ok(raised.rlim_cur);
        }
    }
    Ok(limit.rlim_cur)
}

/// Local ports a client may use for connections to one address; `None` where the system does not tell.
pub fn local_ports() -> Option<u64> {
    parse_ports(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

fn parse_ports(text: &str) -> Option<u64> {
    let mut numbers = text.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    Some((last + 1).saturating_sub(first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_counted_with_both_ends() {
        assert_eq!(parse_ports("32768\t60999\n"), Some(28_232));
        assert_eq!(parse_ports("9 8"), Some(0));
        assert_eq!(parse_ports("nonsense"), None);
    }

    #[test]
    fn the_limit_is_never_lowered() {
        let before = raise_descriptors(0).unwrap();
        assert_eq!(raise_descriptors(1).unwrap(), before);
        assert!(before >= OWN_DESCRIPTORS);
    }
}
