//! Both directions of the control socket.

use std::ffi::OsStr;

use prefork_core::wire::changes::Changes;
use prefork_core::wire::control::{
    Code, ControlCommand, Failure, Progress, Reply, Response, parse_request, parse_response,
    parse_token, token_line,
};
use prefork_core::wire::events::{self, FollowedEvent};
use serde_json::Value;

use super::assert_one_line;

/// A line from a client.
pub fn request(line: &[u8]) {
    token(line);
    let request = match parse_request(line) {
        Ok(request) => request,
        Err((failure, id)) => {
            assert_one_line(&failure.message);
            let code = failure.code;
            assert!(matches!(code, Code::BadRequest | Code::UnknownCommand));
            return repeated(id, failure);
        }
    };
    let written = serde_json::to_string(&request).expect("JSON");
    assert_one_line(&written.replace('\u{7f}', "").replace(|c| c >= '\u{80}', ""));
    assert_eq!(parse_request(written.as_bytes()), Ok(request.clone()));
    if let ControlCommand::Reload { changes, .. } = &request.command {
        change(changes);
    }
    let failure = Failure {
        code: Code::Busy,
        message: String::new(),
    };
    repeated(request.id, failure);
}

/// The id of a request comes back in every line that answers it.
fn repeated(id: Option<Value>, failure: Failure) {
    let reply = Reply {
        error: Some(failure),
        id: id.clone(),
        ..Reply::default()
    };
    let line = serde_json::to_string(&reply).expect("JSON");
    assert_eq!(
        parse_response(&line),
        Ok(Response::Reply(Box::new(reply))),
        "{line}"
    );
    if let Some(id) = id {
        let line = events::line(7, r#"{"event":"paused"}"#, Some(&id));
        let told = FollowedEvent {
            seq: 7,
            event: "paused".to_owned(),
            log: None,
        };
        assert_eq!(events::parse(&line), Some(told), "{line}");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(line["id"], id);
    }
}

fn token(line: &[u8]) {
    if let Some(token) = parse_token(line) {
        let written = token_line(&token);
        assert_eq!(written.last(), Some(&b'\n'));
        assert_eq!(parse_token(&written), Some(token));
    }
}

/// Changes that make sense still do after one another, and doing them twice is doing them once.
fn change(changes: &Changes) {
    let is_ours = |name: &OsStr| name == "PF_WORKER";
    if let Err(why) = changes.check(is_ours) {
        return assert_one_line(&why);
    }
    let nothing = Changes::default();
    for same in [
        changes.followed_by(&nothing),
        nothing.followed_by(changes),
        changes.followed_by(changes),
    ] {
        assert_eq!(same, *changes);
    }
    assert_eq!(changes.is_empty(), *changes == nothing);
}

/// A line from a master.
pub fn reply(line: &[u8]) {
    let Ok(line) = std::str::from_utf8(line) else {
        return;
    };
    let _ = events::parse(line);
    let response = match parse_response(line) {
        Ok(response) => response,
        Err(why) => return assert_one_line(&why),
    };
    let written = match &response {
        Response::Progress(progress) => {
            // An empty `event` is absent when it is read, so it is never written.
            let progress = Progress {
                event: "progress".to_owned(),
                ..progress.clone()
            };
            let written = serde_json::to_string(&progress).expect("JSON");
            assert_eq!(parse_response(&written), Ok(Response::Progress(progress)));
            return;
        }
        Response::Reply(reply) => serde_json::to_string(reply).expect("JSON"),
    };
    assert_eq!(parse_response(&written), Ok(response), "{written}");
}
