//! The heartbeat page: the file behind `PF_HEARTBEAT_FD` that a worker shares with the master.
//!
//! The layout is API. All numbers have 64 bits and the machine's byte order.

/// The size of the file in bytes: one page on most machines.
pub const SIZE: usize = 4096;
/// The bytes at offset 0, by which a worker recognises the page.
pub const MAGIC: [u8; 8] = *b"PFBEAT1\0";
/// The offset of the beats: the worker raises this counter to show that it is alive.
pub const BEATS: usize = 8;
/// The offset of the requests begun.
pub const BEGUN: usize = 16;
/// The offset of the requests finished.
pub const FINISHED: usize = 24;
/// The offset of the connections open.
pub const OPEN: usize = 32;
/// The offset of the connections so far, those that are open included.
pub const CONNECTIONS: usize = 40;
/// The offset behind the last field.
pub const USED: usize = 48;

/// The counters of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Page {
    /// The beat counter. A worker may also beat by other means, which do not count here.
    pub beats: u64,
    /// Requests begun.
    pub begun: u64,
    /// Requests finished.
    pub finished: u64,
    /// Connections open.
    pub open: u64,
    /// Connections so far, those that are open included. A worker may count only [`Page::open`].
    pub connections: u64,
}

impl Page {
    /// Reads the first bytes of the file; fields beyond `bytes` are 0. The magic is not checked:
    /// the master has written it itself.
    pub fn read(bytes: &[u8]) -> Page {
        Page {
            beats: field(bytes, BEATS),
            begun: field(bytes, BEGUN),
            finished: field(bytes, FINISHED),
            open: field(bytes, OPEN),
            connections: field(bytes, CONNECTIONS),
        }
    }
}

fn field(bytes: &[u8], offset: usize) -> u64 {
    bytes
        .get(offset..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |field| u64::from_ne_bytes(*field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_at_their_offsets() {
        let mut bytes = [0u8; SIZE];
        for (offset, value) in [(8, 1u64), (16, 2), (24, 3), (32, u64::MAX), (40, 5)] {
            let field = bytes.get_mut(offset..offset + 8).expect("in range");
            field.copy_from_slice(&value.to_ne_bytes());
        }
        let page = Page {
            beats: 1,
            begun: 2,
            finished: 3,
            open: u64::MAX,
            connections: 5,
        };
        assert_eq!(Page::read(&bytes), page);
        assert_eq!(Page::read(bytes.get(..USED).expect("in range")), page);
    }

    #[test]
    fn missing_fields_of_a_short_page_are_zero() {
        assert_eq!(Page::read(b""), Page::default());
        assert_eq!(Page::read(&[0xff; 15]), Page::default());
        assert_eq!(Page::read(&[0xff; 16]).beats, u64::MAX);
        assert_eq!(Page::read(&[0xff; 16]).begun, 0);
    }
}
