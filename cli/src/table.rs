//! Tables for people: columns two blanks apart, wrapped inside their cells on a narrow terminal.

use std::io::{IsTerminal, stdout};

use comfy_table::{CellAlignment, ContentArrangement, presets};

/// One column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    head: &'static str,
    alignment: CellAlignment,
}

/// A column of text.
pub(crate) const fn left(head: &'static str) -> Column {
    Column { head, alignment: CellAlignment::Left }
}

/// A column of numbers.
pub(crate) const fn right(head: &'static str) -> Column {
    Column { head, alignment: CellAlignment::Right }
}

/// Columns of the terminal on standard output; nothing when it is piped.
pub(crate) fn terminal_width() -> Option<u16> {
    let out = stdout();
    if !out.is_terminal() {
        return None;
    }
    terminal_size::terminal_size_of(&out).map(|(width, _)| width.0)
}

/// Lays `rows` out below the heads of `columns`, no wider than `width`.
pub(crate) fn table(columns: &[Column], rows: Vec<Vec<String>>, width: Option<u16>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(presets::NOTHING);
    match width {
        Some(width) => {
            table.set_width(width).set_content_arrangement(ContentArrangement::Dynamic);
        }
        None => _ = table.set_content_arrangement(ContentArrangement::Disabled),
    }
    if columns.iter().any(|column| !column.head.is_empty()) {
        table.set_header(columns.iter().map(|column| column.head));
    }
    table.add_rows(rows);
    let last = columns.len().saturating_sub(1);
    for (at, (column, described)) in table.column_iter_mut().zip(columns).enumerate() {
        column.set_padding((0, if at == last { 0 } else { 2 }));
        column.set_cell_alignment(described.alignment);
    }
    table.trim_fmt() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(texts: &[[&str; 2]]) -> Vec<Vec<String>> {
        texts.iter().map(|row| row.map(str::to_owned).to_vec()).collect()
    }

    #[test]
    fn columns_align_and_lines_end_without_blanks() {
        let rows = rows(&[["shop-0", "1"], ["x", "20"]]);
        let text = table(&[left("NAME"), right("N")], rows, None);
        assert_eq!(text, "NAME     N\nshop-0   1\nx       20\n");
    }

    #[test]
    fn a_narrow_terminal_wraps_cells_and_keeps_the_columns() {
        let rows = rows(&[["a", "one two three four five"]]);
        let text = table(&[left("NAME"), left("TEXT")], rows, Some(20));
        assert!(text.lines().all(|line| line.chars().count() <= 20), "{text}");
        assert_eq!(text.lines().count(), 3, "{text}");
    }

    #[test]
    fn columns_without_heads_have_no_head_line() {
        let text = table(&[left(""), left("")], rows(&[["ok", "fine\nhint: none"]]), None);
        assert_eq!(text, "ok  fine\n    hint: none\n");
    }
}
