//! A picture that is drawn in place on a terminal, again and again.

use super::lines::{Line, columns};

/// Takes the other screen, where a resize leaves no pieces behind, and hides the cursor.
pub const BEGIN: &str = "\x1b[?1049h\x1b[?25l";

/// Shows the cursor again, and goes back to the usual screen.
pub const END: &str = "\x1b[?25h\x1b[?1049l";

/// The rest of the line, and of the screen, is empty.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// The lines over what was drawn before, from the upper left corner on. Nothing is erased before it
/// is written again, so nothing flickers. What does not fit below is counted in the last line.
pub fn picture(lines: &[Line], (width, rows): (usize, usize), is_coloured: bool) -> String {
    let mut shown = lines.to_vec();
    if lines.len() > rows {
        shown.truncate(rows.saturating_sub(1));
        let hidden = lines.len() - shown.len();
        shown.push(Line::well(format!("… {hidden} more lines")));
    }
    let mut text = String::from("\x1b[H");
    for (number, line) in shown.iter().enumerate() {
        // Not after the last one, which would scroll.
        if number > 0 {
            text += "\n";
        }
        if is_coloured {
            text += &line.coloured();
        } else {
            text += &line.text;
        }
        // The cursor stays on the last column of a line that is full: that would be erased.
        if columns(&line.text) < width {
            text += CLEAR_LINE;
        }
    }
    text + CLEAR_BELOW
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[(&str, bool)]) -> Vec<Line> {
        let lines = texts.iter();
        lines
            .map(|(text, is_well)| Line::new((*text).to_owned(), *is_well))
            .collect()
    }

    #[test]
    fn a_picture_is_written_over_the_last_one() {
        let lines = lines(&[("running", true), ("1 down", false), ("full!", true)]);
        assert_eq!(
            picture(&lines, (6, 9), true),
            "\x1b[Hrunning\n\x1b[31m1 down\x1b[0m\nfull!\x1b[K\x1b[J"
        );
        let plain = picture(&lines, (80, 3), false);
        assert!(!plain.contains("\x1b[31m"), "{plain:?}");
        assert_eq!(plain.matches('\n').count(), 2);
    }

    #[test]
    fn what_does_not_fit_is_counted() {
        let lines = lines(&[("1", true), ("2", true), ("3", true), ("4", true)]);
        assert_eq!(
            picture(&lines, (80, 3), true),
            "\x1b[H1\x1b[K\n2\x1b[K\n… 2 more lines\x1b[K\x1b[J"
        );
        assert!(picture(&lines, (80, 1), true).contains("… 4 more lines"));
    }
}
