//! Lines of the control protocol, to what they say.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::{Code, Failure, Request, Response};
use crate::wire::text::shown;

/// Parses one line from the master.
pub fn parse_response(line: &str) -> Result<Response, String> {
    // Two passes over the text, and neither builds a tree of JSON values: the line may hold the
    // status of a thousand slots.
    #[derive(Deserialize)]
    struct Kind {
        #[serde(default)]
        event: Option<IgnoredAny>,
    }
    let kind: Kind = serde_json::from_str(line).map_err(shown)?;
    let answer = if kind.event.is_some() {
        serde_json::from_str(line).map(Response::Progress)
    } else {
        serde_json::from_str(line).map(|reply| Response::Reply(Box::new(reply)))
    };
    answer.map_err(shown)
}

/// The token in the first line of a connection, `{"token": "..."}`; `None`: the line is no such
/// one.
pub fn parse_token(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct First {
        token: String,
    }
    let first: First = serde_json::from_slice(line).ok()?;
    Some(first.token)
}

/// The line that presents a token.
pub fn token_line(token: &str) -> Vec<u8> {
    let mut line = serde_json::json!({ "token": token })
        .to_string()
        .into_bytes();
    line.push(b'\n');
    line
}

/// Parses one request line of any bytes.
///
/// The error has the request's id, if the line has one, so that a client that sent several
/// requests knows which one failed.
pub fn parse_request(line: &[u8]) -> Result<Request, (Failure, Option<Value>)> {
    let fail = |code, message: String, id| Err((Failure { code, message }, id));
    let Ok(text) = std::str::from_utf8(line) else {
        return fail(Code::BadRequest, "the line is not UTF-8".into(), None);
    };
    let value: Value = match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => {
            return fail(
                Code::BadRequest,
                format!("the line is not JSON: {error}"),
                None,
            );
        }
    };
    let id = value.get("id").cloned();
    let Some(cmd) = value.get("cmd").and_then(Value::as_str).map(str::to_owned) else {
        return fail(
            Code::BadRequest,
            "a request is an object with a \"cmd\"".into(),
            id,
        );
    };
    serde_json::from_value(value).or_else(|error| {
        let (cmd, text) = (shown(cmd), shown(error));
        // serde lists all known commands in this message; the reader needs the unknown one.
        if text.starts_with("unknown variant") {
            return fail(Code::UnknownCommand, format!("unknown command '{cmd}'"), id);
        }
        fail(Code::BadRequest, format!("{cmd}: {text}"), id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::ControlCommand;

    #[test]
    fn request_is_parsed_as_documented() {
        let request =
            parse_request(br#"{"cmd": "scale", "workers": "+1", "id": 7}"#).expect("valid");
        assert_eq!(
            request.command,
            ControlCommand::Scale {
                workers: "+1".into()
            }
        );
        assert_eq!(request.id, Some(7.into()));
        assert!(request.wait);
    }

    #[test]
    fn unknown_fields_are_ignored_and_unknown_commands_named() {
        assert!(parse_request(br#"{"cmd":"restart-worker","slot":1,"shiny":true}"#).is_ok());
        let (failure, id) = parse_request(br#"{"cmd":"dance","id":"x"}"#).expect_err("unknown");
        assert_eq!(failure.code, Code::UnknownCommand);
        assert_eq!(failure.message, "unknown command 'dance'");
        assert_eq!(id, Some("x".into()));
        let (failure, _) = parse_request(br#"{"cmd":"a\u001b[2Jb"}"#).expect_err("unknown");
        assert_eq!(failure.message, "unknown command 'a\\u{1b}[2Jb'");
    }

    #[test]
    fn bad_lines_are_errors() {
        for line in [
            &b""[..],
            b"{",
            b"[]",
            b"7",
            b"\xff\xfe",
            br#"{"cmd":3}"#,
            br#"{"cmd":"scale"}"#,
            br#"{"cmd":"restart-worker","slot":-1}"#,
            b"{\"cmd\":\"stop\",\"now\":\"\\u001b\"}",
        ] {
            let (failure, _) = parse_request(line).expect_err("bad");
            assert_eq!(failure.code, Code::BadRequest, "{failure:?}");
            assert!(!failure.message.contains(char::is_control));
        }
    }
}
