//! Addresses that may hold a password, read strictly: what is wrong with one is named, and
//! nothing of it is ever repeated.

/// What makes a text something else than one address, if anything does. Whoever reads it more
/// leniently would take a part of a password for a host, a port or a path, and show it.
pub(super) fn fault(url: &str) -> Option<&'static str> {
    let is_invisible = |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}');
    let is_file = url.starts_with("sqlite:");
    if url.contains(['\n', '\r']) {
        return Some("holds a line break; several nodes are comma-separated, on one line");
    }
    if url.chars().any(|c| c.is_control() || is_invisible(c)) {
        return Some("holds a control character or an invisible one");
    }
    if !is_file && url.chars().any(char::is_whitespace) {
        return Some("holds white space; a blank in a password is written as %20");
    }
    let Some((_, rest)) = url.split_once("://") else {
        return Some("has no scheme such as amqps:// or postgres://");
    };
    if rest.contains("://") {
        return Some(
            "holds a second ://; several nodes are comma-separated, and / in a password is \
             written as %2F",
        );
    }
    // The path of a file is taken as it is.
    if is_file { None } else { fault_of_parts(rest) }
}

fn fault_of_parts(rest: &str) -> Option<&'static str> {
    const ESCAPE: &str =
        "in a user's name or password, / ? # @ % are written as %2F %3F %23 %40 %25";
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let has_user = authority.contains('@');
    if rest.contains('#') || path.contains('@') || (query.contains('@') && !has_user) {
        return Some(ESCAPE);
    }
    if authority.matches('@').count() > 1 || !are_escapes(rest) {
        return Some(ESCAPE);
    }
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = |host: &str| {
        // An IPv6 address has its colons in brackets.
        let behind = host.rsplit_once(']').map_or(host, |(_, behind)| behind);
        behind.split_once(':').is_none_or(|(_, port)| is_port(port))
    };
    if hosts.split(',').all(is_host) {
        None
    } else {
        Some("has an invalid port: it must be a number from 1 to 65535")
    }
}

/// Whether each % begins an escape.
fn are_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|behind| {
        behind
            .as_bytes()
            .first_chunk::<2>()
            .is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Addresses that are none, each with the password `hunter2` somewhere, and what is said of
    /// them. `S` stands for the scheme.
    pub(in crate::config) const MALFORMED: [(&str, &str); 18] = [
        ("S://user:hunter2@one\nS://user:hunter2@two", "line break"),
        ("S://user:x@one\r\nS://user:hunter2@two", "line break"),
        ("S://user:hun\tter2@one", "control character"),
        ("S://user:hunter2@one\u{0}", "control character"),
        ("S://user:hunter2\u{200b}@one", "invisible"),
        ("S://user:hunter2@one S://user:hunter2@two", "white space"),
        ("S://user: hunter2@one", "white space"),
        ("S://user:hunter2@oneS://user:hunter2@two", "second ://"),
        ("S://S://user:hunter2@one", "second ://"),
        ("S://user:hunter2%@one", "%25"),
        ("S://user:hunter2%zz@one", "%25"),
        ("S://user:hunter2@one:port", "port"),
        ("S://user:hunter2@one:0", "port"),
        ("S://user:hunter2@one:65536", "port"),
        ("S://user:12/hunter2@one", "%2F"),
        ("S://user:12?hunter2@one", "%2F"),
        ("S://user:12#hunter2@one", "%2F"),
        ("S://user:12@hunter2@one", "%2F"),
    ];

    #[test]
    fn what_is_wrong_is_named_and_never_repeated() {
        for (url, expected) in MALFORMED {
            for scheme in ["amqp", "amqps", "postgres"] {
                let url = url.replace('S', scheme);
                let said = fault(&url).unwrap_or_else(|| panic!("{url} is taken"));
                assert!(said.contains(expected), "{url}: {said}");
            }
        }
        assert!(fault("user:hunter2@host").unwrap().contains("no scheme"));
        assert!(fault("sqlite://one.db\nsqlite://two.db").unwrap().contains("line break"));
        assert!(fault("sqlite://postgres://user:hunter2@db").unwrap().contains("second ://"));
    }

    #[test]
    fn what_is_an_address_is_taken() {
        for url in [
            "amqp://guest:guest@127.0.0.1:5672/%2f",
            "amqps://user:p%40ss%2Fword@rabbit.example.com",
            "amqps://[2001:db8::1]",
            "amqps://user:pw@[2001:db8::1]:5671/vhost?heartbeat=5",
            "postgres://eko@db/eko?password=a@b",
            "postgres://eko:pw@db1:5432,db2:5433/eko?sslmode=require",
            "postgres://eko@%2Fvar%2Frun%2Fpostgresql/eko",
            "sqlite://eko-worker.db",
            "sqlite:///data/my ledger 100%.db",
        ] {
            assert_eq!(fault(url), None, "{url}");
        }
    }
}
