//! What is sent: `--request TEXT`, with its escapes, and how its answer ends.

use crate::error::{Error, Result};

/// What is sent without `--request`.
pub(super) const DEFAULT: &str =
    r"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: pf-ctl-drill\r\nConnection: close\r\n\r\n";

/// Methods that a client may send again where a kept connection was closed (RFC 9110, 9.2.2).
const IDEMPOTENT: [&str; 6] = ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"];

/// A request, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    /// What is sent on a connection of its own.
    pub bytes: Vec<u8>,
    /// What is sent on a connection that is kept; None: there is no such thing.
    pub kept: Option<Vec<u8>>,
    pub protocol: Protocol,
}

/// How the end of an answer is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// By HTTP's own rules; of an answer to HEAD there is no body.
    Http { head: bool },
    /// By the end of the connection.
    UntilEnd,
}

impl Request {
    /// Reads `--request`.
    ///
    /// # Errors
    /// Exit 2: an escape that is none.
    pub(super) fn parse(text: &str) -> Result<Request> {
        let bytes = unescape(text).map_err(|what| {
            Error::usage(format!("--request: '{what}' is no escape"))
                .hint(r"\r, \n, \t, \0, \\ and \xNN are")
        })?;
        let Some((method, lines)) = http(&bytes) else {
            return Ok(Request {
                bytes,
                kept: None,
                protocol: Protocol::UntilEnd,
            });
        };
        let head = method == "HEAD";
        let kept = IDEMPOTENT
            .contains(&method)
            .then(|| keep_alive(&lines, &bytes));
        Ok(Request {
            kept,
            protocol: Protocol::Http { head },
            bytes,
        })
    }

    /// In words.
    pub(super) fn label(&self) -> String {
        let text = String::from_utf8_lossy(&self.bytes);
        match (self.protocol, text.lines().next().unwrap_or_default()) {
            (_, "") => "a plain connect".to_owned(),
            (Protocol::Http { .. }, line) => {
                let path: Vec<&str> = line.split(' ').take(2).collect();
                path.join(" ")
            }
            (Protocol::UntilEnd, line) => format!("the line '{line}'"),
        }
    }
}

/// The method and the lines of the head, if this is a request of HTTP/1.
fn http(bytes: &[u8]) -> Option<(&str, Vec<&str>)> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    let lines: Vec<&str> = head.split("\r\n").collect();
    let words: Vec<&str> = lines.first()?.split(' ').collect();
    match words.as_slice() {
        [method, _, "HTTP/1.0" | "HTTP/1.1"] => Some((method, lines)),
        _ => None,
    }
}

/// The same request, which asks that the connection be kept.
fn keep_alive(lines: &[&str], bytes: &[u8]) -> Vec<u8> {
    let is_connection = |line: &&&str| {
        let name = line.split(':').next().unwrap_or_default();
        name.eq_ignore_ascii_case("connection")
    };
    let length: usize = lines.iter().map(|line| line.len() + 2).sum();
    let body = bytes.get(length + 2..).unwrap_or_default();
    let mut kept = Vec::new();
    for line in lines.iter().filter(|line| !is_connection(line)) {
        kept.extend_from_slice(line.as_bytes());
        kept.extend_from_slice(b"\r\n");
    }
    kept.extend_from_slice(b"Connection: keep-alive\r\n\r\n");
    kept.extend_from_slice(body);
    kept
}

/// The bytes that a text with escapes means; the error is what is no escape.
fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        bytes.extend_from_slice(before.as_bytes());
        let (byte, length) = match escape.as_bytes() {
            [_, b'r', ..] => (b'\r', 2),
            [_, b'n', ..] => (b'\n', 2),
            [_, b't', ..] => (b'\t', 2),
            [_, b'0', ..] => (0, 2),
            [_, b'\\', ..] => (b'\\', 2),
            [_, b'x', ..] => {
                let digits = escape.get(2..4).filter(|it| !it.starts_with('+'));
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (
                    byte.ok_or_else(|| escape.chars().take(4).collect::<String>())?,
                    4,
                )
            }
            _ => return Err(escape.chars().take(2).collect()),
        };
        bytes.push(byte);
        rest = escape.get(length..).unwrap_or_default();
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_bytes_and_what_is_none_is_named() {
        for (text, bytes) in [
            ("", &b""[..]),
            (r"PING\r\n", b"PING\r\n"),
            (r"a\t\\n\x00\xfF\0", b"a\t\\n\0\xff\0"),
            ("größe", "größe".as_bytes()),
        ] {
            assert_eq!(unescape(text).as_deref(), Ok(bytes), "{text}");
        }
        for (text, wrong) in [
            (r"a\q", r"\q"),
            (r"\x1", r"\x1"),
            (r"\xgg", r"\xgg"),
            (r"\x+1", r"\x+1"),
            ("end\\", "\\"),
            (r"\xü1", r"\xü1"),
        ] {
            assert_eq!(unescape(text), Err(wrong.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_http_request_has_a_form_that_keeps_the_connection() {
        let get = Request::parse(DEFAULT).expect("it is right");
        assert_eq!(get.protocol, Protocol::Http { head: false });
        assert_eq!(get.label(), "GET /");
        let kept = String::from_utf8(get.kept.expect("kept")).expect("UTF-8");
        assert_eq!(
            kept,
            "GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: pf-ctl-drill\r\n\
             Connection: keep-alive\r\n\r\n"
        );
        let put = Request::parse(r"PUT /x HTTP/1.0\r\nContent-Length: 2\r\n\r\nab");
        let kept = put.expect("it is right").kept.expect("kept");
        let expected = b"PUT /x HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nab";
        assert_eq!(kept, expected);
        // It may have been done although no answer came: no client sends it twice by itself.
        let post = Request::parse(r"POST / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is right");
        assert_eq!(post.kept, None);
        let head = Request::parse(r"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is right");
        assert_eq!(head.protocol, Protocol::Http { head: true });
    }

    #[test]
    fn other_requests_are_answered_until_the_end() {
        for (text, label) in [
            ("", "a plain connect"),
            (r"PING\r\n", "the line 'PING'"),
            (r"GET /", "the line 'GET /'"),
        ] {
            let request = Request::parse(text).expect("it is right");
            assert_eq!(request.protocol, Protocol::UntilEnd, "{text}");
            assert_eq!(
                (request.kept.as_ref(), request.label().as_str()),
                (None, label)
            );
        }
    }
}
