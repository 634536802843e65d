//! `CIPHERS`: OpenSSL's language of cipher lists, as ciphers(1) describes it.
//!
//! A list is read from left to right. Each of its words takes suites in at the end, moves them there, or throws them
//! out:
//!
//! | word | does |
//! |---|---|
//! | `A` | takes in what `A` names and is not in yet |
//! | `A+B` | …what both name |
//! | `-A` | throws out; may come in again |
//! | `!A` | throws out for good |
//! | `+A` | moves to the end |
//! | `@STRENGTH` | sorts by length of key |
//! | `@SECLEVEL=n` | the level below which nothing is spoken, whatever the list names |
//!
//! Words are separated by colons, commas, semicolons or blanks; words that nobody knows select nothing. Only the list
//! is understood here: what of it the TLS library has is `provider`'s affair.

use super::suites::{self, Suite};

/// What `DEFAULT` at the beginning of a list stands for.
const DEFAULT: &str = "ALL:!COMPLEMENTOFDEFAULT:!eNULL";

/// What a list that begins with one of these words is instead, whatever follows (RFC 6460). The longer word first.
const SUITE_B: [(&str, &str); 4] = [
    ("SUITEB128ONLY", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("SUITEB128C2", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    (
        "SUITEB128",
        "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384",
    ),
    ("SUITEB192", "ECDHE-ECDSA-AES256-GCM-SHA384"),
];

/// A list that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CipherListError {
    /// Something that can begin no word, at this byte.
    #[error("no cipher is named at '{0}'")]
    Syntax(String),
    /// `@` and something unknown.
    #[error("unknown command '@{0}'")]
    Command(String),
    /// Nothing is selected.
    #[error("no cipher matches")]
    Empty,
}

/// What a list says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CipherList {
    /// The suites that it selects, best first.
    pub suites: Vec<&'static Suite>,
    /// Those of them that it names one by one.
    pub named: Vec<&'static Suite>,
    /// Words that nobody knows.
    pub unknown: Vec<String>,
    /// `@SECLEVEL`, 0 to 5.
    pub security_level: Option<u8>,
}

/// What a word does with the suites that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Add,
    Remove,
    Kill,
    MoveToEnd,
}

/// Suites while a list is read.
struct Reader {
    /// All that were not killed, each with whether it is in.
    suites: Vec<(&'static Suite, bool)>,
    named: Vec<&'static Suite>,
    unknown: Vec<String>,
    security_level: Option<u8>,
}

/// Reads a list.
///
/// # Errors
/// [`CipherListError`].
pub fn parse(text: &str) -> Result<CipherList, CipherListError> {
    let text = SUITE_B
        .iter()
        .find(|(word, _)| text.starts_with(word))
        .map_or(text, |(_, list)| list);
    let mut reader = Reader {
        suites: suites::all().iter().map(|suite| (suite, false)).collect(),
        named: Vec::new(),
        unknown: Vec::new(),
        security_level: None,
    };
    match text.strip_prefix("DEFAULT") {
        Some(rest) => {
            reader.read(DEFAULT)?;
            reader.read(rest)?;
        }
        None => reader.read(text)?,
    }
    let suites: Vec<_> = reader
        .suites
        .iter()
        .filter(|(_, is_in)| *is_in)
        .map(|(suite, _)| *suite)
        .collect();
    if suites.is_empty() {
        return Err(CipherListError::Empty);
    }
    reader.named.retain(|suite| suites.contains(suite));
    Ok(CipherList {
        suites,
        named: reader.named,
        unknown: reader.unknown,
        security_level: reader.security_level,
    })
}

fn is_separator(c: char) -> bool {
    matches!(c, ':' | ',' | ';' | ' ')
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '=' | '_')
}

/// The word at the beginning of a text, and what is behind it.
fn split_word(text: &str) -> Result<(&str, &str), CipherListError> {
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    match text.split_at_checked(end) {
        Some((word, rest)) if !word.is_empty() => Ok((word, rest)),
        _ => Err(CipherListError::Syntax(text.chars().take(20).collect())),
    }
}

impl Reader {
    fn read(&mut self, text: &str) -> Result<(), CipherListError> {
        let mut rest = text.trim_start_matches(is_separator);
        while let Some(first) = rest.chars().next() {
            let after = rest.get(first.len_utf8()..).unwrap_or_default();
            rest = match first {
                '@' => self.command(after)?,
                '-' => self.rule(Action::Remove, after)?,
                '!' => self.rule(Action::Kill, after)?,
                '+' => self.rule(Action::MoveToEnd, after)?,
                _ => self.rule(Action::Add, rest)?,
            }
            .trim_start_matches(is_separator);
        }
        Ok(())
    }

    /// What follows an `@`; returns what is behind it.
    fn command<'t>(&mut self, text: &'t str) -> Result<&'t str, CipherListError> {
        let (word, rest) = split_word(text)?;
        let level = word.strip_prefix("SECLEVEL=");
        match (word, level.map(str::as_bytes)) {
            ("STRENGTH", _) => {
                // Those that are not in stay where they are, which matters to nobody but their like.
                let (mut active, idle): (Vec<_>, Vec<_>) = self.suites.drain(..).partition(|(_, is_in)| *is_in);
                active.sort_by_key(|(suite, _)| std::cmp::Reverse(suite.bits));
                self.suites = idle;
                self.suites.extend(active);
            }
            (_, Some([digit @ b'0'..=b'5'])) => self.security_level = Some(digit - b'0'),
            _ => return Err(CipherListError::Command(word.to_owned())),
        }
        Ok(rest.trim_start_matches(|c| !is_separator(c)))
    }

    /// Words with `+` between them; returns what is behind them.
    fn rule<'t>(&mut self, action: Action, text: &'t str) -> Result<&'t str, CipherListError> {
        let (word, mut rest) = split_word(text)?;
        let mut words = vec![word];
        while let Some(more) = rest.strip_prefix('+') {
            let (word, behind) = split_word(more)?;
            words.push(word);
            rest = behind;
        }
        let any = suites::all().first();
        let is_known = |word: &str| any.is_none_or(|suite| suite.matches(word).is_some());
        if let Some(unknown) = words.iter().find(|word| !is_known(word)) {
            self.unknown.push((*unknown).to_owned());
            return Ok(rest.trim_start_matches(|c| !is_separator(c)));
        }
        if action == Action::Add
            && let [word] = words.as_slice()
        {
            self.named.extend(suites::find(word));
        }
        self.apply(action, |suite| {
            words.iter().all(|word| suite.matches(word) == Some(true))
        });
        Ok(rest)
    }

    fn apply(&mut self, action: Action, names: impl Fn(&Suite) -> bool) {
        let is_meant = |(suite, is_in): &(&'static Suite, bool)| match action {
            Action::Add => !is_in && names(suite),
            Action::Kill => names(suite),
            Action::Remove | Action::MoveToEnd => *is_in && names(suite),
        };
        let (mut meant, mut others): (Vec<_>, Vec<_>) = self.suites.drain(..).partition(is_meant);
        self.suites = match action {
            Action::Kill => others,
            Action::Add | Action::MoveToEnd => {
                others.extend(meant.into_iter().map(|(suite, _)| (suite, true)));
                others
            }
            // They come in again before all others.
            Action::Remove => {
                meant.iter_mut().for_each(|(_, is_in)| *is_in = false);
                meant.extend(others);
                meant
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    /// What `openssl ciphers` makes of a list; `None` if it refuses it. Its TLS 1.3 suites are not the list's.
    fn openssl(list: &str) -> Option<Vec<String>> {
        // A list that begins with a dash would be an option.
        let list = if list.starts_with('-') {
            format!(":{list}")
        } else {
            list.to_owned()
        };
        let output = Command::new("openssl").args(["ciphers", &list]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let names = text.trim().split(':').filter(|name| !name.starts_with("TLS_"));
        output.status.success().then(|| names.map(str::to_owned).collect())
    }

    fn ours(list: &str) -> Option<Vec<String>> {
        let parsed = parse(list).ok()?;
        Some(parsed.suites.iter().map(|suite| suite.name.to_owned()).collect())
    }

    #[test]
    fn lists_mean_what_openssl_makes_of_them() {
        for list in [
            "ALL",
            "ALL:COMPLEMENTOFALL",
            "DEFAULT",
            "DEFAULT:@STRENGTH",
            "DEFAULT:!DHE",
            "DEFAULT:ADH",
            "DEFAULTX",
            "DEFAULT+AES",
            "HIGH:!aNULL:!MD5",
            "HIGH:!aNULL:!kRSA:!PSK:!SRP:!MD5:!RC4",
            "EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH",
            "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20:!aNULL:!eNULL:!aDSS:!SHA1:!AESCCM",
            "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:DHE-RSA-CHACHA20-POLY1305",
            "kEECDH:kEDH:-AES128:AES128:+CHACHA20",
            "ALL:-ECDHE:-DHE:ECDHE",
            "ALL:-ECDHE:-DHE:ALL",
            "RSA:aRSA:@STRENGTH",
            "AES128:AES256:@STRENGTH:+ECDHE",
            "AES128,AES256 CHACHA20;ARIA",
            "SHA256:SHA384:SHA1:MD5",
            "TLSv1.2:-SSLv3:TLSv1.0",
            "FIPS:!AES128",
            "AES128-SHA@STRENGTH",
            "AES128-SHA:@SECLEVEL=3",
            "FOO:AES128-SHA",
            "ECDHE+FOO:AES128-SHA",
            "SUITEB128:AES128-SHA",
            "SUITEB128ONLY",
            "SUITEB128C2",
            "SUITEB192",
            "PSK:SRP:aSRP:kRSAPSK:CAMELLIA",
            "COMPLEMENTOFDEFAULT",
            "eNULL:aNULL",
            "CBC:!CAMELLIA256",
            "!ALL:ECDHE",
            "AES128-SHA:DEFAULT",
            "",
            ":",
            "+",
            "!",
            "ECDHE+",
            "FOO",
            "@FOO:AES128-SHA",
            "@STRENGTH",
            "AES128-SHA:@SECLEVEL=9",
            "AES128-SHA:@SECLEVEL=",
            "AES128-SHA:@SECLEVEL=22",
            "AES128-SHA*",
            "AES128-SHA/x",
            "\"AES128-SHA\"",
            "aes128-sha",
            "TLS_AES_128_GCM_SHA256",
        ] {
            assert_eq!(ours(list), openssl(list), "{list}");
        }
    }

    /// OpenSSL takes these since 3.2.
    #[test]
    fn suites_have_ianas_names_too() {
        assert_eq!(
            ours("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:TLS_RSA_WITH_AES_128_CBC_SHA"),
            ours("ECDHE-RSA-AES128-GCM-SHA256:AES128-SHA")
        );
    }

    #[test]
    fn what_was_meant_is_remembered() {
        let list = parse("HIGH:AES128-SHA:-ECDHE:ECDHE-RSA-AES128-SHA:!AES256:AES256-SHA:what:@SECLEVEL=3").unwrap();
        let named: Vec<_> = list.named.iter().map(|suite| suite.name).collect();
        assert_eq!(named, ["AES128-SHA", "ECDHE-RSA-AES128-SHA"]);
        assert_eq!((list.unknown, list.security_level), (vec!["what".to_owned()], Some(3)));
    }

    #[test]
    fn mistakes_are_named() {
        for (list, expected) in [
            ("ECDHE:*", "no cipher is named at '*'"),
            ("@SECLEVEL=6", "unknown command '@SECLEVEL=6'"),
            ("FOO", "no cipher matches"),
        ] {
            assert_eq!(parse(list).unwrap_err().to_string(), expected);
        }
    }

    /// A rule. Some words stand alone: COMPLEMENTOFDEFAULT is forgotten by OpenSSL beside HIGH or a suite's name.
    fn item() -> impl Strategy<Value = String> {
        let groups = "ALL HIGH MEDIUM DEFAULT COMPLEMENTOFALL ECDHE kECDHE EECDH DHE kDHE EDH kRSA aRSA \
                      RSA aECDSA ECDSA AESGCM AES AES128 AES256 CHACHA20 SHA256 SHA384 SHA1 TLSv1.2 SSLv3 aNULL eNULL \
                      PSK DSS CAMELLIA ARIA AESCCM NOPE";
        let alone = [
            "COMPLEMENTOFDEFAULT",
            "ECDHE-RSA-AES256-GCM-SHA384",
            "DHE-RSA-AES128-GCM-SHA256",
            "AES128-SHA",
        ];
        let group = prop::sample::select(groups.split_whitespace().collect::<Vec<_>>());
        let words = prop_oneof![
            4 => prop::collection::vec(group, 1..3).prop_map(|words| words.join("+")),
            1 => prop::sample::select(alone.to_vec()).prop_map(str::to_owned),
        ];
        let rule = ("[-+!]?", words).prop_map(|(sign, words)| sign + &words);
        prop_oneof![12 => rule, 1 => Just("@STRENGTH".to_owned()), 1 => "@SECLEVEL=[0-5]"]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// OpenSSL itself is the judge.
        #[test]
        fn lists_mean_what_openssl_says(items in prop::collection::vec(item(), 1..7), separator in "[:, ;]") {
            let list = items.join(&separator);
            prop_assert_eq!(ours(&list), openssl(&list), "{}", list);
        }

        #[test]
        fn any_text_is_a_list_or_a_mistake(text in "\\PC*", list in "[-+!@:=,A-Z0-9 ]*") {
            let _ = (parse(&text), parse(&list));
        }
    }
}
