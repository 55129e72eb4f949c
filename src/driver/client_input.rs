//! What control clients send: accepted, read, and cut into requests.

use super::clients::LINE_WITHIN;
use super::state::Driver;
use super::turn::PollKey;
use crate::model::time::Time;
use crate::sys::control::Input;
use crate::sys::io::poll::{Ready, ReadySet};
use crate::sys::machine::clock;
use crate::wire::control::{Code, ControlCommand, MAX_REQUEST, parse_request, parse_token};
use crate::wire::handover::Entry;

/// How many requests of one client a turn of the loop takes; after a costly one, no other.
const REQUESTS_A_TURN: usize = 4;

/// Whether an answer takes a look at all workers, or at files.
fn is_costly(command: &ControlCommand) -> bool {
    matches!(
        command,
        ControlCommand::Status
            | ControlCommand::Why { .. }
            | ControlCommand::Listeners { .. }
            | ControlCommand::AddFds { .. }
            | ControlCommand::TakeFds
            | ControlCommand::Reload { dry_run: true, .. }
            | ControlCommand::Upgrade { dry_run: true, .. }
    )
}

impl Driver {
    /// Accepts new connections.
    pub(super) fn accept_clients(&mut self) {
        if let Some(control) = self.published.control() {
            self.admission.accept(control, &mut self.clients, &self.log);
        }
    }

    /// Makes the paths anew that other processes have removed. Those who connected to the former
    /// control socket are let in too.
    pub(super) fn mend_paths(&mut self, now: Time) {
        self.processes.mend_ack_socket();
        self.log_ack_warnings();
        let acks = self.processes.ack_socket();
        if let Some(former) = self.published.mend(acks, now, &self.log) {
            self.admission.accept(&former, &mut self.clients, &self.log);
        }
    }

    /// Reads from all clients that have sent something, and answers.
    pub(super) fn read_clients(&mut self, ready: &ReadySet<PollKey>, now: Time) {
        let begin = clock::now();
        let surplus = self.clients.may_read_surplus(begin);
        let mut is_read = false;
        for number in self.clients.numbers() {
            is_read |= self.read_client(number, ready.of(PollKey::Client(number)), surplus, now);
        }
        if is_read && surplus {
            self.clients.rest_from_surplus(begin, clock::now());
        }
    }

    /// Reads what this client may have in this turn; whether it looked. `surplus`: also what was
    /// received together with earlier requests.
    fn read_client(&mut self, number: u64, ready: Ready, surplus: bool, now: Time) -> bool {
        let Some(client) = self.clients.get_mut(number) else {
            return false;
        };
        // A hang-up is reported again and again, so what that client has sent is read at once.
        let is_due = if client.has_unread {
            surplus || ready.hangup
        } else {
            ready.read || ready.hangup
        };
        if !is_due {
            if !client.has_unread && client.is_line_late(now) {
                if client.entry == Entry::AwaitsToken {
                    client.gone = true;
                    return false;
                }
                let limit = LINE_WITHIN.as_secs();
                let text = format!("the line was not finished within {limit} s");
                client.fail(Code::BadRequest, text, None);
                client.partial_since = None;
                client.input_ended = true;
            }
            return false;
        }
        for _ in 0..REQUESTS_A_TURN {
            if !self.read_request(number, now) {
                break;
            }
        }
        if let Some(client) = self.clients.get_mut(number) {
            // There is no reader for a reply; and a connection that is closed on both sides would
            // wake the loop again and again.
            client.gone |= ready.hangup && client.input_ended;
        }
        true
    }

    /// Reads at most one request of this client, and answers it; whether it may have another in
    /// this turn.
    fn read_request(&mut self, number: u64, now: Time) -> bool {
        // Nothing of a client that is on its way out is obeyed: it may have guessed a wrong token.
        let client = self.clients.get_mut(number);
        let Some(client) = client.filter(|client| !client.gone) else {
            return false;
        };
        let batch = client.conn.read();
        if client.entry == Entry::AwaitsToken && batch.inputs.is_empty() {
            // Who is not let in does not fill the table of descriptors.
            client.conn.drop_fds();
        }
        client.has_unread = batch.more;
        // A line has its full time from its first byte: a finished line starts the time anew.
        let is_partial = client.conn.has_partial_line();
        let goes_on = is_partial && batch.inputs.is_empty() || client.entry == Entry::AwaitsToken;
        client.partial_since = client
            .partial_since
            .filter(|_| goes_on)
            .or(is_partial.then_some(now));
        let mut is_cheap = true;
        for input in batch.inputs {
            is_cheap &= self.take_input(number, input);
        }
        if let Some(client) = self.clients.get_mut(number) {
            // Of a line that is no add-fds.
            client.conn.drop_spent_fds();
        }
        batch.more && is_cheap
    }

    /// Whether this input is to be obeyed: it comes from a client that is let in, and presents no
    /// token. A wrong token, and anything else before the right one, ends the connection
    /// without a word.
    fn let_in(&mut self, number: u64, input: &Input) -> bool {
        let Some(client) = self.clients.get_mut(number) else {
            return false;
        };
        let token = match input {
            Input::Line(line) if client.entry != Entry::Admitted => parse_token(line),
            _ => None,
        };
        match client.entry {
            Entry::Admitted => true,
            Entry::FirstLine => {
                client.entry = Entry::Admitted;
                token.is_none()
            }
            Entry::AwaitsToken => {
                if token.is_some_and(|token| self.admission.is_token(&token)) {
                    client.entry = Entry::Admitted;
                    client.partial_since = None;
                } else {
                    client.gone = true;
                }
                false
            }
        }
    }

    /// Answers; false if that has cost what a client may cost a turn.
    fn take_input(&mut self, number: u64, input: Input) -> bool {
        if !self.let_in(number, &input) {
            return true;
        }
        match input {
            Input::Line(line) => match parse_request(&line) {
                Ok(request) => {
                    let is_cheap = !is_costly(&request.command);
                    self.request(number, request);
                    return is_cheap;
                }
                Err((failure, id)) => self.fail(number, failure.code, failure.message, id),
            },
            Input::TooLong => {
                let text = format!("the line is longer than {} KiB", MAX_REQUEST / 1024);
                self.fail(number, Code::BadRequest, text, None);
            }
            Input::Cut => {
                let text = "the last line had no end".to_owned();
                self.fail(number, Code::BadRequest, text, None);
            }
            Input::End => {
                if let Some(client) = self.clients.get_mut(number) {
                    client.input_ended = true;
                    client.partial_since = None;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_whose_answer_is_made_from_the_status_is_costly() {
        assert!(is_costly(&ControlCommand::Status));
        assert!(is_costly(&ControlCommand::Why { slot: 0 }));
        assert!(!is_costly(&ControlCommand::Pause));
    }
}
