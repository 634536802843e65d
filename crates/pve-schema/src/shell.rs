//! Words of a command line, as logs and `showcmd` tell them.

/// A word as a shell takes it back: as it is, or in single quotes.
pub fn quote(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_that_a_shell_would_change_are_quoted() {
        for (word, expected) in [
            ("a", "a"),
            ("user@host:/a_b-c.d,e=f%g+h", "user@host:/a_b-c.d,e=f%g+h"),
            ("", "''"),
            ("a b", "'a b'"),
            ("*.log", "'*.log'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("ü", "'ü'"),
        ] {
            assert_eq!(quote(word), expected);
        }
    }
}
