//! Words of a shell: splitting the `args` key.

use super::error::CommandError;

/// Splits a text into words as a shell does: blanks separate, quotes and backslashes keep together. Nothing is expanded.
///
/// # Errors
/// [`CommandError::Args`] for a quote without an end.
pub(super) fn split(text: &str) -> Result<Vec<String>, CommandError> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\\' => word
                .get_or_insert_default()
                .push(characters.next().ok_or(CommandError::Args)?),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(CommandError::Args)? {
                        '\'' => break,
                        other => word.push(other),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or(CommandError::Args)? {
                        '"' => break,
                        '\\' => match characters.next().ok_or(CommandError::Args)? {
                            escaped @ ('"' | '\\' | '$' | '`') => word.push(escaped),
                            other => word.extend(['\\', other]),
                        },
                        other => word.push(other),
                    }
                }
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use pve_schema::shell::quote;

    use super::*;

    #[test]
    fn quotes_keep_words_together() {
        let cases: [(&str, &[&str]); 4] = [
            ("-kernel /a  -append 'a b'", &["-kernel", "/a", "-append", "a b"]),
            (r#"-x "a \"b\" \n""#, &["-x", r#"a "b" \n"#]),
            (r"a\ b ''", &["a b", ""]),
            ("", &[]),
        ];
        for (text, words) in cases {
            assert_eq!(split(text).unwrap(), words, "{text}");
        }
        for bad in ["'a", "\"a", "a\\"] {
            assert_eq!(split(bad), Err(CommandError::Args), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn quoted_words_come_back(word in "\\PC*") {
            proptest::prop_assert_eq!(split(&quote(&word)).unwrap(), vec![word]);
        }
    }
}
