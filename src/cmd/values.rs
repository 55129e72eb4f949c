//! The values of options that several programs have: durations, ranges, `off`, protocols.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::wire::exports::Protocol;

/// Parses a duration: `30s`, `1m 30s`, `250ms`. The error is one line for the user, here and below.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error} (durations are as in 250ms, 30s, '1m 30s')"))
}

/// The value of an option that may be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Off<T> {
    /// The user wrote `off`.
    Off,
    /// The option has this value.
    On(T),
}

impl<T> Off<T> {
    /// The value. `None`: off.
    pub(super) fn on(self) -> Option<T> {
        match self {
            Off::Off => None,
            Off::On(value) => Some(value),
        }
    }
}

/// Parses a duration, or `off`.
pub(super) fn duration_or_off(text: &str) -> Result<Off<Duration>, String> {
    if text == "off" {
        Ok(Off::Off)
    } else {
        duration(text).map(Off::On)
    }
}

/// Parses a duration above 0.
pub(super) fn time(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("0 is not allowed".to_owned()),
        time => Ok(time),
    }
}

/// Parses a duration above 0, or `off`.
pub(super) fn time_or_off(text: &str) -> Result<Off<Duration>, String> {
    match duration_or_off(text)? {
        Off::On(Duration::ZERO) => Err("0 is not allowed: write 'off' for no limit".to_owned()),
        time => Ok(time),
    }
}

/// Parses a number above 0, or `off`.
pub(super) fn count_or_off(text: &str) -> Result<Off<u32>, String> {
    match text.parse() {
        _ if text == "off" => Ok(Off::Off),
        Ok(number) if number > 0 => Ok(Off::On(number)),
        _ => Err("a number from 1 on, or off".to_owned()),
    }
}

/// The parser of `--export`.
pub(super) fn protocols() -> impl TypedValueParser<Value = Protocol> {
    PossibleValuesParser::new(Protocol::ALL.map(Protocol::as_str))
        .try_map(|text| text.parse::<Protocol>())
}

/// Parses a range of durations: `100ms..30s`.
pub(super) fn durations(text: &str) -> Result<(Duration, Duration), String> {
    let (shortest, longest) = text
        .split_once("..")
        .ok_or("a range is written as in 100ms..30s")?;
    let (shortest, longest) = (duration(shortest)?, duration(longest)?);
    if shortest.is_zero() || shortest > longest {
        return Err("a range begins above 0, and its end is not below its begin".to_owned());
    }
    Ok((shortest, longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_is_a_word_and_not_a_number() {
        assert_eq!(duration_or_off("off"), Ok(Off::Off));
        assert_eq!(
            duration_or_off("1m 30s").map(Off::on),
            Ok(Some(Duration::from_secs(90)))
        );
        assert_eq!(count_or_off("off").map(Off::on), Ok(None));
        for wrong in ["0", "", "-1", "many", "OFF"] {
            assert!(count_or_off(wrong).is_err(), "{wrong}");
        }
        assert!(duration_or_off("soon").is_err());
    }

    #[test]
    fn a_range_runs_upwards() {
        assert_eq!(
            durations("100ms..30s"),
            Ok((Duration::from_millis(100), Duration::from_secs(30)))
        );
        for wrong in ["1s", "2s..1s", "0s..1s", "..", "a..b"] {
            assert!(durations(wrong).is_err(), "{wrong}");
        }
    }
}
