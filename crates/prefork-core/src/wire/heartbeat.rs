//! The heartbeat page: what worker and master share. The layout is API; all numbers are 64 bits, native-endian.

/// The size of the file, in bytes: one page wherever pages are not larger.
pub const SIZE: usize = 4096;
/// What stands at offset 0, so that a worker knows what it was given.
pub const MAGIC: [u8; 8] = *b"PFBEAT1\0";
/// Raised by the worker: it lives.
pub const BEATS: usize = 8;
/// Requests begun.
pub const BEGUN: usize = 16;
/// Requests finished.
pub const FINISHED: usize = 24;
/// Connections open.
pub const OPEN: usize = 32;
/// The end of the last field.
pub const USED: usize = 40;

/// What a worker has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Page {
    /// How often it has beaten, by the counter alone.
    pub beats: u64,
    /// Requests begun.
    pub begun: u64,
    /// Requests finished.
    pub finished: u64,
    /// Connections open.
    pub open: u64,
}

impl Page {
    /// Reads the beginning of the file; fields that it does not hold are 0. The magic is the master's own and not looked at.
    pub fn read(bytes: &[u8]) -> Page {
        Page {
            beats: field(bytes, BEATS),
            begun: field(bytes, BEGUN),
            finished: field(bytes, FINISHED),
            open: field(bytes, OPEN),
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
    fn fields_stand_where_the_contract_says() {
        let mut bytes = [0u8; SIZE];
        for (offset, value) in [(8, 1u64), (16, 2), (24, 3), (32, u64::MAX)] {
            let field = bytes.get_mut(offset..offset + 8).expect("in range");
            field.copy_from_slice(&value.to_ne_bytes());
        }
        let page = Page {
            beats: 1,
            begun: 2,
            finished: 3,
            open: u64::MAX,
        };
        assert_eq!(Page::read(&bytes), page);
        assert_eq!(Page::read(bytes.get(..USED).expect("in range")), page);
    }

    #[test]
    fn a_short_page_counts_nothing_that_it_does_not_hold() {
        assert_eq!(Page::read(b""), Page::default());
        assert_eq!(Page::read(&[0xff; 15]), Page::default());
        assert_eq!(Page::read(&[0xff; 16]).beats, u64::MAX);
        assert_eq!(Page::read(&[0xff; 16]).begun, 0);
    }
}
