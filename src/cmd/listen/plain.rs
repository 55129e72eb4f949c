//! Reads a command line without options, without clap: building the parser takes longer than to
//! bind a listener, and `pf-listen` may run before every worker.

use std::ffi::OsString;

use super::cli::{Args, DELAY, TRIES};

/// The arguments, if they are addresses, `--` and a command. `None` for anything else, also for
/// errors: clap reports them.
pub(super) fn read(words: impl IntoIterator<Item = OsString>) -> Option<Args> {
    let mut words = words.into_iter().skip(1);
    let mut addresses = Vec::new();
    loop {
        let word = words.next()?;
        if word == "--" {
            break;
        }
        let address = word.to_str().filter(|text| !text.starts_with('-'))?;
        addresses.push(address.parse().ok()?);
    }
    let command: Vec<OsString> = words.collect();
    (!command.is_empty()).then_some(Args {
        addresses,
        tries: TRIES,
        delay: DELAY,
        port_file: None,
        add: false,
        export: Vec::new(),
        hold: false,
        verbose: false,
        quiet: false,
        command,
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use proptest::prelude::*;

    use super::*;

    fn words(line: &[&str]) -> Vec<OsString> {
        let program = ["pf-listen"].iter();
        program.chain(line).map(|word| (*word).into()).collect()
    }

    fn both(line: &[&str]) -> (Option<String>, Option<String>) {
        let parser = Args::try_parse_from(words(line)).ok();
        (
            read(words(line)).map(|args| format!("{args:?}")),
            parser.map(|args| format!("{args:?}")),
        )
    }

    #[test]
    fn a_line_without_options_is_read_as_clap_reads_it() {
        for line in [
            &["--", "app"][..],
            &["127.0.0.1:0", "--", "app"],
            &[
                "web=:0,backlog=5",
                "/run/x.sock",
                "--",
                "app",
                "-v",
                "--",
                "-x",
                "",
            ],
        ] {
            let (plain, parser) = both(line);
            assert!(plain.is_some(), "{line:?}");
            assert_eq!(plain, parser, "{line:?}");
        }
    }

    #[test]
    fn every_other_line_is_left_to_clap() {
        for line in [
            &[][..],
            &["--"],
            &["127.0.0.1:0"],
            &["127.0.0.1:0", "app"],
            &["-v", "--", "app"],
            &["--add", "--", "app"],
            &["no such address", "--", "app"],
            &["", "--", "app"],
            &["--help"],
        ] {
            assert!(read(words(line)).is_none(), "{line:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_clap_reads_alike(line in prop::collection::vec(
            prop::sample::select(vec![
                "--", "-", "-q", "--tries", "-1", "5", "app", ":0", "a=/x", "[::1]:1,nonblock",
                "", "x=y=z", "--add",
            ]), 0..7,
        )) {
            let (plain, parser) = both(&line);
            if plain.is_some() {
                prop_assert_eq!(plain, parser);
            }
        }
    }
}
