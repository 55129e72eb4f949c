//! Where an answer of HTTP/1 ends, and what of it is compared.

use httparse::{EMPTY_HEADER, Status, parse_chunk_size};

/// The most headers that an answer may have.
const MOST_HEADERS: usize = 128;

/// The most interim answers before the real one.
const MOST_INTERIM: usize = 16;

/// How far an answer has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Progress {
    /// More is to come.
    Incomplete,
    /// Whole.
    Complete(Answer),
    /// It is no answer of HTTP/1.
    Malformed,
}

/// What of an answer is compared. Headers are not: a worker that is told to finish says
/// `Connection: close`, and others tell the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// The status code; None: it is no answer of HTTP/1.
    pub code: Option<u16>,
    /// The type of the content, and the body. Of another protocol: all of it.
    pub text: Vec<u8>,
    /// The connection stays.
    pub is_kept: bool,
}

impl Answer {
    /// What came until the connection ended, of any protocol.
    pub(super) fn until_end(text: Vec<u8>) -> Answer {
        Answer {
            code: code_of(&text),
            text,
            is_kept: false,
        }
    }

    /// As it is shown.
    pub(super) fn shown(&self) -> String {
        let text = String::from_utf8_lossy(&self.text);
        match self.code {
            // Its own first line has the code.
            Some(_) if self.text.starts_with(b"HTTP/") => text.into_owned(),
            Some(code) => format!("{code} {text}"),
            None => text.into_owned(),
        }
    }
}

/// The status code of an answer that may be one of HTTP/1.
fn code_of(bytes: &[u8]) -> Option<u16> {
    let line = bytes.strip_prefix(b"HTTP/1.")?;
    let digits = std::str::from_utf8(line.get(2..5)?).ok()?;
    digits.parse().ok()
}

/// Looks how far an answer has come. `head`: it is one to HEAD; `has_ended`: nothing more comes.
/// The body is copied once, when the answer is whole: this is called after each read.
pub(super) fn progress(mut bytes: &[u8], head: bool, has_ended: bool) -> Progress {
    for _ in 0..=MOST_INTERIM {
        match final_progress(bytes, head, has_ended) {
            Ok(progress) => return progress,
            Err(interim) => bytes = bytes.get(interim..).unwrap_or_default(),
        }
    }
    Progress::Malformed
}

/// The same for one answer; the error is the length of one that is interim: the real one follows.
fn final_progress(bytes: &[u8], head: bool, has_ended: bool) -> Result<Progress, usize> {
    let mut headers = [EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(Progress::Incomplete),
        Err(_) => return Ok(Progress::Malformed),
    };
    let header = |name: &str| {
        let mut all = response.headers.iter();
        let found = all.find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value).trim().to_owned())
    };
    let code = response.code.unwrap_or_default();
    let body = bytes.get(length..).unwrap_or_default();
    if (100..200).contains(&code) && code != 101 {
        return Err(length);
    }
    let connection = header("connection").unwrap_or_default().to_lowercase();
    let is_kept = match response.version {
        Some(1) => !connection.contains("close"),
        _ => connection.contains("keep-alive"),
    };
    let kind = header("content-type").unwrap_or_default();
    let answer = |body: &[u8], is_kept: bool| Answer {
        code: Some(code),
        text: [kind.as_bytes(), b"\n", body].concat(),
        is_kept,
    };
    if head || code == 204 || code == 304 {
        return Ok(Progress::Complete(answer(b"", is_kept)));
    }
    let chunked =
        header("transfer-encoding").is_some_and(|it| it.to_lowercase().contains("chunked"));
    if chunked {
        return Ok(match chunks(body) {
            Ok(Some(chunks)) => Progress::Complete(answer(&chunks.concat(), is_kept)),
            Ok(None) => Progress::Incomplete,
            Err(()) => Progress::Malformed,
        });
    }
    let length = header("content-length").map(|length| length.parse::<usize>());
    Ok(match length {
        None if has_ended => Progress::Complete(answer(body, false)),
        None => Progress::Incomplete,
        Some(Err(_)) => Progress::Malformed,
        Some(Ok(length)) => match body.get(..length) {
            Some(body) => Progress::Complete(answer(body, is_kept)),
            None => Progress::Incomplete,
        },
    })
}

/// The chunks of a body; None: it is not whole yet.
fn chunks(mut rest: &[u8]) -> Result<Option<Vec<&[u8]>>, ()> {
    let mut chunks = Vec::new();
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
            return Ok(ended.then_some(chunks));
        }
        let Some(chunk) = after.get(..length) else {
            return Ok(None);
        };
        chunks.push(chunk);
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
        whole(progress(bytes, false, false))
    }

    #[track_caller]
    fn whole(progress: Progress) -> (String, bool) {
        match progress {
            Progress::Complete(answer) => (answer.shown(), answer.is_kept),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_length_is_counted_or_told_in_chunks() {
        let counted = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: a/b\r\n\r\nok";
        assert_eq!(complete(counted), ("200 a/b\nok".into(), true));
        for short in 0..counted.len() {
            let progress = progress(&counted[..short], false, false);
            assert_eq!(progress, Progress::Incomplete);
        }
        let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
            1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n";
        assert_eq!(complete(chunks), ("200 \nok".into(), false));
        for short in 0..chunks.len() {
            let progress = progress(&chunks[..short], false, false);
            assert_eq!(progress, Progress::Incomplete);
        }
        let trailers = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\r\n\r\n";
        assert_eq!(complete(trailers).0, "200 \n");
    }

    #[test]
    fn an_older_answer_ends_with_its_connection() {
        let until_end = b"HTTP/1.0 200 OK\r\n\r\nok";
        assert_eq!(progress(until_end, false, false), Progress::Incomplete);
        let ended = whole(progress(until_end, false, true));
        assert_eq!(ended, ("200 \nok".into(), false));
        let kept = b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n";
        assert!(complete(kept).1);
        assert!(!complete(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n").1);
    }

    #[test]
    fn answers_without_a_body_and_interim_answers() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";
        assert_eq!(whole(progress(head, true, false)).0, "200 \n");
        assert_eq!(complete(b"HTTP/1.1 204 No\r\n\r\n").0, "204 \n");
        let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
        assert_eq!(complete(interim).0, "204 \n");
    }

    #[test]
    fn interim_answers_without_end_are_no_answer() {
        // Enough of them to end a stack on which each has its headers.
        let interim = b"HTTP/1.1 100 C\r\n\r\n";
        let many = interim.repeat(1 << 15);
        assert_eq!(progress(&many, false, false), Progress::Malformed);
        let some = [
            &interim.repeat(MOST_INTERIM)[..],
            b"HTTP/1.1 204 No\r\n\r\n",
        ]
        .concat();
        assert_eq!(complete(&some).0, "204 \n");
    }

    #[test]
    fn the_code_is_apart_also_where_the_request_was_none_of_http() {
        for (text, code) in [
            ("HTTP/1.1 503 No\r\n\r\n", Some(503)),
            ("HTTP/1.0 200", Some(200)),
            ("HTTP/1.1 20", None),
            ("HTTP/1.1 two", None),
            ("220 mail ready", None),
            ("", None),
        ] {
            let answer = Answer::until_end(text.into());
            assert_eq!((answer.code, answer.shown()), (code, text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_answer_is_known() {
        for bytes in [
            &b"220 mail ready\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        ] {
            assert_eq!(progress(bytes, false, false), Progress::Malformed);
        }
    }
}
