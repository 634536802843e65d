//! Rows and columns as text.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::Screen;

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    /// Its header. It counts for the width even where it is not shown.
    pub(crate) title: String,
    /// Whether its values stand on the right.
    pub(crate) is_right_aligned: bool,
    /// Most characters of a value.
    pub(crate) most: Option<usize>,
}

impl Column {
    /// A column of texts of any length.
    pub(crate) fn plain(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            is_right_aligned: false,
            most: None,
        }
    }
}

/// A table; each row has a cell for each column.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<String>>,
    pub(super) border: bool,
    pub(super) header: bool,
}

/// What a border is drawn with: from left to right the left end, the line, the crossing, the right end.
type Line = [char; 4];

/// The parts of a border.
struct Border {
    top: Line,
    under_header: Line,
    between: Line,
    bottom: Line,
    upright: char,
}

const ASCII: Border = Border {
    top: ['+', '-', '+', '+'],
    under_header: ['+', '=', '+', '+'],
    between: ['+', '-', '+', '+'],
    bottom: ['+', '-', '+', '+'],
    upright: '|',
};

const BOX: Border = Border {
    top: ['┌', '─', '┬', '┐'],
    under_header: ['╞', '═', '╪', '╡'],
    between: ['├', '─', '┼', '┤'],
    bottom: ['└', '─', '┴', '┘'],
    upright: '│',
};

impl Table {
    /// The table as text, its lines cut to the screen's width.
    pub(super) fn print(&self, screen: Screen) -> String {
        let cells: Vec<Vec<Vec<String>>> = self.rows.iter().map(|row| self.lines_of(row)).collect();
        let widths = self.widths(&cells);
        let lines = if self.border {
            self.bordered(&cells, &widths, if screen.has_box_drawing { &BOX } else { &ASCII })
        } else {
            self.bare(&cells, &widths)
        };
        let mut out = String::new();
        for line in lines {
            out.push_str(cut(&line, screen.width));
            out.push('\n');
        }
        out
    }

    /// The lines of a row's cells, cut to what the columns allow.
    fn lines_of(&self, row: &[String]) -> Vec<Vec<String>> {
        let cells = self.columns.iter().zip(row);
        let lines = cells.map(|(column, cell)| {
            let lines = cell.trim_end_matches('\n').split('\n');
            lines
                .map(|line| cut(&printable(line), column.most).to_owned())
                .collect()
        });
        lines.collect()
    }

    fn widths(&self, rows: &[Vec<Vec<String>>]) -> Vec<usize> {
        let widest = |at: usize| {
            let lines = rows.iter().filter_map(|row| row.get(at)).flatten();
            lines.map(|line| line.width()).max().unwrap_or(0)
        };
        let columns = self.columns.iter().enumerate();
        columns
            .map(|(at, column)| widest(at).max(column.title.width()))
            .collect()
    }

    fn titles(&self) -> Vec<String> {
        self.columns.iter().map(|column| column.title.clone()).collect()
    }

    fn bordered(&self, rows: &[Vec<Vec<String>>], widths: &[usize], border: &Border) -> Vec<String> {
        let mut lines = vec![ruled(widths, border.top)];
        let with_uprights = |line: Vec<String>| {
            let upright = border.upright;
            format!("{upright} {} {upright}", line.join(&format!(" {upright} ")))
        };
        if self.header {
            let titles = self.titles();
            let left = titles
                .iter()
                .zip(widths)
                .map(|(title, width)| padded(title, *width, false));
            lines.push(with_uprights(left.collect()));
            lines.push(ruled(widths, border.under_header));
        }
        for (number, row) in rows.iter().enumerate() {
            if number > 0 {
                lines.push(ruled(widths, border.between));
            }
            lines.extend(self.aligned(row, widths).into_iter().map(with_uprights));
        }
        lines.push(ruled(widths, border.bottom));
        lines
    }

    /// Without a border the last column is not padded.
    fn bare(&self, rows: &[Vec<Vec<String>>], widths: &[usize]) -> Vec<String> {
        let mut widths = widths.to_vec();
        let last_is_left = self.columns.last().is_some_and(|column| !column.is_right_aligned);
        if let Some(last) = widths.last_mut().filter(|_| last_is_left) {
            *last = 0;
        }
        let mut lines = Vec::new();
        if self.header {
            let titles = self.titles();
            let padded = titles
                .iter()
                .zip(&widths)
                .map(|(title, width)| padded(title, *width, false));
            lines.push(padded.collect::<Vec<_>>().join(" "));
        }
        for row in rows {
            lines.extend(self.aligned(row, &widths).into_iter().map(|line| line.join(" ")));
        }
        lines
    }

    /// The lines of a row, each cell as wide as its column.
    fn aligned(&self, row: &[Vec<String>], widths: &[usize]) -> Vec<Vec<String>> {
        let height = row.iter().map(Vec::len).max().unwrap_or(0);
        let line = |number: usize| {
            let cells = self.columns.iter().zip(row).zip(widths);
            let cells = cells.map(|((column, cell), width)| {
                let text = cell.get(number).map_or("", String::as_str);
                padded(text, *width, column.is_right_aligned)
            });
            cells.collect()
        };
        (0..height).map(line).collect()
    }
}

fn ruled(widths: &[usize], [left, line, crossing, right]: Line) -> String {
    let parts = widths.iter().map(|width| line.to_string().repeat(width + 2));
    let parts: Vec<String> = parts.collect();
    format!("{left}{}{right}", parts.join(&crossing.to_string()))
}

fn padded(text: &str, width: usize, is_right_aligned: bool) -> String {
    let blanks = " ".repeat(width.saturating_sub(text.width()));
    if is_right_aligned {
        format!("{blanks}{text}")
    } else {
        format!("{text}{blanks}")
    }
}

/// The beginning of a text that is at most so wide.
fn cut(text: &str, most: Option<usize>) -> &str {
    let Some(most) = most else { return text };
    let mut width = 0;
    for (at, character) in text.char_indices() {
        width += character.width().unwrap_or(0);
        if width > most {
            return text.get(..at).unwrap_or_default();
        }
    }
    text
}

/// A line that does nothing to a terminal but show itself.
pub(super) fn printable(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for character in line.chars() {
        match character {
            '\t' => out.push(' '),
            other if other.is_control() => out.extend(other.escape_default()),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(border: bool, header: bool) -> Table {
        let number = Column {
            is_right_aligned: true,
            ..Column::plain("n")
        };
        let rows = [["1", "one"], ["20", "two\nlines"]];
        Table {
            columns: vec![number, Column::plain("name")],
            rows: rows.map(|row| row.map(str::to_owned).to_vec()).to_vec(),
            border,
            header,
        }
    }

    #[test]
    fn borders_are_drawn() {
        let expected = "\
+----+-------+
| n  | name  |
+====+=======+
|  1 | one   |
+----+-------+
| 20 | two   |
|    | lines |
+----+-------+
";
        assert_eq!(table(true, true).print(Screen::default()), expected);
        let screen = Screen {
            width: None,
            has_box_drawing: true,
        };
        let expected = "\
┌────┬───────┐
│ n  │ name  │
╞════╪═══════╡
│  1 │ one   │
├────┼───────┤
│ 20 │ two   │
│    │ lines │
└────┴───────┘
";
        assert_eq!(table(true, true).print(screen), expected);
        let headless = table(true, false).print(Screen::default());
        assert!(
            headless.starts_with("+----+-------+\n|  1 | one   |\n+----+"),
            "{headless}"
        );
    }

    #[test]
    fn without_a_border_the_last_column_is_not_padded() {
        assert_eq!(
            table(false, true).print(Screen::default()),
            "n  name\n 1 one\n20 two\n   lines\n"
        );
        let mut wide = table(false, false);
        wide.columns[0].title = "number".to_owned();
        assert_eq!(wide.print(Screen::default()), "     1 one\n    20 two\n       lines\n");
    }

    #[test]
    fn lines_and_columns_are_cut() {
        let screen = Screen {
            width: Some(6),
            has_box_drawing: false,
        };
        let cut_lines = table(true, false).print(screen);
        assert!(cut_lines.lines().all(|line| line.chars().count() == 6), "{cut_lines}");
        let mut narrow = table(false, false);
        narrow.columns[1].most = Some(3);
        assert_eq!(narrow.print(Screen::default()), " 1 one\n20 two\n   lin\n");
        assert_eq!(cut("日本語", Some(5)), "日本");
        assert_eq!(cut("e\u{301}x", Some(1)), "e\u{301}");
    }

    #[test]
    fn values_do_nothing_to_a_terminal() {
        let mut one = table(false, false);
        one.rows = vec![vec!["1".to_owned(), "a\u{1b}[2Jb\tc".to_owned()]];
        assert_eq!(one.print(Screen::default()), "1 a\\u{1b}[2Jb c\n");
    }
}
