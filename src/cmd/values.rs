//! Values on command lines, as people write them.

use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::wire::exports::Protocol;

/// A duration: `30s`, `1m 30s`, `250ms`.
///
/// # Errors
/// One line for the user.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error} (durations are as in 250ms, 30s, '1m 30s')"))
}

/// What may be switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Off<T> {
    /// By the word `off`.
    Off,
    /// On, with this value.
    On(T),
}

impl<T> Off<T> {
    /// The value, if it is not off.
    pub(crate) fn on(self) -> Option<T> {
        match self {
            Off::Off => None,
            Off::On(value) => Some(value),
        }
    }
}

/// A duration, or `off`.
///
/// # Errors
/// One line for the user.
pub(crate) fn duration_or_off(text: &str) -> Result<Off<Duration>, String> {
    if text == "off" {
        Ok(Off::Off)
    } else {
        duration(text).map(Off::On)
    }
}

/// A duration that is not 0, or `off`.
///
/// # Errors
/// One line for the user.
pub(crate) fn time_or_off(text: &str) -> Result<Off<Duration>, String> {
    match duration_or_off(text)? {
        Off::On(Duration::ZERO) => Err("no time at all: 'off' is for none".to_owned()),
        time => Ok(time),
    }
}

/// A number that is not 0, or `off`.
///
/// # Errors
/// One line for the user.
pub(crate) fn count_or_off(text: &str) -> Result<Off<u32>, String> {
    match text.parse() {
        _ if text == "off" => Ok(Off::Off),
        Ok(number) if number > 0 => Ok(Off::On(number)),
        _ => Err("a number from 1 on, or off".to_owned()),
    }
}

/// A protocol of `--export`.
pub(crate) fn protocols() -> impl TypedValueParser<Value = Protocol> {
    PossibleValuesParser::new(Protocol::ALL.map(Protocol::as_str))
        .try_map(|text| text.parse::<Protocol>())
}

/// A range of durations: `100ms..30s`.
///
/// # Errors
/// One line for the user.
pub(crate) fn durations(text: &str) -> Result<(Duration, Duration), String> {
    let (shortest, longest) = text
        .split_once("..")
        .ok_or("a range is written as in 100ms..30s")?;
    let (shortest, longest) = (duration(shortest)?, duration(longest)?);
    if shortest.is_zero() || shortest > longest {
        return Err("the range must begin above 0 and not end below its beginning".to_owned());
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
