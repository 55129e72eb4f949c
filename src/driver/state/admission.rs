//! Which control clients are let in, and when.

use std::time::Duration;

use crate::driver::clients::Clients;
use crate::error::reason;
use crate::log::Log;
use crate::model::time::Time;
use crate::sys::control::token::TokenFile;
use crate::sys::control::{Conn, ControlSocket};
use crate::sys::machine::{clock, limits};
use crate::wire::control::{Code, Failure, Reply};
use crate::wire::handover::Entry;

/// How many clients may be connected at once.
const MAX_CLIENTS: usize = 1024;

/// How long no client is accepted after accept(2) has failed.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// Whether control clients can be accepted now.
#[derive(Default)]
pub(in crate::driver) struct Admission {
    /// accept(2) has failed (no descriptor is left, say): until then the socket is not polled.
    paused_until: Option<Time>,
    /// That clients cannot be let in is logged once, until one is let in again.
    is_logged: bool,
    /// What clients must present first (`--control-token`).
    token: Option<TokenFile>,
}

impl Admission {
    /// Clients must present this token, if there is one.
    pub(in crate::driver) fn by(token: Option<TokenFile>) -> Admission {
        Admission {
            token,
            ..Admission::default()
        }
    }

    /// Whether this is the token. Where none is asked for, none is.
    pub(in crate::driver) fn is_token(&self, presented: &str) -> bool {
        let file = self.token.as_ref();
        file.is_some_and(|file| file.token().is(presented))
    }

    /// For the next image, which may find no file.
    pub(in crate::driver) fn token_text(&self) -> Option<String> {
        let file = self.token.as_ref();
        file.map(|file| file.token().text().to_owned())
    }

    /// Reads the token anew; one that cannot be read leaves the one before.
    pub(in crate::driver) fn read_token_again(&mut self, log: &Log) {
        if let Some(file) = &mut self.token
            && let Err(error) = file.read_again()
        {
            let path = file.path().display();
            let why = reason(error);
            log.error(format_args!(
                "control token {path}: {why}: the one before stays in use"
            ));
        }
    }

    /// Whether the control socket is to be polled.
    pub(in crate::driver) fn is_open(&self) -> bool {
        self.paused_until.is_none()
    }

    /// When the control socket is to be polled again.
    pub(in crate::driver) fn deadline(&self) -> Option<Time> {
        self.paused_until
    }

    /// Opens again if the pause is over.
    pub(in crate::driver) fn resume(&mut self, now: Time) {
        self.paused_until = self.paused_until.filter(|until| *until > now);
    }

    /// Accepts all new connections. Let in are root, our own uid, and those that the socket's mode
    /// lets in: the mode was checked by the kernel at connect(2).
    pub(in crate::driver) fn accept(
        &mut self,
        control: &ControlSocket,
        clients: &mut Clients,
        log: &Log,
    ) {
        loop {
            let conn = match control.accept() {
                Ok(Some(conn)) => conn,
                Ok(None) => return,
                Err(error) => {
                    // The connection still waits, so the socket stays readable: polled again at
                    // once, this would be a busy loop.
                    self.paused_until = Some(clock::now() + RETRY_AFTER);
                    if self.is_first_failure() {
                        log.warn(format_args!(
                            "cannot accept a control client, and tries again: {error}"
                        ));
                    }
                    return;
                }
            };
            let connected = clients.len();
            if connected >= max_clients() {
                clients.dropped += 1;
                let text = format!("{connected} control clients are connected already");
                turn_away(conn, Code::Busy, text);
                if self.is_first_failure() {
                    log.warn(format_args!(
                        "control clients are turned away: {connected} are connected"
                    ));
                }
                continue;
            }
            self.is_logged = false;
            let (pid, uid, _) = conn.peer();
            if control.allows(uid) {
                let entry = match self.token {
                    Some(_) => Entry::AwaitsToken,
                    None => Entry::FirstLine,
                };
                clients.add(conn, entry, clock::now());
            } else {
                log.warn(format_args!("control client {pid} of uid {uid} refused"));
                let text = format!("uid {uid} may not use this control socket");
                turn_away(conn, Code::Permission, text);
            }
        }
    }

    fn is_first_failure(&mut self) -> bool {
        !std::mem::replace(&mut self.is_logged, true)
    }
}

/// How many clients may be connected: a part of the descriptors, since workers need them more.
fn max_clients() -> usize {
    usize::try_from(limits::nofile() / 4)
        .unwrap_or(MAX_CLIENTS)
        .min(MAX_CLIENTS)
}

/// Tells a client why it is not let in, if that can be sent at once.
fn turn_away(mut conn: Conn, code: Code, message: String) {
    let failure = Failure { code, message };
    let reply = Reply {
        ok: false,
        error: Some(failure),
        ..Reply::default()
    };
    if let Ok(line) = serde_json::to_string(&reply)
        && conn.send(line)
    {
        let _ = conn.flush();
    }
}
