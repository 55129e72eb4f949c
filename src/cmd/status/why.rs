//! `--why SLOT`: what has happened to one slot, and how it is now.

use super::answer::{ask, state_unknown};
use super::cli::Args;
use crate::client::{AnswerLine, Target};
use crate::cmd::program::{output_width, print_data};
use crate::error::{Error, Exit, Result};
use crate::ui::story;
use crate::ui::text::{escaped_json, plain};
use crate::wire::control::{Code, ControlCommand, Response};
use crate::wire::story::Story;

/// Prints the story. Exit 0: the slot is ready; 1: it is not.
pub(super) fn why(args: &Args, slot: u32) -> Result<Exit> {
    let [target] = args.targets.as_slice() else {
        let why = "it is about one service, and several targets are given";
        return Err(Error::new(Exit::Usage, "--why", why));
    };
    let target = Target::new(target).with_token(args.token.as_deref())?;
    let told = ask(&target, args.timeout, ControlCommand::Why { slot }, read)?;
    if args.json {
        let document = serde_json::to_string(&told)
            .map_err(|error| Error::system("cannot write the document", error))?;
        print_data(&[&escaped_json(&document), "\n"])?;
    } else if !args.quiet {
        print_data(&[&story::text(&told, output_width())])?;
    }
    let now = told.now.as_ref();
    let is_ready = now.is_some_and(|now| now.state == "ready");
    Ok(if is_ready { Exit::Done } else { Exit::Failed })
}

/// The story in a line of the answer; None: the line is no reply.
fn read(line: String) -> Result<Option<Story>> {
    let Response::Reply(reply) = AnswerLine::parse(line).map_err(state_unknown)?.answer else {
        return Ok(None);
    };
    let failed = |exit, why: &str| Err(Error::new(exit, "the story is not known", why));
    match (reply.error, reply.why) {
        (None, Some(story)) => Ok(Some(*story)),
        (None, None) => failed(Exit::Failed, "the master's answer has none"),
        (Some(error), _) => {
            let why = plain(&error.message);
            match error.code {
                Code::Usage => Err(Error::usage(why)),
                Code::Permission => failed(Exit::Permission, &why),
                Code::UnknownCommand => {
                    failed(Exit::Failed, "the master is older, and keeps no stories")
                }
                Code::BadRequest
                | Code::Busy
                | Code::Refused
                | Code::Failed
                | Code::Aborted
                | Code::MasterDied
                | Code::Moved
                | Code::Unknown => failed(Exit::Failed, &why),
            }
        }
    }
}
