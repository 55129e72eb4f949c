//! This program as the new image of a running master: first as a child that checks whether it could
//! take over, then in the master's place (upgrade in place).

use std::io::Write;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use clap::Parser;

use super::cli::{Args, PROGRAM};
use super::start::exit_of;
use super::takeover;
use crate::cmd::program::{print_line, run, usage_error};
use crate::driver::upgrade::{self, Taken};
use crate::error::{Error, Exit, Result, reason};
use crate::sys::io::fd;
use crate::sys::io::left_open::LeftOpen;
use crate::sys::machine::limits;
use crate::sys::process::{image, proc_info, session, wait};
use crate::sys::signal::Signals;
use crate::wire::handover::preflight::render_result;
use crate::wire::handover::{CHECK_FD, Needs, STATE_FD, State};

/// The hint for a wrapper script that does not exec.
const HAS_TO_EXEC: &str = "a --reexec command line has to exec, not to start a child";

/// Runs the check or the new image of an upgrade in place. `None`: this start is neither.
pub(super) fn main() -> Option<ExitCode> {
    if let Some(answer) = image::descriptor_in(CHECK_FD) {
        return Some(check(answer));
    }
    let state = image::descriptor_in(STATE_FD)?;
    image::keep_name();
    Some(take_over(state))
}

/// Writes to `answer` whether this image could take over, and exits.
fn check(answer: RawFd) -> ExitCode {
    let checked = catch_panic(|| {
        if !session::is_led_by_us() {
            // The master started its child as a session leader. So this process is a child of that
            // one: a wrapper waits for it. In the master's place, the wrapper would be the master,
            // and its exit the end of the service.
            return Err(Error::system(
                "this process is not the one that was started",
                "another process started it and waits for it",
            )
            .hint(HAS_TO_EXEC));
        }
        let args = arguments()?;
        let number = image::descriptor_in(STATE_FD).ok_or_else(|| {
            Error::system(format!("cannot read {STATE_FD}"), "it names no descriptor")
        })?;
        limits::raise_nofile();
        let state = state(number)?;
        check_room(state.needs)?;
        takeover::check_successor(&args, &state)
    });
    let checked = match checked {
        Ok(()) => Ok(env!("CARGO_PKG_VERSION").to_owned()),
        Err(error) => Err(error.to_string()),
    };
    let line = render_result(&checked);
    let written =
        fd::adopt(answer).map(|answer| std::fs::File::from(answer).write_all(line.as_bytes()));
    match (checked, written) {
        (Ok(_), Ok(Ok(()))) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Takes the service over and runs it. If that fails, executes the old image again.
fn take_over(state_fd: RawFd) -> ExitCode {
    let taken = catch_panic(|| {
        limits::raise_nofile();
        // The handlers come first, as in every start. Signals stay blocked until this image can no
        // longer go back: what arrives before that is for the image that serves in the end.
        let signals = Signals::install_blocked()
            .map_err(|error| Error::system("cannot install signal handlers", error))?;
        let state = state(state_fd)?;
        if i64::from(state.pid) != i64::from(std::process::id()) {
            let why = format!(
                "it belongs to process {}, and this is process {}",
                state.pid,
                std::process::id()
            );
            return Err(Error::system("cannot take the state over", why).hint(HAS_TO_EXEC));
        }
        let args = arguments()?;
        wait::become_subreaper()
            .map_err(|error| Error::system("cannot become a subreaper", error))?;
        let mut numbers = state.descriptors();
        numbers.push(state_fd);
        let mut left = LeftOpen::check(numbers)?;
        let fresh = takeover::take_over(args, &state, signals, &mut left)?;
        upgrade::take_over(fresh, state, state_fd, left)
    });
    // What was taken over is not dropped by an error: the image before needs it open.
    let turned = taken.and_then(|mut taken| {
        catch_panic(|| {
            taken.first_turn();
            Ok(())
        })?;
        Ok(ManuallyDrop::into_inner(taken))
    });
    match turned {
        Ok(taken) => run(PROGRAM, || exit_of(Taken::serve(taken))),
        Err(error) => {
            let stuck = upgrade::go_back(state_fd, &format!("the successor failed: {error}"));
            print_line(PROGRAM, &format!("cannot take over: {error}; {stuck}"));
            ExitCode::FAILURE
        }
    }
}

/// Checks that this image will find what it needs in the master's place. It has the limits that the
/// master has.
fn check_room(needs: Needs) -> Result<()> {
    let own = i32::try_from(std::process::id()).ok();
    let used = own
        .and_then(proc_info::usage)
        .map_or(0, |usage| usage.rss_bytes);
    let more = usize::try_from(needs.memory.saturating_sub(used)).unwrap_or(usize::MAX);
    Vec::<u8>::new().try_reserve_exact(more).map_err(|_| {
        let what = format!("cannot find {} bytes of memory", needs.memory);
        Error::system(what, "the running master has as much in use").hint("raise the limit")
    })?;
    let null = fd::null().map_err(|error| Error::system("cannot open /dev/null", error))?;
    let opened = usize::try_from(null.as_raw_fd()).unwrap_or(0);
    fd::check_room_for(needs.descriptors.saturating_sub(opened), null.as_fd()).map_err(|error| {
        let what = format!("cannot open {} descriptors at once", needs.descriptors);
        let limit = limits::nofile();
        Error::system(what, reason(&error)).hint(format!(
            "the limit of open files is {limit}: raise it (ulimit -n), or have fewer workers"
        ))
    })
}

/// Runs `body` with a panic as an error, because the old image can still go on.
fn catch_panic<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(Error::new(
            Exit::Failed,
            "there is a bug in this program",
            "it panicked",
        ))
    })
}

/// Reads the command line of an upgrade. A request for help is an error here.
pub(super) fn arguments() -> Result<Args> {
    Args::try_parse().map_err(|answer| {
        let help = || Error::usage("the command line asks for help");
        usage_error(&answer).unwrap_or_else(help)
    })
}

fn state(number: RawFd) -> Result<State> {
    let failed = |why: String| Error::system("cannot take over", why);
    let document = image::content(number).map_err(|error| failed(reason(error)))?;
    State::parse(&document).map_err(failed)
}
