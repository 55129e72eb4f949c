//! Columns of text, as all tables have them.

use comfy_table::{CellAlignment, Row, Table, presets};

use super::lines::{columns, cut_beginning};

/// The most space between two columns.
const GAP: u16 = 2;

/// The least of a path that is shown where columns are too wide.
const SHORTEST_PATH: usize = 12;

/// Columns with two spaces between them, aligned right except the columns `left`. No rules, and no
/// spaces at the end of a row.
pub(super) fn layout(
    header: &[&str],
    left: &[usize],
    rows: impl IntoIterator<Item = Row>,
) -> String {
    lay_out(header, left, rows, GAP)
        .into_iter()
        .map(|line| line + "\n")
        .collect()
}

/// A table that has to fit: a line for the header, and one for each row.
pub(super) struct Fitted<'a> {
    pub(super) header: &'a [&'a str],
    /// The columns that are aligned left.
    pub(super) left: &'a [usize],
    /// The column whose cells may be cut at their beginning.
    pub(super) path: Option<usize>,
    pub(super) width: Option<usize>,
}

impl Fitted<'_> {
    /// The lines. A column without any value is left out; the first one stays. Columns that are
    /// still too wide are nearer to each other, and a path is cut at its beginning. What does not
    /// fit then is for the caller to cut, at the end.
    pub(super) fn lines(&self, mut rows: Vec<Vec<String>>) -> Vec<String> {
        let all = 0..self.header.len();
        let is_shown = |column: &usize| {
            let has_value = |row: &Vec<String>| row.get(*column).is_some_and(|cell| is_known(cell));
            *column == 0 || rows.iter().any(has_value)
        };
        let shown: Vec<usize> = all.filter(is_shown).collect();
        let mut gap = GAP;
        if let Some(width) = self.width {
            let taken = |widths: usize, gap: u16| widths + usize::from(gap) * (shown.len() - 1);
            if taken(self.widths(&shown, &rows, None), gap) > width {
                gap = 1;
            }
            if let Some(path) = self.path.filter(|path| shown.contains(path)) {
                let others = self.widths(&shown, &rows, Some(path));
                let room = width.saturating_sub(taken(others, gap));
                // The last part of a path is to be read.
                let room = room.max(SHORTEST_PATH);
                for cell in rows.iter_mut().filter_map(|row| row.get_mut(path)) {
                    *cell = cut_beginning(cell, room);
                }
            }
        }
        let header: Vec<&str> = shown.iter().map(|column| self.header[*column]).collect();
        let place = |column: &usize| shown.iter().position(|shown| shown == column);
        let left: Vec<usize> = self.left.iter().filter_map(place).collect();
        let rows = rows.iter().map(|row| {
            let cells = shown.iter().filter_map(|column| row.get(*column));
            Row::from(cells.collect::<Vec<_>>())
        });
        lay_out(&header, &left, rows, gap)
    }

    /// How wide these columns are together, without the spaces between them and without `omitted`.
    fn widths(&self, shown: &[usize], rows: &[Vec<String>], omitted: Option<usize>) -> usize {
        let width = |column: &usize| {
            let cells = rows.iter().filter_map(|row| row.get(*column));
            let widest = cells.map(|cell| columns(cell)).max().unwrap_or(0);
            widest.max(columns(self.header[*column]))
        };
        let counted = shown.iter().filter(|column| Some(**column) != omitted);
        counted.map(width).sum()
    }
}

/// Whether a cell has a value.
fn is_known(cell: &str) -> bool {
    !matches!(cell, "" | "-")
}

fn lay_out(
    header: &[&str],
    left: &[usize],
    rows: impl IntoIterator<Item = Row>,
    gap: u16,
) -> Vec<String> {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.iter().copied())
        .add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, gap));
        let alignment = if left.contains(&index) {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        };
        column.set_cell_alignment(alignment);
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(width: Option<usize>) -> Vec<String> {
        let fitted = Fitted {
            header: &["N", "ADDRESS", "BEAT", "NOTE"],
            left: &[1, 3],
            path: Some(1),
            width,
        };
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        fitted.lines(vec![
            row(["-", "unix:/srv/app/run/app.sock", "-", "story"]),
            row(["-", "tcp::80", "", ""]),
        ])
    }

    #[test]
    fn a_column_without_a_value_is_left_out_and_the_first_stays() {
        let expected = [
            "N  ADDRESS                     NOTE",
            "-  unix:/srv/app/run/app.sock  story",
            "-  tcp::80",
        ];
        assert_eq!(table(None), expected);
        assert_eq!(table(Some(36)), expected);
    }

    #[test]
    fn columns_that_are_too_wide_are_nearer_and_a_path_loses_its_beginning() {
        assert_eq!(table(Some(22))[1], "- …/run/app.sock story");
        assert_eq!(table(Some(35))[1], "- unix:/srv/app/run/app.sock story");
        assert_eq!(table(Some(5))[1], "- …/app.sock story");
    }
}
