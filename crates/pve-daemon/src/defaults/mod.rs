//! Reading `/etc/default/pveproxy` and `/etc/default/pvedaemon` (reference 01 §2.1).
//!
//! Such a file is a shell script: upstream lets bash source it. A file of plain assignments, which nearly all are, is
//! read by [`subset`] without starting a shell; whatever that cannot be sure of goes to [`bash`]. What the values mean
//! is in [`crate::settings`].

mod bash;
pub mod subset;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pve_schema::errno_text;

/// How long a file may keep its shell busy. Upstream waits for ever; a daemon that hangs at its start helps nobody.
const SHELL_DEADLINE: Duration = Duration::from_secs(10);

/// Variables and their values; empty values are left out, since they mean the same as none.
pub type Variables = BTreeMap<String, String>;

/// A defaults file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum DefaultsError {
    /// It is there, but cannot be opened.
    #[error("unable to read '{}' - {}", .path.display(), errno_text(.error))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It needs a shell, and that failed.
    #[error("unable to source '{}' - {}", .path.display(), errno_text(.error))]
    Shell {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It kept its shell busy for too long.
    #[error("unable to source '{}' - no end after {} s", .0.display(), SHELL_DEADLINE.as_secs())]
    Deadline(PathBuf),
}

/// The values of `names` after sourcing `path`. Nothing at all unless it is a regular file; otherwise a variable that
/// the file does not set counts with its value from the environment.
///
/// # Errors
/// When the file exists but cannot be read.
pub fn read(path: &Path, names: &[&str]) -> Result<Variables, DefaultsError> {
    if !path.is_file() {
        return Ok(Variables::new());
    }
    let content = std::fs::read(path).map_err(|error| DefaultsError::Unreadable {
        path: path.to_owned(),
        error,
    })?;
    let plain = std::str::from_utf8(&content).ok().and_then(subset::parse);
    let mut values = match plain {
        Some(assigned) => with_environment(assigned, names),
        None => bash::source(path, names, SHELL_DEADLINE)?,
    };
    values.retain(|name, value| names.contains(&name.as_str()) && !value.is_empty());
    Ok(values)
}

/// Adds what the environment has and the file does not set.
fn with_environment(mut assigned: Variables, names: &[&str]) -> Variables {
    for &name in names {
        if !assigned.contains_key(name)
            && let Ok(value) = std::env::var(name)
        {
            assigned.insert(name.to_owned(), value);
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Variables {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pveproxy");
        std::fs::write(&path, text).unwrap();
        read(
            &path,
            &["MAX_WORKERS", "POLICY", "LISTEN_IP", "TLS_KEY_FILE", "DENY_FROM"],
        )
        .unwrap()
    }

    fn variables(pairs: &[(&str, &str)]) -> Variables {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn no_file_means_no_values() {
        assert_eq!(
            read(Path::new("/nonexistent/pveproxy"), &["PATH"]).unwrap(),
            Variables::new()
        );
        assert_eq!(read(Path::new("/"), &["PATH"]).unwrap(), Variables::new());
    }

    #[test]
    fn the_environment_counts_if_the_file_exists() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pveproxy");
        std::fs::write(&path, "").unwrap();
        assert!(read(&path, &["PATH"]).unwrap().contains_key("PATH"));
        std::fs::write(&path, "PATH=/mine\n").unwrap();
        assert_eq!(read(&path, &["PATH"]).unwrap(), variables(&[("PATH", "/mine")]));
    }

    /// Every consequence of sourcing in reference 01 §2.1. Bash itself is the judge: where the subset parser takes a
    /// file, bash must read the same out of it.
    #[test]
    fn files_mean_what_bash_makes_of_them() {
        for (text, expected) in [
            ("MAX_WORKERS=5\n", &[("MAX_WORKERS", "5")][..]),
            ("export MAX_WORKERS=5", &[("MAX_WORKERS", "5")]),
            ("POLICY=deny # note\n", &[("POLICY", "deny")]),
            ("POLICY=deny#note\n", &[("POLICY", "deny#note")]),
            (
                "# POLICY=deny\n\n  LISTEN_IP=\"10.0.0.1\"  \n",
                &[("LISTEN_IP", "10.0.0.1")],
            ),
            (
                "LISTEN_IP='a b'\"c \\\"\\\\\\x\"d\\ e\n",
                &[("LISTEN_IP", "a bc \"\\\\xd e")],
            ),
            ("LISTEN_IP=1.2.\\\n3.4\n", &[("LISTEN_IP", "1.2.3.4")]),
            ("LISTEN_IP=\"1.2.\\\n3.4\"\n", &[("LISTEN_IP", "1.2.3.4")]),
            ("LISTEN_IP='1\n2'\n", &[("LISTEN_IP", "1\n2")]),
            ("DENY_FROM=a\nDENY_FROM=b\n", &[("DENY_FROM", "b")]),
            ("DENY_FROM=a\nDENY_FROM+=b\n", &[("DENY_FROM", "ab")]),
            ("DENY_FROM=\nPOLICY=\"\"\n", &[]),
            ("LISTEN_IP = 1.2.3.4\n", &[]),
            ("TLS_KEY_FILE=/x y\n", &[]),
            (
                "MAX_WORKERS=4\r\nPOLICY=deny\r\n",
                &[("MAX_WORKERS", "4\r"), ("POLICY", "deny\r")],
            ),
            ("X=5; MAX_WORKERS=$((X+1))\n", &[("MAX_WORKERS", "6")]),
            ("MAX_WORKERS=`echo 7`\n", &[("MAX_WORKERS", "7")]),
            ("MAX_WORKERS=4\nif then\nPOLICY=deny\n", &[("MAX_WORKERS", "4")]),
            ("MAX_WORKERS=4\nexit\n", &[]),
            ("echo POLICY:deny\nMAX_WORKERS=4\n", &[("MAX_WORKERS", "4")]),
            ("UNKNOWN=1\nPOLICY=deny POLICY=allow\n", &[("POLICY", "allow")]),
            ("LISTEN_IP=\"a\nb\" # c\n", &[("LISTEN_IP", "a\nb")]),
            ("TLS_KEY_FILE=~/key\n", &[("TLS_KEY_FILE", "HOME/key")]),
        ] {
            let home = std::env::var("HOME").unwrap_or_default();
            let expected: Vec<_> = expected
                .iter()
                .map(|(name, value)| (*name, value.replace("HOME", &home)))
                .collect();
            let expected = expected
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect();
            assert_eq!(read_text(text), expected, "{text:?}");
            if let Some(plain) = subset::parse(text) {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("file");
                std::fs::write(&path, text).unwrap();
                let names: Vec<&str> = plain.keys().map(String::as_str).collect();
                assert_eq!(bash::source(&path, &names, SHELL_DEADLINE).unwrap(), plain, "{text:?}");
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(300))]

        /// The judge of the subset parser is bash: whatever it takes, bash reads the same way.
        #[test]
        fn plain_files_mean_to_bash_what_they_mean_here(text in "[ABx =\"'\\\\#\n\t\r,.:/-]{0,24}", start in "(A=|export B=|)") {
            let text = format!("{start}{text}");
            if let Some(plain) = subset::parse(&text) {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("file");
                std::fs::write(&path, &text).unwrap();
                let mut expected = plain.clone();
                for name in ["A", "B", "AB"] {
                    expected.entry(name.to_owned()).or_default();
                }
                let names: Vec<&str> = expected.keys().map(String::as_str).collect();
                let told = bash::source(&path, &names, SHELL_DEADLINE).unwrap();
                proptest::prop_assert_eq!(told, expected, "{:?}", text);
            }
        }

        #[test]
        fn any_text_is_parsed_or_left_to_the_shell(text in "\\PC*") {
            let _ = subset::parse(&text);
        }
    }

    #[test]
    fn a_shell_that_never_ends_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pveproxy");
        std::fs::write(&path, "while :; do :; done\n").unwrap();
        let error = bash::source(&path, &["POLICY"], Duration::from_millis(200)).unwrap_err();
        assert!(matches!(error, DefaultsError::Deadline(_)), "{error}");
    }
}
