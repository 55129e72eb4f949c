//! `--watch`: the same again and again, in place on a terminal.
//!
//! Each round asks every target and shows what came of it; a master that is away is shown as such,
//! and asked again in the next round. On a terminal the other screen is used, so that a resize
//! cannot leave pieces of an older picture behind. A signal that ends the process puts the terminal
//! back first.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use super::cli::Args;
use super::{ask_all, lines, print_lines, worst};
use crate::cmd::program::{output_width, print_data};
use crate::error::{Error, Exit, Result};
use crate::model::signal::Signal;
use crate::model::time::Time;
use crate::sys::io::poll::{Interest, Poller};
use crate::sys::io::terminal::{self, Size};
use crate::sys::machine::clock;
use crate::sys::signal::farewell;
use crate::sys::signal::shutdown::{drain_signal_pipe, signal_pipe};
use crate::ui::lines::Line;
use crate::ui::screen;

/// The signals that end a program unless it catches them.
const ENDING: [Signal; 4] = [Signal::Hup, Signal::Int, Signal::Quit, Signal::Term];

/// Shows the targets until a signal ends the process, or the reader has left: then the exit code is
/// that of the last round.
pub(super) fn watch(args: &Args, interval: Duration) -> Result<Exit> {
    let Some(screen) = Screen::open()? else {
        return repeat(args, interval);
    };
    let ended = rounds(args, interval, &screen);
    // An error is told on the usual screen.
    print_data(&[screen::END])?;
    ended
}

/// Without a terminal: one round below the other.
fn repeat(args: &Args, interval: Duration) -> Result<Exit> {
    let mut before = Vec::new();
    loop {
        let next = clock::now() + interval;
        let asked = ask_all(args);
        if !print_lines(&[before, lines(args, &asked, output_width())].concat())? {
            return Ok(worst(&asked));
        }
        before = vec![Line::well("")];
        clock::pause(next.since(clock::now()));
    }
}

fn rounds(args: &Args, interval: Duration, screen: &Screen) -> Result<Exit> {
    loop {
        let next = clock::now() + interval;
        let asked = ask_all(args);
        // After a resize the same again: the masters are not asked more often for it.
        loop {
            if !screen.draw(&lines(args, &asked, output_width()))? {
                return Ok(worst(&asked));
            }
            if !screen.is_resized_before(next)? {
                break;
            }
        }
    }
}

/// The terminal on stdout.
struct Screen {
    is_coloured: bool,
    resized: OwnedFd,
}

impl Screen {
    /// Takes the terminal. `None`: stdout is none, or one that cannot place the cursor.
    fn open() -> Result<Option<Screen>> {
        let is_set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let is_dumb = is_set("TERM").is_none_or(|term| term == "dumb");
        if is_dumb || terminal::size(io::stdout()).is_none() {
            return Ok(None);
        }
        let failed = |error| Error::system("cannot catch signals", error);
        let screen = Screen {
            is_coloured: is_set("NO_COLOR").is_none(),
            resized: signal_pipe(Signal::Winch).map_err(failed)?,
        };
        farewell::on_signals(&ENDING, screen::END.as_bytes()).map_err(failed)?;
        print_data(&[screen::BEGIN])?;
        Ok(Some(screen))
    }

    /// Draws one round. False: the reader has left.
    fn draw(&self, lines: &[Line]) -> Result<bool> {
        let Some(Size { columns, rows }) = terminal::size(io::stdout()) else {
            return Ok(true);
        };
        print_data(&[&screen::picture(lines, (columns, rows), self.is_coloured)])
    }

    /// Waits until then. True: the terminal has another size before.
    fn is_resized_before(&self, then: Time) -> Result<bool> {
        Poller::new()
            .wait(&[(self.resized.as_fd(), Interest::READ)], Some(then))
            .map_err(|error| Error::system("cannot wait", error))?;
        Ok(drain_signal_pipe(self.resized.as_fd()))
    }
}
