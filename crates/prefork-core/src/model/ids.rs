//! Numbers that name things: workers, generations, operations, requests.

use std::fmt;
use std::str::FromStr;

/// The model's own name for a worker's process: a counter, never used twice. Pids are labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

/// The driver's name for a process that a worker left behind: a counter, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeftoverId(pub u64);

/// A generation's number, counted from 1. A number is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

/// Tells the operations of one master from those of every other, also of a later one on the same
/// pid file. 0 is a master that was started by a version without this, and its operations are plain
/// numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MasterId(pub u64);

/// An operation. For people and programs it is one word, see [`fmt::Display`]: `3-k2v9p0x1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId {
    /// The master that began it.
    pub master: MasterId,
    /// Its number there.
    pub number: u64,
}

/// The driver's number for a request that waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A worker, as messages name it: `slot 0: worker 4711 of generation 2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerLabel {
    /// Its slot.
    pub slot: u32,
    /// Its pid; None where there is no process.
    pub pid: Option<i32>,
    /// Its generation.
    pub generation: Generation,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The base in which a master's id is written: digits and small letters.
const BASE: u64 = 36;

impl fmt::Display for OpId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)?;
        let mut rest = self.master.0;
        if rest == 0 {
            return Ok(());
        }
        let mut digits = Vec::new();
        while rest > 0 {
            digits.push(char::from_digit((rest % BASE) as u32, BASE as u32).unwrap_or('0'));
            rest /= BASE;
        }
        write!(f, "-{}", digits.iter().rev().collect::<String>())
    }
}

impl FromStr for OpId {
    type Err = String;

    fn from_str(word: &str) -> Result<OpId, String> {
        let (number, master) = word.split_once('-').unwrap_or((word, "0"));
        let op = || {
            let number = number.parse().ok()?;
            let master = MasterId(u64::from_str_radix(master, BASE as u32).ok()?);
            Some(OpId { master, number })
        };
        // One word for one operation: `03` and `3` are not the same word.
        op().filter(|op| op.to_string() == word)
            .ok_or_else(|| format!("'{word}' is no operation"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_one_word() {
        for (master, number, word) in [
            (0, 3, "3"),
            (35, 3, "3-z"),
            (36 * 36, 12, "12-100"),
            (u64::MAX, u64::MAX, "18446744073709551615-3w5e11264sgsf"),
        ] {
            let op = OpId {
                master: MasterId(master),
                number,
            };
            assert_eq!((op.to_string().as_str(), word.parse()), (word, Ok(op)));
        }
        for wrong in ["", "-", "3-", "3-0", "03", "3-Z", "3-z-", "x", "+3", "3-+z"] {
            assert!(wrong.parse::<OpId>().is_err(), "{wrong}");
        }
    }
}
