//! systemd's `LISTEN_*` variables, by which a process learns which of its descriptors are
//! listeners: sd_listen_fds(3).

use std::ffi::OsString;

/// The first listener's descriptor.
pub const FIRST_FD: i32 = 3;

/// The entry in `LISTEN_FDNAMES` for a listener without a name.
pub const NAMELESS: &str = "unknown";

/// Names the master that the listeners of a program were taken from (`pf-ctl take-fds`), by its
/// pid: that master does not take the program for one of its own.
pub const TAKEN_FROM: &str = "PF_TAKEN_FROM";

/// The largest `LISTEN_FDS`: no process can have more descriptors open, so a larger count is
/// malformed.
const MAX_FDS: usize = 1 << 20;

/// The variables of this protocol. A program that takes the listeners, or passes them on, must
/// not pass on the variables that it was given itself.
pub const VARIABLES: [&str; 4] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
];

/// The listeners that the environment passes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inheritance {
    /// No listeners: `LISTEN_FDS` is not set, or `LISTEN_PID` is not.
    None,
    /// The listeners were passed to another process, so this one's descriptors are something else.
    ForAnotherProcess {
        /// The other process.
        pid: u32,
    },
    /// The descriptors from [`FIRST_FD`] on are listeners for this process.
    Inherited {
        /// The number of listeners.
        count: usize,
        /// The names, in order; empty without `LISTEN_FDNAMES`.
        names: Vec<String>,
    },
}

/// Parses the variables, which `lookup` reads, for the process `own_pid`.
///
/// The error is one line that names the malformed variable.
pub fn parse(
    lookup: impl Fn(&str) -> Option<OsString>,
    own_pid: u32,
) -> Result<Inheritance, String> {
    let (Some(count), Some(pid)) = (lookup("LISTEN_FDS"), lookup("LISTEN_PID")) else {
        return Ok(Inheritance::None);
    };
    let pid = number("LISTEN_PID", &pid).and_then(|pid| {
        u32::try_from(pid).map_err(|_| malformed("LISTEN_PID", &pid.to_string()))
    })?;
    if pid != own_pid {
        return Ok(Inheritance::ForAnotherProcess { pid });
    }
    let count = number("LISTEN_FDS", &count)?;
    let count = usize::try_from(count)
        .ok()
        .filter(|count| *count <= MAX_FDS)
        .ok_or_else(|| malformed("LISTEN_FDS", &count.to_string()))?;
    let names = match lookup("LISTEN_FDNAMES") {
        Some(names) if count > 0 => {
            let names: Vec<String> = names
                .to_string_lossy()
                .split(':')
                .map(str::to_owned)
                .collect();
            if names.len() != count {
                return Err(format!(
                    "LISTEN_FDNAMES has {} names for {count} listeners",
                    names.len()
                ));
            }
            names
        }
        _ => vec![],
    };
    Ok(Inheritance::Inherited { count, names })
}

/// A decimal number without a sign.
fn number(variable: &str, value: &OsString) -> Result<u64, String> {
    let text = value.to_string_lossy();
    let digits = text.chars().all(|c| c.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|_| digits)
        .ok_or_else(|| malformed(variable, &text))
}

fn malformed(variable: &str, value: &str) -> String {
    format!("{variable} is malformed: '{}'", value.escape_default())
}

/// Renders `LISTEN_FDS` and `LISTEN_FDNAMES` for listeners with these names, in order.
/// `LISTEN_PID` is added by the process that executes the next program: only that process knows
/// its pid.
pub fn render<'a>(names: impl IntoIterator<Item = Option<&'a str>>) -> (String, String) {
    let names: Vec<&str> = names
        .into_iter()
        .map(|name| name.unwrap_or(NAMELESS))
        .collect();
    (names.len().to_string(), names.join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(variables: &[(&str, &str)]) -> Result<Inheritance, String> {
        parse(
            |wanted| {
                variables
                    .iter()
                    .find(|(key, _)| *key == wanted)
                    .map(|(_, value)| value.into())
            },
            42,
        )
    }

    #[test]
    fn g1_inherited_none_and_malformed_are_distinct() {
        assert_eq!(read(&[]), Ok(Inheritance::None));
        assert_eq!(
            read(&[("LISTEN_FDS", "2")]),
            Ok(Inheritance::None),
            "no LISTEN_PID: for no process"
        );
        assert_eq!(
            read(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "7")]),
            Ok(Inheritance::ForAnotherProcess { pid: 7 })
        );
        assert_eq!(
            read(&[("LISTEN_FDS", "2"), ("LISTEN_PID", "42")]),
            Ok(Inheritance::Inherited {
                count: 2,
                names: vec![]
            })
        );
        for count in [
            "",
            "x",
            "-1",
            "+1",
            " 1",
            "1 ",
            "99999999999999999999",
            "4294967296",
        ] {
            assert_eq!(
                read(&[("LISTEN_FDS", count), ("LISTEN_PID", "42")]),
                Err(format!("LISTEN_FDS is malformed: '{count}'"))
            );
        }
        assert_eq!(
            read(&[("LISTEN_FDS", "1"), ("LISTEN_PID", "x")]),
            Err("LISTEN_PID is malformed: 'x'".into())
        );
        assert_eq!(
            read(&[("LISTEN_FDS", "x"), ("LISTEN_PID", "7")]),
            Ok(Inheritance::ForAnotherProcess { pid: 7 })
        );
    }

    #[test]
    fn number_of_names_must_match_the_listeners() {
        let ours = |names| {
            read(&[
                ("LISTEN_FDS", "2"),
                ("LISTEN_PID", "42"),
                ("LISTEN_FDNAMES", names),
            ])
        };
        assert_eq!(
            ours("a:b"),
            Ok(Inheritance::Inherited {
                count: 2,
                names: vec!["a".into(), "b".into()]
            })
        );
        assert_eq!(
            ours(":"),
            Ok(Inheritance::Inherited {
                count: 2,
                names: vec!["".into(), "".into()]
            })
        );
        assert_eq!(
            ours("a"),
            Err("LISTEN_FDNAMES has 1 names for 2 listeners".into())
        );
    }

    #[test]
    fn renders_count_and_names() {
        assert_eq!(
            render([Some("web"), None]),
            ("2".into(), "web:unknown".into())
        );
        assert_eq!(render([]), ("0".into(), String::new()));
    }

    proptest! {
        #[test]
        fn random_values_never_panic(fds in "\\PC{0,8}", pid in "\\PC{0,8}", names in "\\PC{0,8}") {
            let _ = read(&[("LISTEN_FDS", &fds), ("LISTEN_PID", &pid), ("LISTEN_FDNAMES", &names)]);
        }
    }
}
