//! This program as the successor of an image that runs: checked as a child, then in its place.

use std::io::Write;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;

use super::cli::Args;
use super::{PROG, ended, takeover};
use crate::cmd::{run, say};
use crate::driver::upgrade::{self, Taken};
use crate::error::{Error, Exit, Result, reason};
use crate::sys::io::fd;
use crate::sys::machine::limits;
use crate::sys::process::{image, session, wait};
use crate::sys::signal::Signals;
use crate::wire::handover::{CHECK_FD, STATE_FD, State};
use crate::wire::preflight::render_result;

/// What whoever writes a wrapper has to know.
const HAS_TO_EXEC: &str = "a --reexec command line has to exec, not to start a child";

/// Whether this start is one of an upgrade; None if it is none.
pub(super) fn main() -> Option<ExitCode> {
    if let Some(answer) = image::descriptor_in(CHECK_FD) {
        return Some(check(answer));
    }
    let state = image::descriptor_in(STATE_FD)?;
    Some(take_over(state))
}

/// Answers whether it would do, and ends.
fn check(answer: RawFd) -> ExitCode {
    let judged = guarded(|| {
        if !session::is_led_by_us() {
            // The child that was started does: executed for good, that one's end would be the service's.
            return Err(Error::system(
                "this process is not the one that was started",
                "somebody waits for it",
            )
            .hint(HAS_TO_EXEC));
        }
        let args = arguments()?;
        let number = image::descriptor_in(STATE_FD).ok_or_else(|| {
            Error::system(format!("cannot read {STATE_FD}"), "it names no descriptor")
        })?;
        let state = state(number)?;
        takeover::check_successor(&args, &state)
    });
    let judged = match judged {
        Ok(()) => Ok(env!("CARGO_PKG_VERSION").to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let line = render_result(&judged);
    let told =
        fd::adopt(answer).map(|answer| std::fs::File::from(answer).write_all(line.as_bytes()));
    match (judged, told) {
        (Ok(_), Ok(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Takes the service over, and serves; or goes back to the image before.
fn take_over(state_fd: RawFd) -> ExitCode {
    let taken = guarded(|| {
        // The handlers come first, as in every start; what is blocked stays so until there is no way back.
        let signals = Signals::install_blocked()
            .map_err(|error| Error::system("cannot install signal handlers", error))?;
        let state = state(state_fd)?;
        if i64::from(state.pid) != i64::from(std::process::id()) {
            let why = format!(
                "it is process {}'s, and this is {}",
                state.pid,
                std::process::id()
            );
            return Err(Error::system("cannot take the state over", why).hint(HAS_TO_EXEC));
        }
        let args = arguments()?;
        limits::raise_nofile();
        wait::become_subreaper()
            .map_err(|error| Error::system("cannot become a subreaper", error))?;
        let fresh = takeover::take_over(args, &state, signals)?;
        upgrade::take_over(fresh, state, state_fd)
    });
    match taken {
        Ok(taken) => run(PROG, || ended(Taken::serve(taken))),
        Err(error) => {
            let stuck = upgrade::go_back(state_fd, &format!("the successor failed: {error}"));
            say(PROG, &format!("cannot take over: {error}; {stuck}"));
            ExitCode::FAILURE
        }
    }
}

/// The same, with a panic as an error: there is an image to go back to.
fn guarded<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(Error::new(
            Exit::Failed,
            "a defect of this program",
            "it panicked",
        ))
    })
}

pub(super) fn arguments() -> Result<Args> {
    Args::try_parse().map_err(|answer| {
        let help = || Error::usage("the command line asks for help");
        crate::cmd::misused(&answer).unwrap_or_else(help)
    })
}

fn state(number: RawFd) -> Result<State> {
    let failed = |why: String| Error::system("cannot take over", why);
    let document = image::content(number).map_err(|error| failed(reason(error)))?;
    State::parse(&document).map_err(failed)
}
