//! The part of the language of Template Toolkit that the pages of web interfaces need (reference 01 §3.10): variables,
//! conditions, and white space that directives swallow.
//!
//! | written | means |
//! |---|---|
//! | `[% name %]` | the variable's text, or nothing |
//! | `[% IF name %]`, `[% UNLESS name %]`, `[% ELSIF name %]`, `[% ELSE %]`, `[% END %]` | a variable is true unless it is empty or `0` |
//! | `[% IF name == 'text' %]`, `!=` | compared as text; either side may be a variable, a text in quotes or a number |
//! | `[%- … -%]` | the white space before or after goes, with one line feed |
//! | `[%# … %]` | nothing |
//!
//! Everything else is an error that names its line. A variable's text is written so that it can neither end a text of
//! a script nor begin an element: what could is an escape of JavaScript, `\u003c` for `<`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The variables of a page.
pub(super) type Variables = BTreeMap<&'static str, String>;

/// What is wrong with a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TemplateError {
    /// `[%` without `%]`.
    #[error("line {0}: the directive does not end")]
    Unclosed(usize),
    /// A directive that is none of the above.
    #[error("line {line}: unknown directive '{text}'")]
    Unknown { line: usize, text: String },
    /// ELSE, ELSIF or END without IF.
    #[error("line {0}: there is no IF before this")]
    NoIf(usize),
    /// IF without END.
    #[error("an IF has no END")]
    NoEnd,
}

/// A condition that is open.
struct Block {
    /// Whether what is around it is written.
    around: bool,
    /// Whether one of its branches was written, or is.
    taken: bool,
    /// Whether this branch is written.
    active: bool,
    /// After this, only END may come.
    last: bool,
}

/// Fills in a template.
///
/// # Errors
/// [`TemplateError`].
pub(super) fn render(template: &str, variables: &Variables) -> Result<String, TemplateError> {
    let mut page = String::with_capacity(template.len());
    let mut blocks: Vec<Block> = Vec::new();
    let (mut rest, mut line, mut swallows) = (template, 1, false);
    loop {
        let (text, found) = match rest.split_once("[%") {
            Some((text, after)) => (text, Some(after)),
            None => (rest, None),
        };
        let mut shown = if swallows { swallow_start(text) } else { text };
        let swallows_before = found.is_some_and(|after| after.starts_with('-'));
        if swallows_before {
            shown = swallow_end(shown);
        }
        if blocks.last().is_none_or(|block| block.active) {
            page.push_str(shown);
        }
        line += text.matches('\n').count();
        let Some(after) = found else { break };
        let (directive, after) = after.split_once("%]").ok_or(TemplateError::Unclosed(line))?;
        swallows = directive.len() > 1 && directive.ends_with('-');
        execute(directive, line, variables, &mut blocks, &mut page)?;
        line += directive.matches('\n').count();
        rest = after;
    }
    if blocks.is_empty() {
        Ok(page)
    } else {
        Err(TemplateError::NoEnd)
    }
}

/// Without blanks at the start up to and with a line feed.
fn swallow_start(text: &str) -> &str {
    let trimmed = text.trim_start_matches([' ', '\t', '\r']);
    trimmed.strip_prefix('\n').unwrap_or(trimmed)
}

/// Without a line feed, and blanks after it, at the end.
fn swallow_end(text: &str) -> &str {
    let trimmed = text.trim_end_matches([' ', '\t']);
    let trimmed = trimmed.strip_suffix('\n').unwrap_or(trimmed);
    trimmed.strip_suffix('\r').unwrap_or(trimmed)
}

/// Does what a directive says.
fn execute(
    directive: &str,
    line: usize,
    variables: &Variables,
    blocks: &mut Vec<Block>,
    page: &mut String,
) -> Result<(), TemplateError> {
    let text = directive.strip_prefix(['-', '+']).unwrap_or(directive);
    let text = text.strip_suffix(['-', '+']).unwrap_or(text).trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(());
    }
    let unknown = || TemplateError::Unknown {
        line,
        text: text.to_owned(),
    };
    let (word, condition) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let holds = || holds(condition.trim(), variables).ok_or_else(unknown);
    let around = blocks.last().is_none_or(|block| block.active);
    match word {
        "IF" | "UNLESS" => {
            let active = around && (holds()? == (word == "IF"));
            blocks.push(Block {
                around,
                taken: active,
                active,
                last: false,
            });
        }
        "ELSIF" | "ELSE" => {
            let block = blocks.last_mut().filter(|block| !block.last);
            let block = block.ok_or(TemplateError::NoIf(line))?;
            let is_else = word == "ELSE";
            if is_else && !condition.is_empty() {
                return Err(unknown());
            }
            block.last = is_else;
            block.active = block.around && !block.taken && (is_else || holds()?);
            block.taken |= block.active;
        }
        "END" if condition.is_empty() => {
            blocks.pop().ok_or(TemplateError::NoIf(line))?;
        }
        _ => {
            let value = value(text, variables).ok_or_else(unknown)?;
            if around {
                escape(value, page);
            }
        }
    }
    Ok(())
}

/// Whether a condition holds; `None` if it is none.
fn holds(condition: &str, variables: &Variables) -> Option<bool> {
    for (operator, is_equal) in [("!=", false), ("==", true)] {
        if let Some((left, right)) = split_outside_quotes(condition, operator) {
            let equal = value(left.trim(), variables)? == value(right.trim(), variables)?;
            return Some(equal == is_equal);
        }
    }
    let value = value(condition, variables)?;
    Some(!value.is_empty() && value != "0")
}

/// Splits at an operator, but for one in a text: it is the first after a word that is no text, or after its end.
fn split_outside_quotes<'a>(condition: &'a str, operator: &str) -> Option<(&'a str, &'a str)> {
    let quote = condition.chars().next().filter(|c| ['\'', '"'].contains(c));
    let start = match quote {
        Some(quote) => condition.get(1..)?.find(quote)? + 2,
        None => 0,
    };
    let at = start + condition.get(start..)?.find(operator)?;
    Some((condition.get(..at)?, condition.get(at + operator.len()..)?))
}

/// What a word stands for: a text in quotes, a number, or a variable; one that is not set is empty.
fn value<'a>(word: &'a str, variables: &'a Variables) -> Option<&'a str> {
    for quote in ['\'', '"'] {
        if let Some(rest) = word.strip_prefix(quote) {
            return rest
                .strip_suffix(quote)
                .filter(|text| !text.contains([quote, '\\', '$']));
        }
    }
    if !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit()) {
        return Some(word);
    }
    // Words in capitals belong to the language.
    let is_name = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let is_variable = word.bytes().all(is_name) && word.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    is_variable.then(|| variables.get(word).map_or("", String::as_str))
}

/// Writes a text so that it is one wherever a page has it.
fn escape(text: &str, page: &mut String) {
    for character in text.chars() {
        let is_risky = matches!(
            character,
            '<' | '>' | '&' | '"' | '\'' | '`' | '\\' | '\u{2028}' | '\u{2029}'
        );
        if is_risky || character.is_control() {
            let _ = write!(page, "\\u{:04x}", u32::from(character));
        } else {
            page.push(character);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        BTreeMap::from([
            ("lang", "de".to_owned()),
            ("zero", "0".to_owned()),
            ("username", "o'</script>@pve".to_owned()),
        ])
    }

    #[test]
    fn pages_are_filled_in() {
        for (template, expected) in [
            ("a [% lang %] b", "a de b"),
            ("[%lang%]", "de"),
            ("[% none %]|", "|"),
            ("[%# a comment %]x", "x"),
            ("[% IF lang %]1[% ELSE %]2[% END %]", "1"),
            ("[% IF zero %]1[% ELSE %]2[% END %]", "2"),
            ("[% IF none %]1[% END %]2", "2"),
            ("[% UNLESS none %]1[% END %]2", "12"),
            ("[% IF lang != 'en' %]1[% END %]", "1"),
            ("[% IF lang == \"de\" %]1[% ELSIF lang %]2[% ELSE %]3[% END %]", "1"),
            ("[% IF lang == 'fr' %]1[% ELSIF lang %]2[% ELSE %]3[% END %]", "2"),
            ("[% IF 'a==b' == lang %]1[% ELSE %]2[% END %]", "2"),
            ("[% IF zero == 0 %]1[% END %]", "1"),
            (
                "[% IF none %][% IF lang %]1[% ELSE %]2[% END %]3[% ELSE %]4[% END %]",
                "4",
            ),
            ("[% IF lang %][% IF none %]1[% ELSE %]2[% END %]3[% END %]", "23"),
            ("a\n  [%- IF lang -%]  \n  b\n  [%- END %]\nc", "a  b\nc"),
            ("a [%- lang -%] b", "adeb"),
            ("'[% username %]'", "'o\\u0027\\u003c/script\\u003e@pve'"),
            ("", ""),
            ("ü[% lang %]ü", "üdeü"),
        ] {
            assert_eq!(render(template, &variables()).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let unknown = |line, text: &str| TemplateError::Unknown {
            line,
            text: text.to_owned(),
        };
        for (template, error) in [
            ("x\n[% lang", TemplateError::Unclosed(2)),
            ("[% IF lang %]", TemplateError::NoEnd),
            ("\n\n[% END %]", TemplateError::NoIf(3)),
            ("[% ELSE %]", TemplateError::NoIf(1)),
            ("[% IF lang %][% ELSE %][% ELSE %][% END %]", TemplateError::NoIf(1)),
            ("[%\nINCLUDE x.tt %]", unknown(1, "INCLUDE x.tt")),
            ("[% lang.upper %]", unknown(1, "lang.upper")),
            ("[% IF %][% END %]", unknown(1, "IF")),
            ("[% IF a && b %][% END %]", unknown(1, "IF a && b")),
            ("[% FOREACH %]", unknown(1, "FOREACH")),
        ] {
            assert_eq!(render(template, &variables()), Err(error), "{template}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_template_breaks_it(template in r"(\[%[-+#]?|-?%\]|IF|END|ELSE|ELSIF|'|==|!=|[a-z ü\n]){0,40}") {
            let _ = render(&template, &variables());
        }
    }
}
