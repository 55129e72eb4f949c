//! Requests of a worker to einhorn's command socket (<https://github.com/contribsys/einhorn>).
//!
//! A request is one line that holds a YAML document, with `%` written as `%25` and a newline as
//! `%0A`. JSON is YAML too, and is the form that einhorn's own documentation shows; its Ruby
//! library writes the block form. Both are read here.

use serde::Deserialize;
use serde_json::Value;

/// A command that a worker may send here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EinhornCommand {
    /// `worker:ack`: the worker is ready.
    Ack,
    /// `worker:ping`: the worker is alive.
    Ping,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EinhornRequest {
    /// The command.
    pub command: EinhornCommand,
    /// The pid of the worker that the command is about.
    pub pid: i32,
}

/// The reply to any other request: in JSON, which every YAML parser reads.
pub const ERROR_REPLY: &str = concat!(
    r#"{"message":"only worker:ack and worker:ping are understood here, "#,
    r#"each with the worker's pid"}"#
);

/// Parses a line without its newline. The error says what is wrong with the line.
pub fn parse(line: &[u8]) -> Result<EinhornRequest, String> {
    let text = String::from_utf8_lossy(line);
    let text = text.replace("%0A", "\n").replace("%25", "%");
    let (command, pid) = if text.trim_start().starts_with('{') {
        flow(&text)
    } else {
        block(&text)
    }
    .ok_or_else(|| format!("'{}' is not a request", shortened(&text)))?;
    let command = match command.as_str() {
        "worker:ack" => EinhornCommand::Ack,
        "worker:ping" => EinhornCommand::Ping,
        other => return Err(format!("'{}' is not understood here", shortened(other))),
    };
    let pid = pid.filter(|pid| *pid > 0);
    let pid = pid.ok_or_else(|| "it has no pid".to_owned())?;
    Ok(EinhornRequest { command, pid })
}

fn shortened(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    start.escape_debug().to_string()
}

/// The JSON form: `{"command": "worker:ack", "pid": 12345}`.
fn flow(text: &str) -> Option<(String, Option<i32>)> {
    #[derive(Deserialize)]
    struct Line {
        command: String,
        pid: Option<Value>,
    }
    let line: Line = serde_json::from_str(text).ok()?;
    let pid = line.pid.and_then(|pid| match pid {
        Value::Number(number) => number.as_i64().and_then(|pid| i32::try_from(pid).ok()),
        Value::String(text) => number(&text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    });
    Some((line.command, pid))
}

/// The block form: `command: worker:ack` and `pid: 12345`, each on a line.
fn block(text: &str) -> Option<(String, Option<i32>)> {
    let field = |wanted: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            (unquoted(key) == wanted).then(|| unquoted(value).to_owned())
        })
    };
    let pid = field("pid").and_then(|pid| number(&pid));
    Some((field("command")?, pid))
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let quoted = |mark| text.strip_prefix(mark)?.strip_suffix(mark);
    quoted('"').or_else(|| quoted('\'')).unwrap_or(text)
}

fn number(text: &str) -> Option<i32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ack_is_parsed_in_both_forms() {
        let ack = |pid| {
            let command = EinhornCommand::Ack;
            Ok(EinhornRequest { command, pid })
        };
        for line in [
            r#"{"command":"worker:ack", "pid":12345}"#,
            r#"{"pid":"12345","command":"worker:ack","extra":[1]}"#,
            "---%0Acommand: worker:ack%0Apid: 12345%0A",
            "--- %0A\"command\": \"worker:ack\"%0A'pid': '12345'",
            "command: worker:ack\r%0Apid: 12345",
        ] {
            assert_eq!(parse(line.as_bytes()), ack(12345), "{line}");
        }
        let ping = br#"{"command":"worker:ping","pid":7,"request_id":"a"}"#;
        assert_eq!(
            parse(ping),
            Ok(EinhornRequest {
                command: EinhornCommand::Ping,
                pid: 7
            })
        );
    }

    #[test]
    fn other_lines_are_errors() {
        for (line, why) in [
            ("", "'' is not a request"),
            ("hello%0Athere", "'hello\\nthere' is not a request"),
            ("{", "'{' is not a request"),
            ("{\"pid\":1}", "'{\\\"pid\\\":1}' is not a request"),
            (r#"{"command":"die"}"#, "'die' is not understood here"),
            (r#"{"command":"worker:ack"}"#, "it has no pid"),
            (r#"{"command":"worker:ack","pid":-1}"#, "it has no pid"),
            (r#"{"command":"worker:ack","pid":true}"#, "it has no pid"),
            ("command: worker:ack%0Apid: +1", "it has no pid"),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(why.to_owned()), "{line}");
        }
        let long = parse("x".repeat(9999).as_bytes()).expect_err("no request");
        assert!(long.len() < 100, "{long}");
    }

    #[test]
    fn error_reply_is_one_line_of_json() {
        let answer: Value = serde_json::from_str(ERROR_REPLY).expect("JSON");
        assert!(answer["message"].is_string() && !ERROR_REPLY.contains(['\n', '%']));
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = parse(&bytes);
        }
    }
}
