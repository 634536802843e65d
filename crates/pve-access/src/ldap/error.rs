//! What can go wrong with a directory.

use crate::error::AccessError;

/// What can go wrong with a directory.
#[derive(Debug, thiserror::Error)]
pub enum LdapError {
    /// A realm without servers.
    #[error("realm {0} has no server")]
    NoServer(String),
    /// A name to search with, and no password for it.
    #[error("missing password for realm {0}")]
    NoBindPassword(String),
    /// No server could be reached, or none agreed upon TLS.
    #[error("{}", .0.join(", "))]
    Connect(Vec<String>),
    /// Who searches is not let in.
    #[error("ldap bind failed: {0}")]
    Bind(String),
    /// The user's name or password is wrong, or the directory cannot tell.
    #[error("{0}")]
    Proof(String),
    /// There is no such user.
    #[error("user dn is empty")]
    NoUser,
    /// A search failed.
    #[error("ldap search failed: {0}")]
    Search(String),
    /// A directory that does not tell what it holds.
    #[error("the server names no default naming context - set 'base_dn'")]
    NoBase,
    /// A directory that does not come to an end.
    #[error("more than {0} entries")]
    TooMany(usize),
    /// A page without entries that is not the last.
    #[error("ldap search failed: the server sent an empty page and wants to be asked on")]
    EmptyPage,
    /// A directory that takes too long with all of it.
    #[error("ldap search failed: the server took too long")]
    Late,
    /// TLS cannot be set up with what is configured.
    #[error("{0}")]
    Tls(String),
}

impl From<LdapError> for AccessError {
    fn from(error: LdapError) -> Self {
        Self::plain(error.to_string())
    }
}

/// A library's error as people want to read it.
pub(super) fn text(error: &ldap3::LdapError) -> String {
    use ldap3::LdapError as E;
    match error {
        E::LdapResult { result } => result_text(result),
        E::Io { source } => source.to_string(),
        E::Rustls { source } => source.to_string(),
        E::Timeout { .. } => "timeout".to_owned(),
        E::FilterParsing => "invalid filter".to_owned(),
        // The connection's end, seen from several places.
        E::OpSend { .. } | E::ResultRecv { .. } | E::IdScrubSend { .. } | E::EndOfStream => {
            "the server closed the connection".to_owned()
        }
        other => other.to_string(),
    }
}

/// A server's answer that is no yes: `invalidCredentials (49): its text`.
fn result_text(result: &ldap3::LdapResult) -> String {
    let all = result.to_string();
    // The library tells the name of a code nowhere else.
    let name = all
        .split_once('(')
        .and_then(|(_, rest)| rest.split_once(')'))
        .map_or("", |(name, _)| name);
    let code = result.rc;
    match result.text.trim_matches(['\0', ' ']) {
        "" => format!("{name} ({code})"),
        text => format!("{name} ({code}): {text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_name_number_and_text() {
        let result = |rc: u32, said: &str| {
            text(&ldap3::LdapError::from(ldap3::LdapResult {
                rc,
                matched: String::new(),
                text: said.to_owned(),
                refs: Vec::new(),
                ctrls: Vec::new(),
            }))
        };
        assert_eq!(result(49, ""), "invalidCredentials (49)");
        assert_eq!(result(53, "no (really)"), "unwillingToPerform (53): no (really)");
        assert_eq!(result(4711, "x\0"), "unknown (4711): x");
    }
}
