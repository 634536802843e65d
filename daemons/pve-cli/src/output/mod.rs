//! How results are printed (reference 03 §7): as a table for people, as JSON, as YAML.
//!
//! | module | holds |
//! |---|---|
//! | [`table`] | rows and columns as text |
//! | [`render`] | one value as text |
//! | [`json`], [`yaml`] | a value in these languages |

mod json;
mod render;
mod table;
mod yaml;

use std::io::IsTerminal as _;

use pve_schema::schema::{Hints, Kind, Schema};
use serde_json::{Map, Value};

use table::{Column, Table};

/// What a result is printed as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Tables, for people.
    Text,
    /// JSON on one line.
    Json,
    /// JSON on many lines.
    JsonPretty,
    /// YAML.
    Yaml,
}

/// The formats by their names, as `--output-format` has them.
pub(crate) const FORMATS: [(&str, Format); 4] = [
    ("text", Format::Text),
    ("json", Format::Json),
    ("json-pretty", Format::JsonPretty),
    ("yaml", Format::Yaml),
];

/// How a result is to be printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Style {
    /// In which language.
    pub(crate) format: Format,
    /// Whether values and headers are for people.
    pub(crate) human_readable: bool,
    /// Whether tables have borders.
    pub(crate) border: bool,
    /// Whether tables have a header.
    pub(crate) header: bool,
    /// Whether nothing is printed.
    pub(crate) quiet: bool,
    /// Where it is printed.
    pub(crate) screen: Screen,
}

/// What a table is printed on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Screen {
    /// The characters of a line, on a terminal.
    pub(crate) width: Option<usize>,
    /// Whether there are lines to draw with.
    pub(crate) has_box_drawing: bool,
}

impl Screen {
    /// Standard output.
    pub(crate) fn of_stdout() -> Self {
        let stdout = std::io::stdout();
        let size = stdout.is_terminal().then(|| pve_sys::pty::size(&stdout)).flatten();
        Self {
            width: size.map(|size| usize::from(size.columns)),
            has_box_drawing: is_utf8(|name| std::env::var(name).ok()),
        }
    }
}

/// Whether the locale is one of UTF-8.
fn is_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let names = ["LC_ALL", "LC_CTYPE", "LANG"];
    let locale = names
        .iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let locale = locale.unwrap_or_default().to_ascii_lowercase();
    locale.contains("utf-8") || locale.contains("utf8")
}

impl Style {
    /// What is not said otherwise.
    pub(crate) fn new(screen: Screen) -> Self {
        Self {
            format: Format::Text,
            human_readable: true,
            border: true,
            header: true,
            quiet: false,
            screen,
        }
    }

    /// A result as it is to be printed: text, with a line feed at its end if it is any.
    pub(crate) fn print(&self, data: &Value, schema: &'static Schema) -> String {
        if self.quiet || schema.kind == Kind::Null {
            return String::new();
        }
        match self.format {
            Format::Text => self.text(data, schema),
            Format::Json => json::line(data),
            Format::JsonPretty => json::pretty(data),
            Format::Yaml => yaml::document(data),
        }
    }

    fn text(&self, data: &Value, schema: &'static Schema) -> String {
        match data {
            Value::Null => String::new(),
            Value::Object(object) => self.object(object, schema),
            Value::Array(rows) if rows.is_empty() => String::new(),
            Value::Array(rows) => match objects(rows) {
                Some(rows) => self.rows(&rows, schema.items),
                None => self.list(rows, schema.items),
            },
            scalar => format!("{}\n", self.cell(scalar, schema.hints).trim_end_matches('\n')),
        }
    }

    /// An object: its members, one in a line.
    fn object(&self, object: &Map<String, Value>, schema: &'static Schema) -> String {
        let mut members: Vec<_> = object.iter().filter(|(_, value)| !value.is_null()).collect();
        members.sort_by_key(|(name, _)| name.as_str());
        let rows = members.into_iter().map(|(name, value)| {
            let hints = schema.property(name).and_then(|schema| schema.hints);
            vec![name.clone(), self.cell(value, hints)]
        });
        self.table(vec![Column::plain("key"), Column::plain("value")], rows.collect())
    }

    /// Objects: a line each, sorted by the first column.
    fn rows(&self, rows: &[&Map<String, Value>], items: Option<&'static Schema>) -> String {
        let shown = columns(rows, items);
        let columns = shown.iter().map(|(name, schema)| self.column(name, *schema)).collect();
        let mut rows = rows.to_vec();
        if let Some((first, schema)) = shown.first() {
            sort(&mut rows, first, *schema);
        }
        let cells = rows.into_iter().map(|row| {
            let cell = |(name, schema): &(String, Option<&'static Schema>)| match row.get(name) {
                None | Some(Value::Null) => String::new(),
                Some(value) => self.cell(value, schema.and_then(|schema| schema.hints)),
            };
            shown.iter().map(cell).collect()
        });
        self.table(columns, cells.collect())
    }

    /// What are no objects: one column without a header.
    fn list(&self, values: &[Value], items: Option<&'static Schema>) -> String {
        let hints = items.and_then(|schema| schema.hints);
        let cells = values.iter().map(|value| vec![self.cell(value, hints)]);
        let without_header = Self {
            header: false,
            ..self.clone()
        };
        without_header.table(vec![Column::plain("")], cells.collect())
    }

    /// Rows that a verb made itself.
    pub(crate) fn table(&self, columns: Vec<Column>, rows: Vec<Vec<String>>) -> String {
        let table = Table {
            columns,
            rows,
            border: self.border,
            header: self.header,
        };
        table.print(self.screen)
    }

    fn column(&self, name: &str, schema: Option<&'static Schema>) -> Column {
        let hints = schema.and_then(|schema| schema.hints);
        let title = hints.and_then(|hints| hints.title).filter(|_| self.human_readable);
        let is_number = schema.is_some_and(|schema| matches!(schema.kind, Kind::Integer | Kind::Number));
        Column {
            title: title.unwrap_or(name).to_owned(),
            is_right_aligned: is_number,
            most: hints
                .and_then(|hints| hints.print_width)
                .or_else(|| schema.and_then(|schema| schema.max_length)),
        }
    }

    fn cell(&self, value: &Value, hints: Option<&'static Hints>) -> String {
        let renderer = hints.and_then(|hints| hints.renderer).filter(|_| self.human_readable);
        render::text(value, renderer)
    }
}

/// `key: value` in a line each, sorted by key; what would break a line is `%`-encoded, as in files of `/etc/pve`.
pub(crate) fn lines_of<'a, K: AsRef<str>>(members: impl IntoIterator<Item = (K, &'a Value)>) -> String {
    let mut lines: Vec<(K, String)> = members
        .into_iter()
        .map(|(key, value)| (key, render::text(value, None)))
        .collect();
    lines.sort_by(|(one, _), (other, _)| one.as_ref().cmp(other.as_ref()));
    let encoded = |text: &str| text.replace('\r', "%0D").replace('\n', "%0A");
    lines
        .iter()
        .map(|(key, value)| format!("{}: {}\n", key.as_ref(), encoded(value)))
        .collect()
}

/// The rows, if all are objects.
fn objects(rows: &[Value]) -> Option<Vec<&Map<String, Value>>> {
    rows.iter().map(Value::as_object).collect()
}

/// The columns: what is required, then what is optional; where nothing is declared, all that there is.
fn columns(rows: &[&Map<String, Value>], items: Option<&'static Schema>) -> Vec<(String, Option<&'static Schema>)> {
    let declared = items.map_or(&[][..], |schema| schema.properties);
    if declared.is_empty() {
        let mut names: Vec<&String> = rows.iter().flat_map(|row| row.keys()).collect();
        names.sort();
        names.dedup();
        return names.into_iter().map(|name| (name.clone(), None)).collect();
    }
    let part = |optional: bool| {
        let wanted = declared.iter().filter(move |(_, schema)| schema.optional == optional);
        wanted.map(|(name, schema)| ((*name).to_owned(), Some(*schema)))
    };
    part(false).chain(part(true)).collect()
}

fn sort(rows: &mut [&Map<String, Value>], by: &str, schema: Option<&'static Schema>) {
    let is_number = schema.is_some_and(|schema| matches!(schema.kind, Kind::Integer | Kind::Number));
    let text = |row: &Map<String, Value>| row.get(by).map(|value| render::text(value, None)).unwrap_or_default();
    if is_number {
        let number = |row: &Map<String, Value>| text(row).parse::<f64>().unwrap_or(0.0);
        rows.sort_by(|one, other| number(one).total_cmp(&number(other)));
    } else {
        rows.sort_by_key(|row| text(row));
    }
}

/// A text of which a terminal shows every line as it is: names in it may come from anywhere.
pub(crate) fn for_terminal(text: &str) -> String {
    let lines = text.split('\n').map(table::printable);
    lines.collect::<Vec<_>>().join("\n")
}

pub(crate) use table::Column as TableColumn;

#[cfg(test)]
mod tests {
    use pve_contract::{Verb, find};
    use serde_json::json;

    use super::*;
    use crate::api::ANY;

    static NOTHING: Schema = Schema::of(Kind::Null);
    static OBJECT: Schema = Schema::of(Kind::Object);

    fn style() -> Style {
        Style::new(Screen::default())
    }

    fn returned(path: &str) -> &'static Schema {
        find(path, Verb::Get).unwrap().returns
    }

    #[test]
    fn objects_are_tables_of_keys_and_values() {
        let data =
            json!({"value": "secret", "full-tokenid": "a@pve!t", "info": {"privsep": 1, "comment": "x"}, "no": null});
        let expected = "\
+--------------+-----------------------------+
| key          | value                       |
+==============+=============================+
| full-tokenid | a@pve!t                     |
+--------------+-----------------------------+
| info         | {\"comment\":\"x\",\"privsep\":1} |
+--------------+-----------------------------+
| value        | secret                      |
+--------------+-----------------------------+
";
        assert_eq!(style().print(&data, &OBJECT), expected);
    }

    #[test]
    fn lists_have_required_columns_first_and_are_sorted() {
        let data = json!([
            {"groupid": "ops", "users": "a@pve,b@pve", "comment": "Ops team"},
            {"groupid": "empty", "users": ""},
        ]);
        let expected = "\
+---------+----------+-------------+
| groupid | comment  | users       |
+=========+==========+=============+
| empty   |          |             |
+---------+----------+-------------+
| ops     | Ops team | a@pve,b@pve |
+---------+----------+-------------+
";
        assert_eq!(style().print(&data, returned("/access/groups")), expected);
        let bare = Style {
            border: false,
            header: false,
            ..style()
        };
        let expected = "empty            \nops     Ops team a@pve,b@pve\n";
        assert_eq!(bare.print(&data, returned("/access/groups")), expected);
        assert_eq!(style().print(&json!([]), returned("/access/groups")), "");
    }

    #[test]
    fn numbers_are_sorted_as_numbers_and_stand_right() {
        let data = json!([{"pid": 100, "user": "b"}, {"pid": "20", "user": "a"}]);
        static PID: Schema = Schema::of(Kind::Integer);
        static USER: Schema = Schema::of(Kind::String);
        static ROW: Schema = Schema {
            properties: &[("pid", &PID), ("user", &USER)],
            ..Schema::of(Kind::Object)
        };
        static ROWS: Schema = Schema {
            items: Some(&ROW),
            ..Schema::of(Kind::Array)
        };
        let bare = Style {
            border: false,
            ..style()
        };
        assert_eq!(bare.print(&data, &ROWS), "pid user\n 20 a\n100 b\n");
    }

    #[test]
    fn what_is_no_object_is_printed_as_it_is() {
        let any = &ANY;
        assert_eq!(style().print(&json!("UPID:x"), any), "UPID:x\n");
        assert_eq!(style().print(&json!(1), any), "1\n");
        assert_eq!(style().print(&json!(true), any), "1\n");
        assert_eq!(
            style().print(&json!(["b", "a"]), any),
            "+---+\n| b |\n+---+\n| a |\n+---+\n"
        );
        assert_eq!(style().print(&json!("x"), &NOTHING), "");
        let quiet = Style { quiet: true, ..style() };
        assert_eq!(quiet.print(&json!("x"), any), "");
    }

    #[test]
    fn renderers_and_titles_are_for_people() {
        let tasks = returned("/nodes/{node}/tasks");
        let data = json!([{"upid": "U", "starttime": 0, "node": "n", "pid": 1, "pstart": 2, "type": "t", "id": "", "user": "u"}]);
        let text = style().print(&data, tasks);
        assert!(text.contains(" UPID ") && text.contains("| Starttime"), "{text}");
        let raw = Style {
            human_readable: false,
            ..style()
        };
        let text = raw.print(&data, tasks);
        assert!(text.contains(" upid ") && text.contains("| starttime"), "{text}");
    }

    #[test]
    fn lines_are_drawn_where_the_locale_has_them() {
        let set = |values: &'static [(&str, &str)]| {
            is_utf8(|name| {
                values
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(set(&[("LANG", "C.UTF-8")]));
        assert!(set(&[("LC_ALL", ""), ("LC_CTYPE", "de_DE.utf8"), ("LANG", "C")]));
        assert!(!set(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]));
        assert!(!set(&[]));
    }
}
