//! What a right answer looks like: the undisturbed answers, up to the numbers that vary.
//!
//! An answer is words and what stands between them. A word that is the same in all undisturbed
//! answers must be the same in every later one. A word that varies must look like a number: it has
//! a digit, or is one of hexadecimal digits. A number that stands for itself and was that of a
//! process, a slot or a generation may be another one after a step, also where it did not vary.
//! The status code of HTTP is no word: it is always the same.

use std::collections::BTreeSet;

use super::http::Answer;

/// How many words of hexadecimal letters alone make a number.
const SHORTEST_HEX: usize = 4;

/// What joins the parts of a number, such as a moment in time: where one part varies, all may.
const JOINS: &[u8] = b".:/-+,";

/// What the answers of one listener look like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Template {
    /// The status code of HTTP.
    code: Option<u16>,
    pieces: Vec<Piece>,
    /// How many answers it was made of.
    pub seen: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Always the same.
    Same(Vec<u8>),
    /// A number that varies.
    Number,
}

impl Template {
    /// Takes one more undisturbed answer. False: it is not like those before.
    pub(super) fn learn(&mut self, answer: &Answer) -> bool {
        let text = &answer.text;
        self.seen += 1;
        if self.seen == 1 {
            self.code = answer.code;
            self.pieces = split(text).map(|part| Piece::Same(part.to_vec())).collect();
            return true;
        }
        if !self.fits(answer, |known, part| is_number(known) && is_number(part)) {
            return false;
        }
        for (piece, part) in self.pieces.iter_mut().zip(split(text)) {
            if matches!(piece, Piece::Same(known) if known != part) {
                *piece = Piece::Number;
            }
        }
        self.free_joined();
        true
    }

    /// The numbers that may change although they have not: those of processes, slots, generations.
    pub(super) fn free(&mut self, numbers: &BTreeSet<u64>) {
        for piece in &mut self.pieces {
            let Piece::Same(known) = piece else { continue };
            let number = std::str::from_utf8(known).ok();
            let number = number.and_then(|text| text.parse::<u64>().ok());
            if number.is_some_and(|number| numbers.contains(&number)) {
                *piece = Piece::Number;
            }
        }
        self.free_joined();
    }

    /// Whether an answer is right.
    pub(super) fn accepts(&self, answer: &Answer) -> bool {
        self.fits(answer, |_, _| false)
    }

    /// Whether the answer has this code and these pieces; `may_differ`: of two words that differ.
    fn fits(&self, answer: &Answer, may_differ: impl Fn(&[u8], &[u8]) -> bool) -> bool {
        if answer.code != self.code {
            return false;
        }
        let mut parts = split(&answer.text);
        let all = self.pieces.iter().all(|piece| {
            parts.next().is_some_and(|part| match piece {
                Piece::Same(known) => known == part || may_differ(known, part),
                Piece::Number => is_number(part),
            })
        });
        all && parts.next().is_none()
    }

    /// The other parts of a moment vary too, later: minutes as well as seconds.
    fn free_joined(&mut self) {
        let is_join = |piece: &Piece| match piece {
            Piece::Same(known) => known.len() == 1 && JOINS.contains(&known[0]),
            Piece::Number => false,
        };
        let frees = |from: &Piece, join: &Piece, piece: &Piece| {
            *from == Piece::Number
                && is_join(join)
                && matches!(piece, Piece::Same(known) if is_number(known))
        };
        for at in 2..self.pieces.len() {
            if frees(&self.pieces[at - 2], &self.pieces[at - 1], &self.pieces[at]) {
                self.pieces[at] = Piece::Number;
            }
        }
        for at in (2..self.pieces.len()).rev() {
            if frees(&self.pieces[at], &self.pieces[at - 1], &self.pieces[at - 2]) {
                self.pieces[at - 2] = Piece::Number;
            }
        }
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || !byte.is_ascii()
}

/// Words, and single bytes between them.
fn split(answer: &[u8]) -> impl Iterator<Item = &[u8]> {
    answer.chunk_by(|one, next| is_word(*one) && is_word(*next))
}

/// Whether a word looks like a number.
fn is_number(word: &[u8]) -> bool {
    let hex = word.len() >= SHORTEST_HEX && word.iter().all(u8::is_ascii_hexdigit);
    hex || word.iter().any(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(answers: &[&str]) -> Template {
        let mut template = Template::default();
        for answer in answers {
            assert!(template.learn(&text(answer)), "{answer}");
        }
        template
    }

    fn text(text: &str) -> Answer {
        Answer::until_end(text.into())
    }

    fn http(code: u16, body: &str) -> Answer {
        Answer {
            code: Some(code),
            text: format!("text/plain\n{body}").into(),
            is_kept: false,
        }
    }

    #[test]
    fn a_status_code_is_no_number_of_a_process_and_never_varies() {
        let mut template = Template::default();
        assert!(template.learn(&http(200, "pid 7")));
        // A pid, a slot and a generation may have the same numbers.
        template.free(&BTreeSet::from([200, 7]));
        assert!(template.accepts(&http(200, "pid 8")));
        assert!(!template.accepts(&http(500, "pid 7")));
        assert!(!template.accepts(&text("text/plain\npid 7")));
        assert!(!template.learn(&http(503, "pid 7")));
        assert!(template.accepts(&http(200, "pid 7")) && !template.accepts(&http(503, "pid 7")));
    }

    #[test]
    fn numbers_that_vary_may_vary_and_nothing_else() {
        let template = template(&["hello 7, slot 0 pid 12", "hello 8, slot 1 pid 13"]);
        assert!(template.accepts(&text("hello 123456, slot 2 pid 99")));
        for wrong in [
            "hello 7, slot 0",
            "hello 7, slot 0 pid 12 ",
            "hello you, slot 0 pid 12",
            "hullo 7, slot 0 pid 12",
            "hello 7; slot 0 pid 12",
            "",
        ] {
            assert!(!template.accepts(&text(wrong)), "{wrong}");
        }
    }

    #[test]
    fn a_number_that_did_not_vary_is_part_of_the_answer() {
        let same = template(&["200 version 3", "200 version 3"]);
        assert!(!same.accepts(&text("500 version 3")) && !same.accepts(&text("200 version 4")));
        assert!(same.accepts(&text("200 version 3")));
    }

    #[test]
    fn numbers_of_processes_may_change_where_they_stand_for_themselves() {
        let mut template = template(&["v2 of generation 2, pid 4711, 3 items"]);
        template.free(&BTreeSet::from([2, 4711]));
        assert!(template.accepts(&text("v2 of generation 3, pid 5000, 3 items")));
        assert!(!template.accepts(&text("v3 of generation 2, pid 4711, 3 items")));
        assert!(!template.accepts(&text("v2 of generation 2, pid 4711, 4 items")));
    }

    #[test]
    fn the_parts_of_a_moment_vary_together() {
        let template = template(&[
            "at 2026-01-31 11:59:58.9, ok",
            "at 2026-01-31 11:59:59.1, ok",
        ]);
        assert!(template.accepts(&text("at 2026-01-31 12:00:00.0, ok")));
        assert!(!template.accepts(&text("at 2026-01-31 12:00:00.0, no")));
    }

    #[test]
    fn ids_of_hexadecimal_digits_are_numbers() {
        let template = template(&["id deadbeef", "id 12ab34cd", "id 0"]);
        assert!(template.accepts(&text("id feedface")));
        assert!(!template.accepts(&text("id unknown")));
    }

    #[test]
    fn answers_that_differ_otherwise_are_not_alike() {
        for (one, other) in [("yes", "no"), ("a b", "a"), ("", "x"), ("n 1", "n one")] {
            let mut template = template(&[one]);
            assert!(!template.learn(&text(other)), "{one} {other}");
        }
        assert!(template(&["", ""]).accepts(&text("")));
    }
}
