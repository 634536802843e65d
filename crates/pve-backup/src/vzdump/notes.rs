//! The notes template (reference 05 §7.7).
//!
//! A template is one line. `\n` stands for a line feed and `\\` for a backslash; `{{name}}`, exactly so, for what is
//! known of the guest.

use std::fmt;

/// The words that may stand between braces.
const VARIABLES: [&str; 4] = ["cluster", "guestname", "node", "vmid"];

/// A template that cannot be used: the text for the parameter `notes-template`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTemplate {
    /// A template is one line.
    #[error("contains a line feed")]
    LineFeed,
    /// What stands for nothing; each with its place, counted in characters.
    #[error("found unknown: {}", .0.join(", "))]
    Unknown(Vec<String>),
}

/// What is known of a guest.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The cluster; `None` on a node that is alone.
    pub cluster: Option<&'a str>,
    /// The guest's name.
    pub guest_name: &'a str,
    /// The node.
    pub node: &'a str,
    /// The guest's number.
    pub vmid: u32,
}

/// Checks a template.
///
/// # Errors
/// [`InvalidTemplate`].
pub fn check(template: &str) -> Result<(), InvalidTemplate> {
    if template.contains('\n') {
        return Err(InvalidTemplate::LineFeed);
    }
    let characters: Vec<char> = template.chars().collect();
    let mut problems = unknown_escapes(&characters);
    problems.extend(unknown_variables(&characters));
    if problems.is_empty() {
        Ok(())
    } else {
        Err(InvalidTemplate::Unknown(problems))
    }
}

fn unknown_escapes(characters: &[char]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut at = 0;
    while let Some(character) = characters.get(at) {
        if *character != '\\' {
            at += 1;
            continue;
        }
        match characters.get(at + 1) {
            Some('n' | '\\') => {}
            Some(other) => problems.push(format!("escape sequence '\\{other}' at char {at}")),
            // A backslash at the end escapes nothing and stays.
            None => {}
        }
        at += 2;
    }
    problems
}

fn unknown_variables(characters: &[char]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        let Some((name, end)) = variable_at(characters, at) else {
            at += 1;
            continue;
        };
        if !VARIABLES.contains(&name.as_str()) {
            let place = end - name.chars().count();
            problems.push(format!("variable '{name}' at char {place}"));
        }
        at = end;
    }
    problems
}

/// A word in double braces at a place, and where it ends. What holds anything but word characters is no variable.
fn variable_at(characters: &[char], at: usize) -> Option<(String, usize)> {
    let rest = characters.get(at..)?.strip_prefix(&['{', '{'])?;
    let length = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
    let closed = rest.get(length..)?.starts_with(&['}', '}']);
    let name: String = rest.get(..length)?.iter().collect();
    (closed && length > 0).then_some((name, at + length + 4))
}

/// Fills a template in: escapes first, then variables.
pub fn fill(template: &str, facts: &Facts<'_>) -> String {
    let unescaped = Unescaped(template).to_string();
    let characters: Vec<char> = unescaped.chars().collect();
    let mut text = String::new();
    let mut at = 0;
    while let Some(character) = characters.get(at) {
        let value = variable_at(&characters, at).and_then(|(name, end)| Some((value(&name, facts)?, end)));
        match value {
            Some((value, end)) => {
                text.push_str(&value);
                at = end;
            }
            None => {
                text.push(*character);
                at += 1;
            }
        }
    }
    text
}

fn value(name: &str, facts: &Facts<'_>) -> Option<String> {
    Some(match name {
        "cluster" => facts.cluster.unwrap_or("standalone node").to_owned(),
        "guestname" => facts.guest_name.to_owned(),
        "node" => facts.node.to_owned(),
        "vmid" => facts.vmid.to_string(),
        _ => return None,
    })
}

/// A template with its escapes replaced.
struct Unescaped<'a>(&'a str);

impl fmt::Display for Unescaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut characters = self.0.chars().peekable();
        while let Some(character) = characters.next() {
            let replaced = match (character, characters.peek()) {
                ('\\', Some('n')) => '\n',
                ('\\', Some('\\')) => '\\',
                _ => {
                    write!(f, "{character}")?;
                    continue;
                }
            };
            characters.next();
            write!(f, "{replaced}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts<'_> = Facts {
        cluster: None,
        guest_name: "web",
        node: "lab1",
        vmid: 100,
    };

    /// Reference 05, vector F5.
    #[test]
    fn templates_are_filled_in() {
        let template = r"{{vmid}}\n{{cluster}}\\ {{guestname}}@{{node}} {{ node }}";
        assert_eq!(fill(template, &FACTS), "100\nstandalone node\\ web@lab1 {{ node }}");
        let cluster = Facts {
            cluster: Some("c1"),
            guest_name: "{{node}}",
            ..FACTS
        };
        // What a guest is called is text, whatever it looks like.
        assert_eq!(fill("{{cluster}} {{guestname}} ü", &cluster), "c1 {{node}} ü");
        assert_eq!(fill(r"a\", &FACTS), r"a\");
        assert_eq!(fill("{{{vmid}}}", &FACTS), "{100}");
    }

    /// Reference 05, vectors F6 to F8.
    #[test]
    fn what_stands_for_nothing_is_told_with_its_place() {
        for (template, expected) in [
            (r"a\tb", r"found unknown: escape sequence '\t' at char 1"),
            ("{{foo}} x", "found unknown: variable 'foo' at char 4"),
            (
                r"\q{{bar}}{{baz}}",
                r"found unknown: escape sequence '\q' at char 0, variable 'bar' at char 6, variable 'baz' at char 13",
            ),
            ("a\nb", "contains a line feed"),
        ] {
            assert_eq!(check(template).unwrap_err().to_string(), expected);
        }
        for good in [r"a\n\\t", "{{ foo }}", "{{vmid}}", "{{", "", "{{}}"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_checked_and_filled(template in "[\\\\n{}a-z \\n]{0,40}|.{0,40}") {
            let _ = check(&template);
            let _ = fill(&template, &FACTS);
        }
    }
}
