//! Lines for a terminal: each knows whether what it tells is well, and none is too wide.

use std::borrow::Cow;

use console::{Style, measure_text_width, truncate_str};

use super::text::plain;

/// One line, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What it says. No character of it acts on a terminal.
    pub text: String,
    /// Nothing in it wants attention.
    pub is_well: bool,
}

impl Line {
    /// A line in which nothing wants attention.
    pub fn well(text: impl Into<String>) -> Line {
        Line {
            text: text.into(),
            is_well: true,
        }
    }

    /// A line that wants attention, of a foreign text, not wider than `width`.
    pub fn bad(text: &str, width: Option<usize>) -> Line {
        let text = plain(text);
        let text = width.map_or_else(|| text.clone(), |width| cut_end(&text, width).into_owned());
        Line::new(text, false)
    }

    /// A line that wants attention, if not `is_well`.
    pub(super) fn new(text: String, is_well: bool) -> Line {
        Line { text, is_well }
    }

    /// The line for a terminal with colours: only what is not well has one.
    pub fn coloured(&self) -> Cow<'_, str> {
        if self.is_well {
            return Cow::Borrowed(&self.text);
        }
        let red = Style::new().red().force_styling(true);
        Cow::Owned(red.apply_to(&self.text).to_string())
    }
}

/// The lines, each cut at its end where it is wider than `width`.
pub(super) fn cut(lines: Vec<Line>, width: Option<usize>) -> Vec<Line> {
    let Some(width) = width else { return lines };
    let cut = |line: Line| Line {
        text: cut_end(&line.text, width).into_owned(),
        ..line
    };
    lines.into_iter().map(cut).collect()
}

/// How many columns a text takes.
pub(super) fn columns(text: &str) -> usize {
    measure_text_width(text)
}

/// The text, or its beginning and a `…`.
fn cut_end(text: &str, width: usize) -> Cow<'_, str> {
    truncate_str(text, width, "…")
}

/// The text, or a `…` and its end, which begins at a slash where that leaves some of it. What is
/// special about a path or an address is its end.
pub(super) fn cut_beginning(text: &str, width: usize) -> String {
    if columns(text) <= width {
        return text.to_owned();
    }
    let fits = |rest: &&str| columns(rest) < width;
    let slashes = text.match_indices('/').map(|(at, _)| &text[at..]);
    let anywhere = text.char_indices().map(|(at, _)| &text[at..]);
    let rest = slashes.filter(|rest| rest.len() > 1).find(fits);
    let rest = rest.or_else(|| anywhere.into_iter().find(fits));
    format!("…{}", rest.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_by_columns_and_not_by_bytes() {
        let lines = vec![Line::well("größer"), Line::well("日本語"), Line::well("ok")];
        let texts =
            |lines: Vec<Line>| -> Vec<String> { lines.into_iter().map(|line| line.text).collect() };
        assert_eq!(texts(cut(lines.clone(), Some(5))), ["größ…", "日本…", "ok"]);
        assert_eq!(cut(lines.clone(), None), lines);
    }

    #[test]
    fn a_path_keeps_its_end() {
        for (width, cut) in [
            (40, "/srv/app/releases/7"),
            (15, "…/releases/7"),
            (12, "…/releases/7"),
            (11, "…/7"),
            (2, "…7"),
            (1, "…"),
        ] {
            assert_eq!(cut_beginning("/srv/app/releases/7", width), cut);
        }
        assert_eq!(cut_beginning("tcp:127.0.0.1:8080", 8), "….1:8080");
    }

    #[test]
    fn only_what_is_not_well_has_a_colour() {
        assert_eq!(Line::well("fine").coloured(), "fine");
        let bad = Line::new("bad".into(), false);
        assert_eq!(bad.coloured(), "\u{1b}[31mbad\u{1b}[0m");
    }
}
