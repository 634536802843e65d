//! Lists in one text.

/// Splits a list (reference 03 §2.7): at NUL only if the text has one; else every `,` and `;` counts as a blank,
/// leading blanks are dropped and runs of white space separate. Empty elements cannot occur, an empty text is an empty
/// list.
pub fn split(text: &str) -> Vec<&str> {
    if text.contains('\0') {
        return text.trim_end_matches('\0').split('\0').collect();
    }
    text.split(|c: char| c == ',' || c == ';' || c.is_whitespace())
        .filter(|element| !element.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 03 §8.5, vector 52.
    #[test]
    fn lists_split_at_commas_semicolons_and_blanks() {
        assert_eq!(split("a;b c"), ["a", "b", "c"]);
        assert_eq!(split(" ,a,"), ["a"]);
        assert_eq!(split("a,,b"), ["a", "b"]);
        assert_eq!(split(" a , b;c d"), ["a", "b", "c", "d"]);
        assert!(split(",").is_empty());
        assert_eq!(split("x\0y z"), ["x", "y z"]);
        assert!(split("").is_empty());
    }
}
