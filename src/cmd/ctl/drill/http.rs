//! Where an answer of HTTP/1 ends, and what of it is compared.

use httparse::{EMPTY_HEADER, Status, parse_chunk_size};

/// The most headers that an answer may have.
const MOST_HEADERS: usize = 128;

/// How far an answer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    Incomplete,
    /// Whole only if the connection has ended here.
    UntilEnd(Answer),
    /// Whole.
    Complete(Answer),
    /// It is no answer of HTTP/1.
    Malformed,
}

/// What of an answer is compared. Headers are not: a worker that is told to finish says
/// `Connection: close`, and others tell the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status code, type of the content, and the body.
    pub text: Vec<u8>,
    /// The connection stays.
    pub is_kept: bool,
}

/// Looks how far an answer has come; `head`: it is one to HEAD.
pub(super) fn progress(bytes: &[u8], head: bool) -> Progress {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Progress::Incomplete,
        Err(_) => return Progress::Malformed,
    };
    let header = |name: &str| {
        let mut all = response.headers.iter();
        let found = all.find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let code = response.code.unwrap_or_default();
    let body = bytes.get(length..).unwrap_or_default();
    if (100..200).contains(&code) && code != 101 {
        // An interim answer: the real one follows.
        return progress(body, head);
    }
    let connection = header("connection").unwrap_or_default().to_lowercase();
    let is_kept = match response.version {
        Some(1) => !connection.contains("close"),
        _ => connection.contains("keep-alive"),
    };
    let kind = header("content-type").unwrap_or_default();
    let answer = |body: &[u8], is_kept: bool| Answer {
        text: [format!("{code} {kind}\n").as_bytes(), body].concat(),
        is_kept,
    };
    if head || code == 204 || code == 304 {
        return Progress::Complete(answer(b"", is_kept));
    }
    let chunked =
        header("transfer-encoding").is_some_and(|it| it.to_lowercase().contains("chunked"));
    if chunked {
        return match unchunked(body) {
            Ok(Some(body)) => Progress::Complete(answer(&body, is_kept)),
            Ok(None) => Progress::Incomplete,
            Err(()) => Progress::Malformed,
        };
    }
    match header("content-length").map(|length| length.parse::<usize>()) {
        None => Progress::UntilEnd(answer(body, false)),
        Some(Err(_)) => Progress::Malformed,
        Some(Ok(length)) => match body.get(..length) {
            Some(body) => Progress::Complete(answer(body, is_kept)),
            None => Progress::Incomplete,
        },
    }
}

/// A chunked body put together; None: it is not whole yet.
fn unchunked(mut rest: &[u8]) -> Result<Option<Vec<u8>>, ()> {
    let mut body = Vec::new();
    loop {
        let (start, length) = match parse_chunk_size(rest) {
            Ok(Status::Complete(found)) => found,
            Ok(Status::Partial) => return Ok(None),
            Err(_) => return Err(()),
        };
        let length = usize::try_from(length).map_err(|_| ())?;
        let after = rest.get(start..).unwrap_or_default();
        if length == 0 {
            // Trailers, or none: an empty line ends them.
            let ended = after.starts_with(b"\r\n") || find(after, b"\r\n\r\n");
            return Ok(ended.then_some(body));
        }
        let Some(chunk) = after.get(..length) else {
            return Ok(None);
        };
        body.extend_from_slice(chunk);
        match after.get(length..length + 2) {
            Some(b"\r\n") => rest = after.get(length + 2..).unwrap_or_default(),
            Some(_) => return Err(()),
            None => return Ok(None),
        }
    }
}

fn find(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(bytes: &[u8]) -> (String, bool) {
        match progress(bytes, false) {
            Progress::Complete(answer) => (
                String::from_utf8(answer.text).expect("UTF-8"),
                answer.is_kept,
            ),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_length_is_counted_or_told_in_chunks() {
        let counted = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: a/b\r\n\r\nok";
        assert_eq!(complete(counted), ("200 a/b\nok".into(), true));
        for short in 0..counted.len() {
            assert_eq!(progress(&counted[..short], false), Progress::Incomplete);
        }
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
            1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n";
        assert_eq!(complete(chunks), ("200 \nok".into(), false));
        for short in 0..chunks.len() {
            assert_eq!(progress(&chunks[..short], false), Progress::Incomplete);
        }
        let trailers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n";
        assert_eq!(complete(trailers).0, "200 \n");
    }

    #[test]
    fn an_older_answer_ends_with_its_connection() {
        let until_end = progress(b"HTTP/1.0 200 OK\r\n\r\nok", false);
        let Progress::UntilEnd(answer) = until_end else {
            panic!("{until_end:?}");
        };
        assert_eq!(answer.text, b"200 \nok");
        let kept = b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n";
        assert!(complete(kept).1);
        assert!(!complete(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").1);
    }

    #[test]
    fn answers_without_a_body_and_interim_answers() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        assert!(matches!(progress(head, true), Progress::Complete(_)));
        assert_eq!(complete(b"HTTP/1.1 204 No\r\n\r\n").0, "204 \n");
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
        assert_eq!(complete(interim).0, "204 \n");
    }

    #[test]
    fn what_is_no_answer_is_known() {
        for bytes in [
            &b"220 mail ready\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert_eq!(progress(bytes, false), Progress::Malformed);
        }
    }
}
