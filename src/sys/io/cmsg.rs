//! Receives a message together with the sender's credentials and the descriptors that it carries.
#![expect(
    unsafe_code,
    reason = "nix leaks the descriptors of a truncated control message; rustix has no pid 0, \
              which the kernel reports for a sender of another pid namespace"
)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

/// The most descriptors that the kernel allows in one message (SCM_MAX_FD).
const MAX_FDS: usize = 253;
/// Room for that many descriptors and the credentials, each with its header.
const ROOM: usize =
    MAX_FDS * size_of::<libc::c_int>() + size_of::<libc::ucred>() + 4 * size_of::<libc::cmsghdr>();

/// A received message.
#[derive(Debug)]
pub struct Received {
    /// How many bytes of the buffer the message filled.
    pub len: usize,
    /// Whether it was longer than the buffer; the rest is lost.
    pub truncated: bool,
    /// The pid (0 if it is in another pid namespace) and uid of the sender, if the socket has
    /// SO_PASSCRED.
    pub sender: Option<(i32, u32)>,
    /// The descriptors that it carried; close-on-exec.
    pub fds: Vec<OwnedFd>,
    /// Whether it carried more of them than this process may have open; the rest is lost.
    pub is_cut: bool,
}

/// The buffer for control messages, aligned for their headers.
#[repr(C, align(8))]
struct Control([u8; ROOM]);

/// Receives one message without waiting.
///
/// # Errors
/// What recvmsg(2) said; EAGAIN (`WouldBlock`) if there is none.
pub fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = Control([0; ROOM]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all zeroes is a valid msghdr: null pointers and lengths of 0.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = ROOM as _;
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    let len = loop {
        // SAFETY: `message` points to `part`, `buffer` and `control`, which all live through the
        // call.
        let done = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) };
        match Errno::result(done) {
            Ok(done) => break usize::try_from(done).unwrap_or(0),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut received = Received {
        len,
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        sender: None,
        fds: Vec::new(),
        is_cut: message.msg_flags & libc::MSG_CTRUNC != 0,
    };
    // Also if MSG_CTRUNC is set: the descriptors that arrived are open, so an owner has to close
    // them.
    // SAFETY: the kernel has filled in `control` and its length in `message`.
    unsafe { take_control_messages(&message, &mut received) };
    Ok(received)
}

/// Moves credentials and descriptors from the control messages into `received`.
///
/// # Safety
/// `message` has been filled in by recvmsg, and nothing has taken its descriptors yet.
#[allow(clippy::unnecessary_cast, reason = "the length is a u32 in musl")]
unsafe fn take_control_messages(message: &libc::msghdr, received: &mut Received) {
    // SAFETY: the CMSG macros stay within the control buffer, whose headers the kernel has written;
    // data is read unaligned.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(found) = header.as_ref() {
            let data = libc::CMSG_DATA(header);
            let size = (found.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            match (found.cmsg_level, found.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    let first: *const libc::c_int = data.cast();
                    received.fds.extend(
                        (0..size / size_of::<libc::c_int>())
                            .map(|index| OwnedFd::from_raw_fd(first.add(index).read_unaligned())),
                    );
                }
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if size >= size_of::<libc::ucred>() => {
                    let sender: libc::ucred = data.cast::<libc::ucred>().read_unaligned();
                    received.sender = Some((sender.pid, sender.uid));
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
}
