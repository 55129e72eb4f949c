//! The size of a terminal.

use std::os::fd::AsFd;

use rustix::termios::tcgetwinsize;

/// What fits on a terminal. Neither number is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Characters a line.
    pub columns: usize,
    /// Lines.
    pub rows: usize,
}

/// The size of the terminal behind this descriptor. `None`: it is no terminal, or one that does not
/// know its size, such as a serial line.
pub fn size(fd: impl AsFd) -> Option<Size> {
    let size = tcgetwinsize(fd).ok()?;
    let known = size.ws_col > 0 && size.ws_row > 0;
    known.then(|| Size {
        columns: usize::from(size.ws_col),
        rows: usize::from(size.ws_row),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, openpt};
    use rustix::termios::{Winsize, tcsetwinsize};

    #[test]
    fn a_terminal_has_a_size_once_it_is_told_and_a_file_has_none() {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        assert_eq!(size(&terminal), None);
        let told = Winsize {
            ws_row: 25,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&terminal, told).expect("resized");
        let expected = Size {
            columns: 100,
            rows: 25,
        };
        assert_eq!(size(&terminal), Some(expected));
        assert_eq!(size(tempfile::tempfile().expect("a file")), None);
    }
}
