//! A terminal that the test holds, as a user would.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

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
