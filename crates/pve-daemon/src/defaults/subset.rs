//! Plain assignments, read without a shell.
//!
//! `[export] NAME=VALUE` per line, where VALUE is made of bare characters, `'…'`, `"…"` and backslashes, and comments.
//! Whatever else a shell knows – expansions, commands, several words on a line, `+=` – makes [`parse`] give the file up
//! as a whole, so that its answer is either what bash would say or none.

use std::iter::Peekable;
use std::str::Chars;

use super::Variables;

/// Characters that mean something to a shell in a bare value.
const SPECIAL: &str = "$`;&|<>()!*?[]{}~";

/// The assignments of a file; `None` when a shell is needed to know them.
pub fn parse(text: &str) -> Option<Variables> {
    // NUL has no place in a value, and bash drops it wherever it stands.
    if text.contains('\0') {
        return None;
    }
    let mut rest = text.chars().peekable();
    let mut assigned = Variables::new();
    loop {
        skip_blanks(&mut rest);
        match rest.peek() {
            None => return Some(assigned),
            Some('\n') => {
                rest.next();
            }
            Some('#') => skip_comment(&mut rest),
            Some(_) => {
                let (name, value) = assignment(&mut rest)?;
                assigned.insert(name, value);
            }
        }
    }
}

/// One assignment and the end of its line.
fn assignment(rest: &mut Peekable<Chars>) -> Option<(String, String)> {
    let mut name = word(rest);
    if name == "export" && matches!(rest.peek(), Some(' ' | '\t')) {
        skip_blanks(rest);
        name = word(rest);
    }
    if !is_name(&name) || rest.next() != Some('=') {
        return None;
    }
    let value = value(rest)?;
    skip_blanks(rest);
    match rest.peek() {
        None | Some('\n') => {}
        Some('#') => skip_comment(rest),
        // A second word makes the assignment hold for a command only.
        Some(_) => return None,
    }
    Some((name, value))
}

/// A value up to the blank, newline or end after it.
fn value(rest: &mut Peekable<Chars>) -> Option<String> {
    let mut value = String::new();
    while let Some(&next) = rest.peek() {
        match next {
            ' ' | '\t' | '\n' => break,
            '\'' => {
                rest.next();
                single_quoted(rest, &mut value)?;
            }
            '"' => {
                rest.next();
                double_quoted(rest, &mut value)?;
            }
            '\\' => {
                rest.next();
                match rest.next()? {
                    '\n' => {}
                    other => value.push(other),
                }
            }
            special if SPECIAL.contains(special) => return None,
            other => {
                rest.next();
                value.push(other);
            }
        }
    }
    Some(value)
}

fn single_quoted(rest: &mut Peekable<Chars>, value: &mut String) -> Option<()> {
    loop {
        match rest.next()? {
            '\'' => return Some(()),
            '\0' => return None,
            other => value.push(other),
        }
    }
}

fn double_quoted(rest: &mut Peekable<Chars>, value: &mut String) -> Option<()> {
    loop {
        match rest.next()? {
            '"' => return Some(()),
            '$' | '`' | '\0' => return None,
            '\\' => match rest.next()? {
                '\n' => {}
                escaped @ ('"' | '\\' | '$' | '`') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
}

/// The letters, digits and underscores that come next.
fn word(rest: &mut Peekable<Chars>) -> String {
    let mut word = String::new();
    while let Some(next) = rest.next_if(|next| next.is_ascii_alphanumeric() || *next == '_') {
        word.push(next);
    }
    word
}

/// Whether a word may name a variable that a shell lets a script set.
fn is_name(word: &str) -> bool {
    let readonly = ["BASHOPTS", "BASH_VERSINFO", "EUID", "PPID", "SHELLOPTS", "UID"];
    word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && !readonly.contains(&word)
}

fn skip_blanks(rest: &mut Peekable<Chars>) {
    while rest.next_if(|next| matches!(next, ' ' | '\t')).is_some() {}
}

fn skip_comment(rest: &mut Peekable<Chars>) {
    while rest.next_if(|next| *next != '\n').is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_shell_is_left_to_it() {
        for text in [
            "A=$B",
            "A=\"$B\"",
            "A=`b`",
            "A=1;B=2",
            "A=1 B=2",
            "A+=1",
            "A =1",
            "echo hi",
            "A=(1 2)",
            "A=b c",
            "A=~/x",
            "A='open",
            "A=\"open",
            "A=b\\",
            "export A",
            "export A=1 B=2",
            "1A=2",
            "A=1 && B=2",
            "UID=4",
            "if x; then",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    /// A shell drops it and joins what stands around it: that is bash's to say, wherever it stands.
    #[test]
    fn a_file_with_a_nul_is_left_to_the_shell() {
        for text in [
            "A=b\0c",
            "A=\\\0",
            "A=b\\\0c",
            "A='\0'",
            "A=\"\\\0\"",
            "A\0=b",
            "# \0\nA=b",
            "A=b\n\0",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
            assert!(
                parse(&text.replace('\0', "x")).is_some() || text.ends_with('\0'),
                "{text:?}"
            );
        }
    }

    #[test]
    fn plain_files_need_no_shell() {
        let text = "# comment\nexport A='1 2'\n\tB=\"x\\\"y\" # c\nC=a,b/8:::%eth0-@+^=\n";
        let expected = [("A", "1 2"), ("B", "x\"y"), ("C", "a,b/8:::%eth0-@+^=")];
        assert_eq!(
            parse(text),
            Some(expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
        );
    }
}
