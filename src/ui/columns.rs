//! Columns of text, as all tables have them.

use comfy_table::{CellAlignment, Row, Table, presets};

/// Columns with two spaces between them, aligned right except the columns `left`. No rules, and no
/// spaces at the end of a row.
pub(super) fn layout(
    header: &[&str],
    left: &[usize],
    rows: impl IntoIterator<Item = Row>,
) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(header.iter().copied())
        .add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        let alignment = if left.contains(&index) {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        };
        column.set_cell_alignment(alignment);
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}
