//! Small pieces of text: durations, sizes, command lines, and foreign strings made harmless.

use std::borrow::Cow;
use std::fmt::Write;

/// A duration in seconds, in at most two units: `250ms`, `1.2s`, `45s`, `2h 3m`. `-`: no duration.
pub fn duration(seconds: f64) -> String {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    if !seconds.is_finite() || seconds < 0.0 {
        return "-".into();
    }
    // Always rounded down: 59.9 s is not a minute yet. `as` saturates.
    let (millis, whole) = ((seconds * 1000.0) as u64, seconds as u64);
    let two = |large: u64, name: char, small: u64, small_name: char| match whole % large / small {
        0 => format!("{}{name}", whole / large),
        rest => format!("{}{name} {rest}{small_name}", whole / large),
    };
    match whole {
        0 => format!("{millis}ms"),
        1..10 => format!("{whole}.{}s", millis % 1000 / 100),
        10..MINUTE => format!("{whole}s"),
        MINUTE..HOUR => two(MINUTE, 'm', 1, 's'),
        HOUR..DAY => two(HOUR, 'h', MINUTE, 'm'),
        _ => two(DAY, 'd', HOUR, 'h'),
    }
}

/// A size in bytes: `512 B`, `1.2 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut amount = bytes as f64 / 1024.0;
    let mut units = UNITS.iter();
    let mut unit = units.next();
    // 1023.96 KiB would be printed as `1024.0 KiB` instead of `1.0 MiB`.
    while amount >= 1023.95 {
        amount /= 1024.0;
        unit = units.next();
    }
    format!("{amount:.1} {}", unit.unwrap_or(&"EiB"))
}

/// Whether a character could act on a terminal or make a line look like another one: controls, and
/// the characters that change the writing direction.
pub fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A foreign text with every hostile character written out (`\n`, `\u{1b}`): one harmless line.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The same, cut to `limit` characters.
pub fn plain_cut(text: &str, limit: usize) -> String {
    let mut chars = text.chars();
    let mut out = plain(&chars.by_ref().take(limit).collect::<String>());
    if chars.next().is_some() {
        out.push_str("...");
    }
    out
}

/// A command line as a user would type it: an argument with a special character is in quotes.
pub fn command(args: &[String]) -> String {
    let mut out = String::new();
    for arg in args {
        let bare = |c: char| c.is_alphanumeric() || "-_./:=,@%+".contains(c);
        let gap = if out.is_empty() { "" } else { " " };
        let arg = plain(arg);
        let _ = if !arg.is_empty() && arg.chars().all(bare) {
            write!(out, "{gap}{arg}")
        } else {
            write!(out, "{gap}'{}'", arg.replace('\'', r"'\''"))
        };
    }
    out
}

/// The same JSON with the characters that could act on a terminal written as escapes. In JSON these
/// characters occur only in strings, and those below 0x20 not even there (RFC 8259, section 7).
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    if json.bytes().all(|byte| byte <= b'~') {
        return json.into();
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c > '~' && is_hostile(c) {
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, text) in [
            (0.0, "0ms"),
            (0.0005, "0ms"),
            (0.25, "250ms"),
            (0.9999, "999ms"),
            (1.0, "1.0s"),
            (9.99, "9.9s"),
            (10.0, "10s"),
            (59.9, "59s"),
            (60.0, "1m"),
            (61.0, "1m 1s"),
            (3599.9, "59m 59s"),
            (7380.0, "2h 3m"),
            (7200.0, "2h"),
            (90_000.0, "1d 1h"),
            (1e30, "213503982334601d 7h"),
            (-1.0, "-"),
            (f64::NAN, "-"),
            (f64::INFINITY, "-"),
        ] {
            assert_eq!(duration(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn sizes_have_one_decimal_and_a_binary_unit() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_258_291, "1.2 MiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn hostile_characters_are_written_out() {
        assert_eq!(plain("a\x1b[2J\n\tb\u{9b}1m"), r"a\u{1b}[2J\n\tb\u{9b}1m");
        assert_eq!(plain("\u{202e}gpj.exe"), r"\u{202e}gpj.exe");
        assert_eq!(plain("größer 日本 ok"), "größer 日本 ok");
        assert_eq!(plain_cut("abcdef", 3), "abc...");
        assert_eq!(plain_cut("abc", 3), "abc");
    }

    #[test]
    fn a_command_reads_as_typed() {
        let args = ["./app", "--name=x y", "", "it's", "\x1b"].map(String::from);
        assert_eq!(command(&args), r"./app '--name=x y' '' 'it'\''s' '\u{1b}'");
        assert_eq!(command(&[]), "");
    }

    #[test]
    fn escaped_json_means_the_same() {
        let json = "{\"status\": \"\u{9b}31m \u{202e} \u{7f} größer\", \"n\":\t1.50}";
        let harmless = escaped_json(json);
        assert_eq!(
            harmless,
            "{\"status\": \"\\u009b31m \\u202e \\u007f größer\", \"n\":\t1.50}"
        );
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(&harmless), value(json));
    }
}
