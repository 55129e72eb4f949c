//! Sizes as people write them: `512M`, `64KiB`, `1048576`.

use std::fmt;
use std::str::FromStr;

use crate::wire::text::shown;

/// The units, the largest first; all are powers of 1024.
const UNITS: [(char, u64); 4] = [
    ('T', 1 << 40),
    ('G', 1 << 30),
    ('M', 1 << 20),
    ('K', 1 << 10),
];

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    /// Parses digits, then optionally `K`, `M`, `G` or `T` in either case (powers of 1024), then
    /// optionally `B` or `iB`.
    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || {
            let text = shown(text);
            format!("'{text}' is not a size (sizes are as in 512M, 64K, 4096)")
        };
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        let number: u64 = digits.parse().map_err(|_| fail())?;
        let mut unit = unit.chars();
        let factor = match unit.next() {
            None | Some('B') => 1,
            Some(letter) => {
                let of = |(name, factor): &(char, u64)| {
                    (*name == letter.to_ascii_uppercase()).then_some(*factor)
                };
                UNITS.iter().find_map(of).ok_or_else(fail)?
            }
        };
        let rest = unit.as_str();
        let complete = if factor == 1 {
            rest.is_empty()
        } else {
            matches!(rest, "" | "B" | "iB")
        };
        if !complete {
            return Err(fail());
        }
        number
            .checked_mul(factor)
            .map(Size)
            .ok_or_else(|| format!("'{text}' is too large a size"))
    }
}

impl fmt::Display for Size {
    /// Writes the shortest exact form: `512M`, `1500`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS
            .iter()
            .find(|(_, factor)| self.0 != 0 && self.0.is_multiple_of(*factor))
        {
            Some((name, factor)) => write!(f, "{}{name}", self.0 / factor),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_parse_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("4096B", 4096),
            ("64k", 65536),
            ("64KiB", 65536),
            ("1MB", 1 << 20),
            ("512M", 512 << 20),
            ("2g", 2 << 30),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "M",
            "1.5G",
            "-1",
            "+1",
            "1 M",
            "1X",
            "1iB",
            "1KK",
            "1MBB",
            "99999999999999999999",
            "99999999999T",
            "1µ",
        ] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn sizes_round_trip(bytes: u64) {
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
        }

        #[test]
        fn random_text_never_panics(text in "\\PC{0,12}") {
            let _ = text.parse::<Size>();
        }
    }
}
