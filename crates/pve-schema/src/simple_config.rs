//! Files of `key: value` lines: `datacenter.cfg`, a node's `config` and their like (reference 03 §3.5, 04 §8.1, 09 §9).
//!
//! `#` lines are the description, percent-encoded. Reading never fails. Lines with keys that are not known, or with
//! values that do not fit, are kept and written again, unless the key gets a proper value.

use std::collections::BTreeMap;

use crate::check;
use crate::digest;
use crate::failure::Failure;
use crate::params::Param;
use crate::schema::{Kind, Parameter, Schema, find_parameter};
use crate::text;

/// What one such file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SimpleConfig {
    /// The description: every `#` line, each with a newline.
    pub description: String,
    /// What did not fit, in the order of the lines.
    pub warnings: Vec<String>,
    /// The digest of the text that was read.
    pub digest: String,
    values: BTreeMap<String, Param>,
    /// Lines that are not understood, by key; those without a key have an empty one.
    kept: Vec<(String, String)>,
}

/// How a file is laid out.
#[derive(Debug, Clone, Copy)]
pub struct SimpleFormat {
    /// The file's name, for warnings.
    pub file: &'static str,
    /// The known keys, sorted as [`find_parameter`] needs it: the contract's parameters of the method that sets them.
    pub keys: &'static [Parameter],
    /// Whether an empty line stands behind the description, even where there is none.
    pub blank_after_description: bool,
}

/// A value that cannot stand in one line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("detected invalid newline inside property '{0}'")]
pub struct Newline(pub String);

impl Failure for Newline {}

/// The key that `#` lines stand for.
const DESCRIPTION: &str = "description";

impl SimpleConfig {
    /// Reads a file.
    pub fn parse(format: &SimpleFormat, file: &str) -> Self {
        let mut config = Self {
            digest: digest::of(file.as_bytes()),
            ..Self::default()
        };
        for line in file.lines().map(str::trim).filter(|line| !line.is_empty()) {
            match line.strip_prefix('#') {
                Some(comment) => config.describe(&text::decode(comment)),
                None => config.line(format, line),
            }
        }
        config
    }

    fn describe(&mut self, line: &str) {
        self.description.push_str(line);
        self.description.push('\n');
    }

    fn line(&mut self, format: &SimpleFormat, line: &str) {
        let pair = line
            .split_once(':')
            .map(|(key, value)| (key.trim_end(), value.trim_start()));
        let Some((key, value)) = pair.filter(|(key, _)| !key.is_empty() && !key.contains(char::is_whitespace)) else {
            self.warnings.push(format!("ignore config line: {line}"));
            self.kept.push((String::new(), line.to_owned()));
            return;
        };
        if key == DESCRIPTION {
            self.describe(value);
            return;
        }
        if let Err(error) = self.read(format, key, value) {
            self.warnings
                .push(format!("parse error in '{}' - '{key}': {error}", format.file));
            if !self.has(key) {
                self.kept.push((key.to_owned(), line.to_owned()));
            }
        }
    }

    fn read(&mut self, format: &SimpleFormat, key: &str, value: &str) -> Result<(), String> {
        let schema = find_parameter(format.keys, key).map(|parameter| parameter.schema);
        let schema = schema.ok_or("unknown property type")?;
        if schema.kind == Kind::Array {
            if let Some(item) = schema.items {
                check::text(item, value, key)?;
            }
            let known = self
                .values
                .entry(key.to_owned())
                .or_insert_with(|| Param::List(Vec::new()));
            if let Param::List(items) = known {
                items.push(Param::Text(value.to_owned()));
            }
            return Ok(());
        }
        if self.has(key) {
            return Err("duplicate attribute".to_owned());
        }
        let value = normalised(schema, value);
        check::text(schema, &value, key)?;
        self.values.insert(key.to_owned(), Param::Text(value));
        Ok(())
    }

    /// A scalar's value.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.values.get(key) {
            Some(Param::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// A boolean; `None` when it is not set.
    pub fn flag(&self, key: &str) -> Option<bool> {
        self.text(key).map(|text| text == "1")
    }

    /// A value as it is.
    pub fn get(&self, key: &str) -> Option<&Param> {
        self.values.get(key)
    }

    /// Whether a key has a value.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// All keys and values, sorted by key; the description is not among them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.values.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Sets a key, or the description.
    pub fn set(&mut self, key: &str, value: Param) {
        match value {
            Param::Text(text) if key == DESCRIPTION => self.description = text,
            value => {
                self.values.insert(key.to_owned(), value);
            }
        }
    }

    /// Takes a key out, with whatever else stood there under its name; or empties the description.
    pub fn remove(&mut self, key: &str) {
        if key == DESCRIPTION {
            self.description.clear();
        }
        self.values.remove(key);
        self.kept.retain(|(kept, _)| kept != key);
    }

    /// Writes the file: the description, then the keys, sorted.
    ///
    /// # Errors
    /// A value cannot stand in one line.
    pub fn write(&self, format: &SimpleFormat) -> Result<String, Newline> {
        let mut out = text::encode_lines(&self.description);
        if format.blank_after_description {
            out.push('\n');
        }
        let mut lines: Vec<(&str, String)> = Vec::new();
        for (key, value) in &self.values {
            let mut push = |value: &Param| match value {
                Param::Text(text) if text.contains(['\r', '\n']) => Err(Newline(key.clone())),
                Param::Text(text) => {
                    lines.push((key, format!("{key}: {text}\n")));
                    Ok(())
                }
                Param::List(_) | Param::Map(_) => Ok(()),
            };
            match value {
                Param::List(items) => items.iter().try_for_each(push)?,
                scalar => push(scalar)?,
            }
        }
        let kept = self.kept.iter().filter(|(key, _)| !key.is_empty() && !self.has(key));
        lines.extend(kept.map(|(key, line)| (key.as_str(), format!("{line}\n"))));
        lines.sort_by_key(|(key, _)| *key);
        lines.iter().for_each(|(_, line)| out.push_str(line));
        for (_, line) in self.kept.iter().filter(|(key, _)| key.is_empty()) {
            out.push_str(line);
            out.push('\n');
        }
        Ok(out)
    }
}

/// Booleans may be words in these files.
fn normalised(schema: &Schema, value: &str) -> String {
    match check::boolean_word(value) {
        Some(on) if schema.kind == Kind::Boolean => if on { "1" } else { "0" }.to_owned(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TEXT: Schema = Schema::of(Kind::String);
    static FLAG: Schema = Schema::of(Kind::Boolean);
    static COUNT: Schema = Schema {
        minimum: Some(1.0),
        ..Schema::of(Kind::Integer)
    };
    static LIST: Schema = Schema {
        items: Some(&TEXT),
        ..Schema::of(Kind::Array)
    };

    const fn key(name: &'static str, schema: &'static Schema) -> Parameter {
        Parameter {
            name,
            index_max: None,
            in_path: false,
            schema,
        }
    }

    static KEYS: [Parameter; 6] = [
        Parameter {
            index_max: Some(5),
            ..key("acmedomain", &TEXT)
        },
        key("console", &TEXT),
        key("exclude", &LIST),
        key("ha", &FLAG),
        key("max_workers", &COUNT),
        key("migration", &TEXT),
    ];
    const FORMAT: SimpleFormat = SimpleFormat {
        file: "datacenter.cfg",
        keys: &KEYS,
        blank_after_description: true,
    };
    const PLAIN: SimpleFormat = SimpleFormat {
        blank_after_description: false,
        ..FORMAT
    };

    /// Reference 04 vectors 46 to 48, with what a person wrote kept.
    #[test]
    fn a_file_is_read_and_written() {
        let text = "#Hello%3A world\n# second line\nmigration: insecure\nconsole: html5\nbogus: 1\nmax_workers: 0\n";
        let config = SimpleConfig::parse(&FORMAT, text);
        assert_eq!(config.description, "Hello: world\n second line\n");
        assert_eq!(
            (config.text("migration"), config.text("max_workers")),
            (Some("insecure"), None)
        );
        assert_eq!(
            config.warnings,
            [
                "parse error in 'datacenter.cfg' - 'bogus': unknown property type",
                "parse error in 'datacenter.cfg' - 'max_workers': value must have a minimum value of 1",
            ]
        );
        assert_eq!(
            config.write(&FORMAT).unwrap(),
            "#Hello%3A world\n# second line\n\nbogus: 1\nconsole: html5\nmax_workers: 0\nmigration: insecure\n"
        );
        assert_eq!(SimpleConfig::parse(&FORMAT, "").write(&FORMAT).unwrap(), "\n");
    }

    /// Reference 09 vectors 64 and 65.
    #[test]
    fn a_nodes_file_has_no_blank_line() {
        let config = SimpleConfig::parse(&PLAIN, "# hello %3A\n#wörld 50%25\nacmedomain0: c.example\n");
        assert_eq!(config.description, " hello :\nwörld 50%\n");
        assert_eq!(
            config.write(&PLAIN).unwrap(),
            "# hello %3A\n#w%C3%B6rld 50%25\nacmedomain0: c.example\n"
        );
    }

    #[test]
    fn booleans_are_words_and_arrays_repeat() {
        let config = SimpleConfig::parse(
            &PLAIN,
            "ha: Yes\nexclude: a\nexclude: b\n  junk\nconsole: x\nconsole: y\n",
        );
        assert_eq!((config.flag("ha"), config.text("console")), (Some(true), Some("x")));
        assert_eq!(config.warnings[0], "ignore config line: junk");
        assert!(config.warnings[1].ends_with("'console': duplicate attribute"));
        assert_eq!(
            config.write(&PLAIN).unwrap(),
            "console: x\nexclude: a\nexclude: b\nha: 1\njunk\n"
        );
    }

    #[test]
    fn a_proper_value_takes_the_place_of_a_broken_one() {
        let mut config = SimpleConfig::parse(&PLAIN, "max_workers: x\nbogus: 1\n");
        config.set("max_workers", Param::Text("3".into()));
        config.set("description", Param::Text("a\nb".into()));
        assert_eq!(config.write(&PLAIN).unwrap(), "#a\n#b\nbogus: 1\nmax_workers: 3\n");
        config.remove("bogus");
        config.remove("description");
        assert_eq!(config.write(&PLAIN).unwrap(), "max_workers: 3\n");
        config.set("console", Param::Text("a\nb".into()));
        assert_eq!(
            config.write(&PLAIN).unwrap_err().to_string(),
            "detected invalid newline inside property 'console'"
        );
    }
}
