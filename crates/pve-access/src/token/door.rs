//! What the web side may ask and may not read: a Unix socket of `pvedaemon`, its other way in beside port 85.
//!
//! ```text
//! www-data ── verify-token USER@REALM!TOKEN SECRET⏎ ──▶ root: whose uid is that? reads priv/token.cfg
//!          ◀── yes⏎ | no⏎ | error TEXT⏎              ──
//! ```
//!
//! One question a connection. Here are both ends of the conversation; who listens is `pve-http`'s affair.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use pve_cfs::Cfs;
use pve_schema::ids::TokenId;
use pve_schema::{Site, errno_text};

use super::SecretCheck;
use crate::error::AccessError;

/// Where the socket is, below the site's root.
pub const SOCKET: &str = "/run/pvedaemon.sock";
/// Most bytes of a question: more than any token and secret have.
pub const MAX_QUESTION: u64 = 4096;
/// How long the web side waits for an answer, and the root side for a question.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// The web side's end.
#[derive(Debug)]
pub struct Door {
    socket: PathBuf,
}

impl Door {
    /// The door of a site.
    pub fn new(site: &Site) -> Self {
        Self {
            socket: site.path(SOCKET),
        }
    }

    fn ask(&self, question: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.write_all(question.as_bytes())?;
        let mut answer = String::new();
        stream.take(MAX_QUESTION).read_to_string(&mut answer)?;
        match answer.strip_suffix('\n') {
            Some(answer) => Ok(answer.to_owned()),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

impl SecretCheck for Door {
    fn is_secret(&self, token: &TokenId, secret: &str) -> Result<bool, AccessError> {
        if secret.is_empty() || secret.contains(char::is_whitespace) {
            return Ok(false);
        }
        let question = format!("verify-token {token} {secret}\n");
        // Once more where a worker of the daemon ended in between.
        let answer = self.ask(&question).or_else(|_| self.ask(&question)).map_err(|error| {
            let (socket, error) = (self.socket.display(), errno_text(&error));
            AccessError::Unverifiable(format!("unable to ask pvedaemon at '{socket}' - {error}"))
        })?;
        match answer.as_str() {
            "yes" => Ok(true),
            "no" => Ok(false),
            other => Err(AccessError::Unverifiable(format!("pvedaemon said '{other}'"))),
        }
    }
}

/// The root side's end: what to say to a question without its line break.
pub fn answer(cfs: &Cfs, question: &str) -> String {
    let result = match question.split(' ').collect::<Vec<_>>().as_slice() {
        ["verify-token", token, secret] => match token.parse() {
            Ok(token) => cfs.is_secret(&token, secret).map_err(|error| error.to_string()),
            Err(_) => Ok(false),
        },
        _ => Err("no question that is known here".to_owned()),
    };
    match result {
        Ok(true) => "yes\n".to_owned(),
        Ok(false) => "no\n".to_owned(),
        Err(text) => format!("error {}\n", crate::access_control::printable(&text)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_truth_is_a_yes() {
        let root = tempfile::tempdir().unwrap();
        let context = pve_testing::context(root.path(), "n1");
        let cfs = Cfs::new(&context);
        assert_eq!(answer(&cfs, "verify-token joe@pve!ci s3cret"), "no\n");
        cfs.ensure_tree().unwrap();
        cfs.write(crate::store::TOKEN_CFG, b"joe@pve!ci s3cret\n").unwrap();
        for (question, expected) in [
            ("verify-token joe@pve!ci s3cret", "yes\n"),
            ("verify-token joe@pve!ci S3cret", "no\n"),
            ("verify-token joe@pve!ci ", "no\n"),
            ("verify-token joe@pve!c s3cret", "no\n"),
            ("verify-token joe@pve s3cret", "no\n"),
            ("verify-token joe@pve!ci", "error no question that is known here\n"),
            (
                "verify-token joe@pve!ci s3cret more",
                "error no question that is known here\n",
            ),
            ("", "error no question that is known here\n"),
        ] {
            assert_eq!(answer(&cfs, question), expected, "{question}");
        }
    }
}
