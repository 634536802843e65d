//! The grammar of section files (reference 03 §3.1): lines to sections, without a look at what they mean.

/// A section as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawSection {
    /// The word before the colon.
    pub(super) kind: String,
    /// The word after it.
    pub(super) id: String,
    /// The header's line number, from 1.
    pub(super) line: usize,
    /// The properties in order: line number, key, value; no value is `None`.
    pub(super) properties: Vec<(usize, String, Option<String>)>,
    /// Comments between the section before and the header.
    pub(super) above: Vec<String>,
    /// Comments inside.
    pub(super) comments: Vec<String>,
    /// Every line, header and comments included.
    pub(super) lines: Vec<String>,
}

/// A file as written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RawFile {
    /// The sections in order.
    pub(super) sections: Vec<RawSection>,
    /// Comments after the last of them.
    pub(super) tail: Vec<String>,
}

/// Splits a file into sections. `ignored` is told of lines that are none of it: number, section if inside one, text.
pub(super) fn split(text: &str, ignored: &mut dyn FnMut(usize, Option<&str>, &str)) -> RawFile {
    let mut file = RawFile::default();
    let mut inside = false;
    for (number, line) in (1..).zip(text.split('\n')) {
        // Only a line without anything ends a section.
        inside &= !(line.is_empty() || line == "0");
        let comment = line.trim_start().starts_with('#');
        if let Some(section) = file.sections.last_mut().filter(|_| inside) {
            section.lines.push(line.to_owned());
            match property(line) {
                _ if comment => section.comments.push(line.to_owned()),
                Some((key, value)) => section.properties.push((number, key, value)),
                None => ignored(number, Some(&section.id), line),
            }
        } else if comment {
            file.tail.push(line.to_owned());
        } else if let Some((kind, id)) = header(line) {
            inside = true;
            file.sections.push(RawSection {
                kind: kind.to_owned(),
                id: id.to_owned(),
                line: number,
                properties: Vec::new(),
                above: std::mem::take(&mut file.tail),
                comments: Vec::new(),
                lines: vec![line.to_owned()],
            });
        } else if !(line.trim().is_empty() || line == "0") {
            ignored(number, None, line);
        }
    }
    file
}

/// `TYPE: ID`
fn header(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_end();
    let (kind, id) = line.split_once(':')?;
    let id = id.trim_start();
    let words = !kind.is_empty() && !id.is_empty() && !kind.contains(char::is_whitespace);
    (words && !id.contains(char::is_whitespace)).then_some((kind, id))
}

/// White space, a key, perhaps a value to the end of the line.
fn property(line: &str) -> Option<(String, Option<String>)> {
    let text = line.trim();
    if text.is_empty() || !line.starts_with(char::is_whitespace) {
        return None;
    }
    Some(match text.split_once(char::is_whitespace) {
        Some((key, value)) => (key.to_owned(), Some(value.trim_start().to_owned())),
        None => (text.to_owned(), None),
    })
}
