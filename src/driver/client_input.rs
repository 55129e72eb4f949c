//! What control clients send: accepted, read, and cut into requests.

use super::clients::LINE_WITHIN;
use super::state::Driver;
use super::turn::PollKey;
use crate::model::time::Time;
use crate::sys::control::Input;
use crate::sys::io::poll::{Ready, ReadySet};
use crate::wire::control::{Code, MAX_REQUEST, parse_request};

impl Driver {
    /// Accepts new connections.
    pub(super) fn accept_clients(&mut self) {
        if let Some(control) = self.published.control() {
            self.admission.accept(control, &mut self.clients, &self.log);
        }
    }

    /// Reads from all clients that have sent something, and answers.
    pub(super) fn read_clients(&mut self, ready: &ReadySet<PollKey>, now: Time) {
        for number in self.clients.numbers() {
            self.read_client(number, ready.of(PollKey::Client(number)), now);
        }
    }

    fn read_client(&mut self, number: u64, ready: Ready, now: Time) {
        let Some(client) = self.clients.get_mut(number) else {
            return;
        };
        if !(ready.read || ready.hangup || client.has_unread) {
            if client.is_line_late(now) {
                let limit = LINE_WITHIN.as_secs();
                let text = format!("the line was not finished within {limit} s");
                client.fail(Code::BadRequest, text, None);
                client.partial_since = None;
                client.input_ended = true;
            }
            return;
        }
        let turn = client.conn.read();
        client.has_unread = turn.more;
        // A line has its full time from its first byte: a finished line starts the time anew.
        let is_partial = client.conn.has_partial_line();
        client.partial_since = client
            .partial_since
            .filter(|_| is_partial && turn.inputs.is_empty())
            .or(is_partial.then_some(now));
        for input in turn.inputs {
            self.take_input(number, input);
        }
        if let Some(client) = self.clients.get_mut(number) {
            // There is no reader for a reply; and a connection that is closed on both sides would
            // wake the loop again and again.
            client.gone |= ready.hangup && client.input_ended;
        }
    }

    fn take_input(&mut self, number: u64, input: Input) {
        match input {
            Input::Line(line) => match parse_request(&line) {
                Ok(request) => self.request(number, request),
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
    }
}
