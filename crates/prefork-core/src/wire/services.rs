//! The table of services in `/etc/services`: services(5).

/// The port of the service that has this name or alias, for `protocol`: `tcp` or `udp`. Malformed
/// lines are skipped.
pub fn port(table: &str, name: &str, protocol: &str) -> Option<u16> {
    table.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let (official, port) = (words.next()?, words.next()?);
        let (number, of) = port.split_once('/')?;
        let named = official == name || words.any(|alias| alias == name);
        if named && of == protocol {
            number.parse().ok()
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_aliases_are_found_by_protocol() {
        let table = "# comment\nbroken\nhttp\t80/tcp\twww # web\n\
            domain 53/tcp\ndomain 53/udp\nbig 99999/tcp\n";
        assert_eq!(port(table, "http", "tcp"), Some(80));
        assert_eq!(port(table, "www", "tcp"), Some(80));
        assert_eq!(port(table, "http", "udp"), None);
        assert_eq!(port(table, "domain", "udp"), Some(53));
        assert_eq!(port(table, "web", "tcp"), None);
        assert_eq!(port(table, "big", "tcp"), None);
    }
}
