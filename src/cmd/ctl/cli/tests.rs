use super::request::workers;
use super::*;
use crate::wire::control::ControlCommand;
use clap::CommandFactory;

#[test]
fn the_definition_is_valid() {
    Cli::command().debug_assert();
}

fn parse(line: &str) -> Result<Verb, clap::Error> {
    Cli::try_parse_from(std::iter::once("pf-ctl").chain(line.split(' '))).map(|cli| cli.verb)
}

#[test]
fn a_sign_is_a_number_and_options_may_stand_anywhere() {
    for line in [
        "scale t -2 --timeout 1s",
        "scale t --timeout 1s -2",
        "scale --timeout 1s t -2",
        "scale t -2 --no-wait --timeout 1s",
    ] {
        let verb = parse(line).expect(line);
        assert_eq!(
            verb.command(),
            Ok(Some(ControlCommand::Scale {
                workers: "-2".into()
            })),
            "{line}"
        );
        assert_eq!(verb.options().0.timeout, Off::On(Duration::from_secs(1)));
    }
}

#[test]
fn a_wrong_number_is_a_usage_error() {
    for operand in ["x", "", "+", "1.5", "++1", "99999999999", "+ 1", "1e3"] {
        assert_eq!(
            workers(operand).map_err(|error| error.exit),
            Err(crate::error::Exit::Usage),
            "{operand}"
        );
    }
    for operand in ["0", "4", "+1", "-2"] {
        assert_eq!(workers(operand).as_deref(), Ok(operand));
    }
}

#[test]
fn contradicting_options_are_refused() {
    for line in [
        "wait t",
        "wait t --ready --gone",
        "wait t --op",
        "wait t --ready --op 1-k2v9",
        "signal t HUP --workers --slot 1",
        "signal t 15",
        "stop t --kill --no-wait",
        "reload t --dry-run --no-wait",
        "pid t --no-wait",
        "restart-worker t -1",
        "reload t --timeout 5",
        "upgrade t --dry-run --no-wait",
        "upgrade t --manual",
        "scale t",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert!(parse("reload t --timeout off").is_ok());
}
