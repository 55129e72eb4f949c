//! `/proc/PID/maps`, as far as the master reads its own.

use std::ops::Range;

/// The addresses of code that is mapped from a file and cannot be written to. Lines that cannot be read are passed over.
///
/// ```
/// let maps = b"1000-3000 r-xp 00000000 fe:00 77 /bin/x\n4000-5000 rwxp 00000000 fe:00 77 /bin/x\n6000-7000 r-xp 00000000 00:00 0 [vdso]\n";
/// assert_eq!(prefork_core::wire::maps::executable(maps).collect::<Vec<_>>(), [0x1000..0x3000]);
/// ```
pub fn executable(maps: &[u8]) -> impl Iterator<Item = Range<usize>> {
    maps.split(|byte| *byte == b'\n').filter_map(|line| {
        // Range, rights, offset, device, inode, path: what is mapped from no file has the inode 0.
        let mut words = line
            .split(|byte| *byte == b' ')
            .map(|word| std::str::from_utf8(word).ok());
        let range = words.next()??;
        let rights = words.next()??;
        let inode = words.nth(2)??;
        if rights != "r-xp" || inode == "0" {
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
    fn only_code_from_files_counts() {
        let maps = b"55d0-55d1 r--p 00000000 fe:00 77 /bin/x\n55d1-55d9 r-xp 00001000 fe:00 77 /bin/x\n55d9-55da r--p 9000 fe:00 77 /bin/x\n\
            7f00-7f01 r-xs 00000000 fe:00 78 /lib/shared\n7f01-7f09 r-xp 00001000 fe:00 79 /lib/a b\xff (deleted)\n\
            7f10-7f11 r-xp 00000000 00:00 0 [vdso]\n9-8 r-xp 0 fe:00 7 /bin/x\nnonsense\n";
        let found: Vec<_> = executable(maps).collect();
        assert_eq!(found, [0x55d1..0x55d9, 0x7f01..0x7f09]);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(maps in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(executable(&maps).all(|range| range.start < range.end));
        }
    }
}
