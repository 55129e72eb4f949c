//! `--why SLOT`: what has happened to one slot, and how it is now.

use super::answer::{ask, exit_of, state_unknown};
use super::cli::Args;
use crate::client::{AnswerLine, Target};
use crate::cmd::program::{output_width, print_data};
use crate::error::{Error, Exit, Result};
use crate::ui::story;
use crate::ui::text::{escaped_json, plain};
use crate::wire::control::{Code, ControlCommand, Response};
use crate::wire::story::Story;

/// Prints the story. The exit code is that of the table, for this slot alone.
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
    Ok(verdict(&told))
}

/// Whether the slot is as it was asked for. One that was scaled away is none.
fn verdict(story: &Story) -> Exit {
    story.now.as_ref().map_or(Exit::Failed, |now| {
        exit_of(&story.state, now.state == "ready")
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::status::Slot;

    #[test]
    fn the_exit_code_of_a_slot_follows_the_rule_of_the_table() {
        for (service, slot, exit) in [
            ("running", Some("ready"), Exit::Done),
            ("rolling", Some("ready"), Exit::Done),
            ("paused", Some("empty"), Exit::Done),
            ("running", Some("empty"), Exit::Failed),
            ("running", Some("backoff"), Exit::Failed),
            ("stopping", Some("ready"), Exit::Failed),
            ("running", None, Exit::Failed),
            ("paused", None, Exit::Failed),
        ] {
            let now = slot.map(|state| Slot {
                state: state.into(),
                ..Slot::default()
            });
            let story = Story {
                state: service.into(),
                now,
                ..Story::default()
            };
            assert_eq!(verdict(&story), exit, "{service} {slot:?}");
        }
    }
}
