//! What a worker says to einhorn's command socket: one line, a YAML document in which `%` is written `%25` and a newline `%0A`. JSON is YAML too, and is
//! what the protocol's own documentation shows; the Ruby library writes the block form.

use serde::Deserialize;
use serde_json::Value;

/// What a worker may ask for here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EinhornCommand {
    /// `worker:ack`: it serves.
    Ack,
    /// `worker:ping`: it lives.
    Ping,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EinhornRequest {
    /// What it says.
    pub command: EinhornCommand,
    /// For whom.
    pub pid: i32,
}

/// What einhorn answers to a request that it does not know: in JSON, which any reader of YAML reads.
pub const ERROR_REPLY: &str = r#"{"message":"only worker:ack and worker:ping are understood here, each with the worker's pid"}"#;

/// Reads a line without its newline. The error tells what is wrong with it.
pub fn parse(line: &[u8]) -> Result<EinhornRequest, String> {
    let text = String::from_utf8_lossy(line);
    let text = text.replace("%0A", "\n").replace("%25", "%");
    let (command, pid) = if text.trim_start().starts_with('{') {
        flow(&text)
    } else {
        block(&text)
    }
    .ok_or_else(|| format!("'{}' is no request", shortened(&text)))?;
    let command = match command.as_str() {
        "worker:ack" => EinhornCommand::Ack,
        "worker:ping" => EinhornCommand::Ping,
        other => return Err(format!("'{}' is not understood here", shortened(other))),
    };
    let pid = pid.filter(|pid| *pid > 0);
    let pid = pid.ok_or_else(|| "it names no pid".to_owned())?;
    Ok(EinhornRequest { command, pid })
}

fn shortened(text: &str) -> String {
    let start: String = text.chars().take(60).collect();
    start.escape_debug().to_string()
}

/// `{"command": "worker:ack", "pid": 12345}`
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

/// `command: worker:ack`, `pid: 12345`, each in a line of its own.
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
    fn an_ack_is_read_as_documented_and_as_the_library_writes_it() {
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
    fn anything_else_is_told_apart() {
        for (line, why) in [
            ("", "'' is no request"),
            ("hello%0Athere", "'hello\\nthere' is no request"),
            ("{", "'{' is no request"),
            ("{\"pid\":1}", "'{\\\"pid\\\":1}' is no request"),
            (r#"{"command":"die"}"#, "'die' is not understood here"),
            (r#"{"command":"worker:ack"}"#, "it names no pid"),
            (r#"{"command":"worker:ack","pid":-1}"#, "it names no pid"),
            (r#"{"command":"worker:ack","pid":true}"#, "it names no pid"),
            ("command: worker:ack%0Apid: +1", "it names no pid"),
        ] {
            assert_eq!(parse(line.as_bytes()), Err(why.to_owned()), "{line}");
        }
        let long = parse("x".repeat(9999).as_bytes()).expect_err("no request");
        assert!(long.len() < 100, "{long}");
    }

    #[test]
    fn the_answer_is_one_line_of_json() {
        let answer: Value = serde_json::from_str(ERROR_REPLY).expect("JSON");
        assert!(answer["message"].is_string() && !ERROR_REPLY.contains(['\n', '%']));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = parse(&bytes);
        }
    }
}
