//! Options as somebody gave them: a call's parameters, or the lines of `/etc/vzdump.conf`. They travel to the task, and
//! its log repeats them.

use std::collections::BTreeMap;

use pve_schema::shell::quote;
use pve_schema::{Param, Params};
use serde::{Deserialize, Serialize};

/// What is told of the choice of guests, or to others than the run: not repeated in the log.
const NOT_REPEATED: [&str; 7] = ["id", "vmid", "starttime", "dow", "stdout", "enabled", "job-id"];

/// The value of an option.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Setting {
    /// A scalar.
    Text(String),
    /// A repeated option.
    List(Vec<String>),
}

/// Options by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Given(BTreeMap<String, Setting>);

impl Given {
    /// A scalar's text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Setting::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The values of a repeated option. One that came as one text is split at NUL.
    pub fn list(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Setting::List(items)) => items.iter().map(String::as_str).collect(),
            Some(Setting::Text(text)) => text.split('\0').filter(|item| !item.is_empty()).collect(),
            None => Vec::new(),
        }
    }

    /// Whether an option was given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Sets an option.
    pub fn set(&mut self, name: &str, value: Setting) {
        self.0.insert(name.to_owned(), value);
    }

    /// Takes an option out.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// All options, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Setting)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The command line that would do the same (reference 05 §7.3), as the log's first line has it.
    pub fn command_line(&self, attempted: &[String]) -> String {
        let mut line = "vzdump".to_owned();
        for word in attempted {
            line.push_str(&format!(" {word}"));
        }
        let repeated = |name: &&str| !NOT_REPEATED.contains(name);
        for (name, value) in self.iter().filter(|(name, _)| repeated(name)) {
            match value {
                Setting::Text(text) if name == "mailto" => {
                    let addresses = pve_schema::list::split(text).join(",");
                    line.push_str(&format!(" --mailto {}", quote(&addresses)));
                }
                Setting::Text(text) => line.push_str(&format!(" --{name} {}", quote(text))),
                Setting::List(items) => {
                    for item in items {
                        line.push_str(&format!(" --{name} {}", quote(item)));
                    }
                }
            }
        }
        line
    }
}

impl From<&Params> for Given {
    fn from(params: &Params) -> Self {
        params
            .iter()
            .map(|(name, value)| (name.to_owned(), setting(value)))
            .collect()
    }
}

impl FromIterator<(String, Setting)> for Given {
    fn from_iter<I: IntoIterator<Item = (String, Setting)>>(iter: I) -> Self {
        Self(iter.into_iter().collect())
    }
}

/// A parameter as it is kept; no option is an object.
pub(super) fn setting(value: &Param) -> Setting {
    let text = |value: &Param| match value {
        Param::Text(text) => text.clone(),
        Param::List(_) | Param::Map(_) => String::new(),
    };
    match value {
        Param::List(items) => Setting::List(items.iter().map(text).collect()),
        scalar => Setting::Text(text(scalar)),
    }
}

/// Splits a line like a shell does: blanks separate, quotes and backslashes keep together.
pub(super) fn shell_words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, blank) if blank.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (Some(open), close) if open == close => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(pairs: &[(&str, Setting)]) -> Given {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect()
    }

    #[test]
    fn the_command_line_repeats_what_was_given() {
        let text = |text: &str| Setting::Text(text.to_owned());
        let given = given(&[
            ("vmid", text("100,101")),
            ("job-id", text("nightly")),
            ("mode", text("snapshot")),
            ("mailto", text("a@b; c@d")),
            ("notes-template", text("it's {{vmid}}")),
            (
                "exclude-path",
                Setting::List(vec!["/tmp/x".to_owned(), "*.log".to_owned()]),
            ),
        ]);
        assert_eq!(
            given.command_line(&["100".to_owned(), "101".to_owned()]),
            r"vzdump 100 101 --exclude-path /tmp/x --exclude-path '*.log' --mailto a@b,c@d --mode snapshot --notes-template 'it'\''s {{vmid}}'"
        );
    }

    #[test]
    fn lines_split_like_a_shells() {
        for (line, expected) in [
            ("a  b", vec!["a", "b"]),
            (r#""a b" 'c d'e"#, vec!["a b", "c de"]),
            (r"a\ b '\'", vec!["a b", r"\"]),
            (r#""a\"b" """#, vec!["a\"b", ""]),
            ("  ", vec![]),
            ("'open end", vec!["open end"]),
        ] {
            assert_eq!(shell_words(line), expected, "{line}");
        }
    }
}
