//! Texts that end in the child's pid: allocated before the fork, completed in the child without an
//! allocation.
#![expect(unsafe_code, reason = "writing digits where no allocation may happen")]

use nix::libc;

/// Digits of the largest pid, and the final NUL.
const PID_ROOM: usize = 11;

/// A text that ends in the child's pid, which only the child knows.
pub(super) struct PidText {
    pub(super) text: Vec<u8>,
    digits_at: usize,
}

impl PidText {
    pub(super) fn new(beginning: &str) -> Self {
        let mut text = beginning.as_bytes().to_vec();
        text.resize(beginning.len() + PID_ROOM, 0);
        PidText {
            text,
            digits_at: beginning.len(),
        }
    }

    /// # Safety
    /// As all that the child does: it writes only to memory that was allocated before the fork.
    pub(super) unsafe fn append_pid(&mut self, pid: libc::pid_t) {
        // SAFETY: `PID_ROOM` bytes follow the beginning.
        unsafe { write_decimal(self.text.as_mut_ptr().wrapping_add(self.digits_at), pid) }
    }
}

/// # Safety
/// `digits` has room for `PID_ROOM` bytes.
unsafe fn write_decimal(digits: *mut u8, pid: libc::pid_t) {
    let mut divisor: libc::pid_t = 1;
    while pid / divisor >= 10 {
        divisor *= 10;
    }
    let mut at = digits;
    while divisor > 0 {
        // SAFETY: a pid has at most ten digits.
        unsafe {
            *at = b'0' + (pid / divisor % 10) as u8;
            at = at.add(1);
        }
        divisor /= 10;
    }
    // SAFETY: the eleventh byte.
    unsafe { *at = 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_are_written_digit_by_digit() {
        for pid in [1, 9, 10, 99, 100, 4_194_304, i32::MAX] {
            let mut pid_text = PidText::new("PID=");
            pid_text.text[4..].fill(b'x');
            // SAFETY: it has the room that it was made with.
            unsafe { pid_text.append_pid(pid) };
            let text: Vec<u8> = pid_text
                .text
                .into_iter()
                .take_while(|byte| *byte != 0)
                .collect();
            assert_eq!(text, format!("PID={pid}").as_bytes());
        }
    }
}
