//! `/proc/PID/maps` (proc(5)), as far as the master reads its own.

use std::ops::Range;

/// The address ranges of code that is mapped from a file and is not writable. Malformed lines are
/// skipped.
///
/// ```
/// let maps = b"1000-3000 r-xp 00000000 fe:00 77 /bin/x\n\
///     4000-5000 rwxp 00000000 fe:00 77 /bin/x\n\
///     6000-7000 r-xp 00000000 00:00 0 [vdso]\n";
/// assert_eq!(prefork_core::wire::maps::executable(maps).collect::<Vec<_>>(), [0x1000..0x3000]);
/// ```
pub fn executable(maps: &[u8]) -> impl Iterator<Item = Range<usize>> {
    maps.split(|byte| *byte == b'\n').filter_map(|line| {
        // Fields: range, permissions, offset, device, inode, path. Inode 0: mapped from no file.
        let mut words = line
            .split(|byte| *byte == b' ')
            .map(|word| std::str::from_utf8(word).ok());
        let range = words.next()??;
        let permissions = words.next()??;
        let inode = words.nth(2)??;
        if permissions != "r-xp" || inode == "0" {
            return None;
        }
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        (start < end).then_some(start..end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_code_mapped_from_files_is_listed() {
        let maps = b"55d0-55d1 r--p 00000000 fe:00 77 /bin/x\n\
            55d1-55d9 r-xp 00001000 fe:00 77 /bin/x\n\
            55d9-55da r--p 9000 fe:00 77 /bin/x\n\
            7f00-7f01 r-xs 00000000 fe:00 78 /lib/shared\n\
            7f01-7f09 r-xp 00001000 fe:00 79 /lib/a b\xff (deleted)\n\
            7f10-7f11 r-xp 00000000 00:00 0 [vdso]\n\
            9-8 r-xp 0 fe:00 7 /bin/x\n\
            nonsense\n";
        let found: Vec<_> = executable(maps).collect();
        assert_eq!(found, [0x55d1..0x55d9, 0x7f01..0x7f09]);
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(maps in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(executable(&maps).all(|range| range.start < range.end));
        }
    }
}
