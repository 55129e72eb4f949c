//! A terminal that the test holds, as a user would.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::common::support::PATIENCE;

/// A terminal, and the end that a program is started on.
pub(crate) fn terminal() -> (File, File) {
    let terminal =
        openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
    unlockpt(&terminal).expect("unlocked");
    let name = ptsname(&terminal, Vec::new()).expect("its name");
    let mut options = OpenOptions::new();
    let slave = options
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOCTTY)
        .open(name.to_str().expect("a name"));
    (File::from(terminal), slave.expect("the other end"))
}

pub(crate) fn resize(terminal: &File, rows: u16) {
    let size = Winsize {
        ws_row: rows,
        ws_col: 80,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size).expect("resized");
}

/// Reads what programs write to a terminal, until `part` is there; returns all of it.
#[track_caller]
pub(crate) fn wait_for_text(mut terminal: &File, part: &str) -> String {
    let mut text = Vec::new();
    loop {
        let all = String::from_utf8_lossy(&text).into_owned();
        if all.contains(part) {
            return all;
        }
        let patience = Timespec::try_from(PATIENCE).expect("short");
        let ready = loop {
            match poll(
                &mut [PollFd::new(&terminal, PollFlags::IN)],
                Some(&patience),
            ) {
                Err(rustix::io::Errno::INTR) => {}
                ready => break ready.expect("poll"),
            }
        };
        let mut chunk = [0; 4096];
        // EIO: no program has the other end open any more.
        let count = terminal.read(&mut chunk).unwrap_or(0);
        assert!(ready > 0 && count > 0, "'{part}' is never written: {all}");
        text.extend_from_slice(&chunk[..count]);
    }
}
