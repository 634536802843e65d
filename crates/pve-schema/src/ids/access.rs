//! Users and tokens.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Most characters a user id may have (reference 02 §2).
const MAX_USER_ID: usize = 64;
/// Fewest characters a user id may have.
const MIN_USER_ID: usize = 3;

/// A user: `NAME@REALM` (reference 02 §2). The name may itself contain `@`: the last `@` whose tail is a realm splits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId {
    text: String,
    at: usize,
}

/// A text that is no user id.
#[derive(Debug, thiserror::Error)]
pub enum InvalidUserId {
    /// Fewer than three characters.
    #[error("user name '{0}' is too short")]
    TooShort(String),
    /// More than 64 characters.
    #[error("user name '{text}' is too long ({length} > {MAX_USER_ID})")]
    TooLong {
        /// What was given.
        text: String,
        /// Its length in characters.
        length: usize,
    },
    /// Not `NAME@REALM`.
    #[error("value '{0}' does not look like a valid user name")]
    Malformed(String),
    /// Not `NAME@REALM!TOKEN`.
    #[error("value '{0}' does not look like a valid token ID")]
    Token(String),
}

/// Whether a text is a realm's name: `[A-Za-z][A-Za-z0-9.\-_]+`. Token names follow the same rule.
fn is_realm(text: &str) -> bool {
    text.len() >= 2
        && text.as_bytes()[0].is_ascii_alphabetic()
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
}

/// Whether a text is the part before `@`: `[^\s:/]+`.
fn is_user_part(text: &str) -> bool {
    !text.is_empty() && !text.chars().any(|c| c.is_whitespace() || c == ':' || c == '/')
}

impl UserId {
    /// `root@pam`, who may do everything.
    pub fn root() -> Self {
        Self {
            text: "root@pam".to_owned(),
            at: 4,
        }
    }

    /// Whether this is `root@pam`.
    pub fn is_root(&self) -> bool {
        self.text == "root@pam"
    }

    /// The part before the realm.
    pub fn name(&self) -> &str {
        &self.text[..self.at]
    }

    /// The realm.
    pub fn realm(&self) -> &str {
        &self.text[self.at + 1..]
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl TryFrom<String> for UserId {
    type Error = InvalidUserId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let length = text.chars().count();
        if length < MIN_USER_ID {
            return Err(InvalidUserId::TooShort(text));
        }
        if length > MAX_USER_ID {
            return Err(InvalidUserId::TooLong { text, length });
        }
        // A realm holds no `@`, so only the last one can split.
        match text.rsplit_once('@') {
            Some((name, realm)) if is_user_part(name) && is_realm(realm) => {
                let at = name.len();
                Ok(Self { text, at })
            }
            _ => Err(InvalidUserId::Malformed(text)),
        }
    }
}

impl FromStr for UserId {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.to_owned().try_into()
    }
}

impl From<UserId> for String {
    fn from(user: UserId) -> Self {
        user.text
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// An API token: `NAME@REALM!TOKEN`, split at the last `!`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId {
    /// The token's owner.
    pub user: UserId,
    /// The token's name.
    pub name: String,
}

impl FromStr for TokenId {
    type Err = InvalidUserId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidUserId::Token(text.to_owned());
        let (user, name) = text.rsplit_once('!').ok_or_else(invalid)?;
        if !is_realm(name) {
            return Err(invalid());
        }
        Ok(Self {
            user: user.parse().map_err(|_| invalid())?,
            name: name.to_owned(),
        })
    }
}

impl TryFrom<String> for TokenId {
    type Error = InvalidUserId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<TokenId> for String {
    fn from(token: TokenId) -> Self {
        token.to_string()
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}!{}", self.user, self.name)
    }
}

/// Who is calling: a user, or one of a user's tokens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum AuthId {
    /// A user.
    User(UserId),
    /// A user's API token.
    Token(TokenId),
}

impl AuthId {
    /// `root@pam`.
    pub fn root() -> Self {
        Self::User(UserId::root())
    }

    /// Whether this is the user `root@pam` (a token of that user is not).
    pub fn is_root(&self) -> bool {
        matches!(self, Self::User(user) if user.is_root())
    }

    /// The user, or the token's owner.
    pub fn user(&self) -> &UserId {
        match self {
            Self::User(user) => user,
            Self::Token(token) => &token.user,
        }
    }
}

impl FromStr for AuthId {
    type Err = InvalidUserId;

    /// A text that is both (`a@pve!t` is no user, since a realm holds no `!`) cannot be.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(user) => Ok(Self::User(user)),
            Err(error) => text.parse().map(Self::Token).map_err(|_| error),
        }
    }
}

impl TryFrom<String> for AuthId {
    type Error = InvalidUserId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<AuthId> for String {
    fn from(id: AuthId) -> Self {
        id.to_string()
    }
}

impl From<UserId> for AuthId {
    fn from(user: UserId) -> Self {
        Self::User(user)
    }
}

impl fmt::Display for AuthId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(user) => user.fmt(f),
            Self::Token(token) => token.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 02 §16, vectors 1 to 7.
    #[test]
    fn user_and_token_ids() {
        let message = |text: &str| text.parse::<UserId>().unwrap_err().to_string();
        assert_eq!(message("a@"), "user name 'a@' is too short");
        assert_eq!(message("a@p"), "value 'a@p' does not look like a valid user name");
        let user: UserId = "root@pam@pam".parse().unwrap();
        assert_eq!((user.name(), user.realm()), ("root@pam", "pam"));
        for bad in ["x:y@pam", "a/b@pam", "a b@pve", "alice@1pve", "a@pve!t"] {
            assert!(bad.parse::<UserId>().is_err(), "{bad}");
        }
        assert!(message(&format!("{}@pve", "x".repeat(61))).ends_with("is too long (65 > 64)"));
        for bad in ["root@pam!t", "root@pam!1tok", "root@pam!tok!x", "root@pam"] {
            assert!(bad.parse::<TokenId>().is_err(), "{bad}");
        }
        let token: TokenId = "a!b@pve!tok".parse().unwrap();
        assert_eq!(
            (token.user.name(), token.user.realm(), token.name.as_str()),
            ("a!b", "pve", "tok")
        );
    }
}
