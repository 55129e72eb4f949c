//! Descriptors that travel with the lines of a control connection (SCM_RIGHTS, unix(7)).
//!
//! One message carries [`MAX_FDS`] at most, so a line with more of them is sent in pieces, each
//! with its lot. The kernel hands out a lot together with the bytes that it was sent with, or that
//! came before these: one read ends where a lot ends. So a lot belongs to the line that the last
//! byte of that read is in, or to an earlier one of the same read.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::sys::io::cmsg;
use crate::sys::io::seqpacket::MAX_FDS;

/// The most descriptors that a client may send with one line.
pub const MAX_WITH_A_LINE: usize = 1000;

/// Not all descriptors that a line came with were received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// There are as many as this process may have open.
    NoRoom,
    /// They are more than [`MAX_WITH_A_LINE`].
    TooMany,
}

/// Descriptors that came with lines that were not taken yet.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// The number of the line that each came with at the latest.
    pub(super) fds: VecDeque<(u64, OwnedFd)>,
    /// How many lines have ended.
    pub(super) lines: u64,
    missing: Option<(u64, Missing)>,
}

impl Arrived {
    /// As the previous image left it: by the number of lines that end before; `missing`: of the
    /// line with which some came that did not arrive.
    pub(super) fn taken_over(
        fds: impl IntoIterator<Item = (u64, OwnedFd)>,
        missing: Option<u64>,
    ) -> Self {
        Arrived {
            fds: fds.into_iter().collect(),
            missing: missing.map(|line| (line, Missing::NoRoom)),
            ..Arrived::default()
        }
    }

    /// The line with which some came that did not arrive.
    pub(super) fn missing_of(&self) -> Option<u64> {
        self.missing.map(|(line, _)| line)
    }

    /// These came with this chunk, which begins where the last line ended that was counted, or
    /// within the line after it.
    pub(super) fn came_with(&mut self, chunk: &[u8], received: Vec<OwnedFd>, is_cut: bool) {
        if received.is_empty() && !is_cut {
            return;
        }
        let ends = chunk.iter().filter(|byte| **byte == b'\n').count();
        let last = ends - usize::from(chunk.ends_with(b"\n"));
        let line = self.lines + u64::try_from(last).unwrap_or(u64::MAX);
        if is_cut {
            self.missing = Some((line, Missing::NoRoom));
        }
        for fd in received {
            if self.fds.len() < MAX_WITH_A_LINE {
                self.fds.push_back((line, fd));
            } else {
                self.missing = Some((line, Missing::TooMany));
            }
        }
    }

    /// Takes all, for the line that has just ended.
    pub(super) fn take(&mut self) -> Result<Vec<OwnedFd>, Missing> {
        let fds = std::mem::take(&mut self.fds);
        match self.missing.take() {
            Some((_, missing)) => Err(missing),
            None => Ok(fds.into_iter().map(|(_, fd)| fd).collect()),
        }
    }

    /// Closes those that came with lines that have ended.
    pub(super) fn drop_spent(&mut self) {
        self.fds.retain(|(line, _)| *line >= self.lines);
        self.missing = self.missing.filter(|(line, _)| *line >= self.lines);
    }
}

/// Descriptors that wait to be sent, each lot with the byte at its place of the output.
#[derive(Debug, Default)]
pub(super) struct Attached(pub(super) VecDeque<(usize, Vec<OwnedFd>)>);

impl Attached {
    /// These go along with the line that begins at this place.
    pub(super) fn attach(&mut self, at: usize, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter().peekable();
        let mut place = at;
        while fds.peek().is_some() {
            self.0
                .push_back((place, fds.by_ref().take(MAX_FDS).collect()));
            place += 1;
        }
    }

    /// Sends the bytes from `written` on up to the next lot, and the lot that is due: how many
    /// bytes were sent.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        output: &[u8],
        written: usize,
    ) -> io::Result<usize> {
        let is_due = self.0.front().is_some_and(|(at, _)| *at <= written);
        let next = self.0.get(usize::from(is_due)).map(|(at, _)| *at);
        let end = next.unwrap_or(output.len()).min(output.len());
        let part = output.get(written..end).unwrap_or_default();
        let lot: Vec<RawFd> = match self.0.front().filter(|_| is_due) {
            Some((_, fds)) => fds.iter().map(AsRawFd::as_raw_fd).collect(),
            None => Vec::new(),
        };
        let sent = send_part(socket, part, &lot, MsgFlags::MSG_DONTWAIT)?;
        if is_due {
            self.0.pop_front();
        }
        Ok(sent)
    }

    /// So many bytes of the output are gone.
    pub(super) fn shift(&mut self, by: usize) {
        for (at, _) in &mut self.0 {
            *at = at.saturating_sub(by);
        }
    }
}

/// Sends bytes with descriptors that go along with the first of them.
fn send_part(
    socket: BorrowedFd<'_>,
    part: &[u8],
    fds: &[RawFd],
    flags: MsgFlags,
) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let flags = flags | MsgFlags::MSG_NOSIGNAL;
    Ok(sendmsg::<()>(
        socket.as_raw_fd(),
        &[IoSlice::new(part)],
        rights,
        flags,
        None,
    )?)
}

/// The client's side: sends some of the bytes with at most [`MAX_FDS`] of the descriptors, and
/// waits as SO_SNDTIMEO says. Returns how many of both were sent.
///
/// # Errors
/// What sendmsg(2) said.
pub fn send_some(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
) -> io::Result<(usize, usize)> {
    let lot: Vec<RawFd> = fds.iter().take(MAX_FDS).map(AsRawFd::as_raw_fd).collect();
    // A lot that follows goes along with a byte of its own.
    let lots = fds.len().div_ceil(MAX_FDS);
    let end = if lots > 1 { 1 } else { bytes.len() };
    let part = bytes.get(..end).unwrap_or(bytes);
    let sent = send_part(socket, part, &lot, MsgFlags::empty())?;
    Ok((sent, lot.len()))
}

/// The client's side: receives bytes and the descriptors that come with them; whether some were
/// lost because this process has no room for them.
///
/// # Errors
/// What recvmsg(2) said; EAGAIN (`WouldBlock`) if nothing is there.
pub fn receive(
    socket: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<(usize, Vec<OwnedFd>, bool)> {
    let received = cmsg::receive(socket, buffer)?;
    Ok((received.len, received.fds, received.is_cut))
}
