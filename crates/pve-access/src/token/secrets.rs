//! `priv/token.cfg`: the secrets of API tokens, one line each, `USER@REALM!TOKEN SECRET` (reference 02 §5.2).

use std::collections::BTreeMap;

use pve_cfs::Cfs;
use pve_schema::ids::{TokenId, UserId};
use subtle::ConstantTimeEq as _;

use crate::error::AccessError;
use crate::store::{self, TOKEN_CFG};

/// The content of the file.
#[derive(Default, PartialEq, Eq)]
pub struct Secrets {
    /// Lines that are no token's, as they were.
    kept: Vec<String>,
    secrets: BTreeMap<TokenId, String>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    /// Reads the file's content. Of several lines of one token the last counts.
    pub fn parse(text: &str) -> Self {
        let mut secrets = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let fields = line.split_once(' ').and_then(|(id, secret)| {
                let is_one_word = !secret.is_empty() && !secret.contains(char::is_whitespace);
                is_one_word.then_some((id.parse().ok()?, secret.to_owned()))
            });
            match fields {
                Some((id, secret)) => {
                    secrets.secrets.insert(id, secret);
                }
                None => {
                    log::warn!("{TOKEN_CFG}: keeping a line that is no token's");
                    secrets.kept.push(line.to_owned());
                }
            }
        }
        secrets
    }

    /// The file's content: what nobody understands first, then the tokens in order.
    pub fn print(&self) -> String {
        let lines = self.kept.iter().cloned();
        let tokens = self.secrets.iter().map(|(id, secret)| format!("{id} {secret}"));
        lines.chain(tokens).map(|line| line + "\n").collect()
    }
}

/// Makes a token's secret, in place of the one that it had.
///
/// # Errors
/// The file cannot be changed.
pub(super) fn renew(cfs: &Cfs, id: &TokenId) -> Result<String, AccessError> {
    let secret = uuid::Uuid::new_v4().to_string();
    edit(cfs, |secrets| {
        secrets.secrets.insert(id.clone(), secret.clone());
    })?;
    Ok(secret)
}

/// Forgets a token's secret.
///
/// # Errors
/// The file cannot be changed.
pub(super) fn forget(cfs: &Cfs, id: &TokenId) -> Result<(), AccessError> {
    edit(cfs, |secrets| {
        secrets.secrets.remove(id);
    })
}

/// Forgets the secrets of all tokens of a user.
///
/// # Errors
/// The file cannot be changed.
pub(crate) fn forget_user(cfs: &Cfs, user: &UserId) -> Result<(), AccessError> {
    edit(cfs, |secrets| secrets.secrets.retain(|id, _| id.user != *user))
}

fn edit(cfs: &Cfs, change: impl FnOnce(&mut Secrets)) -> Result<(), AccessError> {
    store::locked(cfs, TOKEN_CFG, "updating token secrets failed", || {
        let text = cfs.read_text(TOKEN_CFG)?.unwrap_or_default();
        let mut secrets = Secrets::parse(&text);
        change(&mut secrets);
        let new = secrets.print();
        if new != text {
            cfs.write(TOKEN_CFG, new.as_bytes())?;
        }
        Ok(())
    })
}

/// Whether one of the lines is `TOKEN SECRET`, compared in time that does not depend on the secret.
pub(super) fn is_listed(content: &str, token: &TokenId, secret: &str) -> bool {
    if secret.is_empty() || secret.contains(['\n', '\0']) {
        return false;
    }
    let wanted = format!("{token} {secret}");
    content.lines().fold(false, |found, line| {
        found | bool::from(line.as_bytes().ct_eq(wanted.as_bytes()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_file_is_sorted_and_keeps_what_it_does_not_know() {
        let mut secrets =
            Secrets::parse("zed@pve!ci b\n# by hand\nalice@pve!ci a\nzed@pve!ci c\nbob@pve!x too many words\n");
        assert_eq!(
            secrets.print(),
            "# by hand\nbob@pve!x too many words\nalice@pve!ci a\nzed@pve!ci c\n"
        );
        secrets.secrets.remove(&"alice@pve!ci".parse().unwrap());
        assert_eq!(secrets.print(), "# by hand\nbob@pve!x too many words\nzed@pve!ci c\n");
    }

    proptest! {
        #[test]
        fn what_was_printed_is_read_as_the_same(text in "[a-z@! \n#é]{0,80}") {
            let once = Secrets::parse(&text);
            prop_assert_eq!(&Secrets::parse(&once.print()), &once);
        }
    }
}
