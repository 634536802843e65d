//! API tokens (reference 02 §5.2, §6.6, §12.3).
//!
//! | module | holds |
//! |---|---|
//! | here | whether a token header is good |
//! | `secrets` | `priv/token.cfg` |
//! | [`change`] | making, changing and deleting tokens |
//! | [`door`] | how the web side, which may not read the secrets, learns whether one is right |

pub mod change;
pub mod door;
pub mod secrets;

use pve_cfs::Cfs;
use pve_schema::ids::TokenId;

use crate::error::AccessError;
use crate::rights::is_past;
use crate::store::TOKEN_CFG;
use crate::user_config::UserConfig;

/// Tells whether a secret is a token's. Root reads the file; the web side, which may not, asks the root side.
pub trait SecretCheck: Send + Sync {
    /// Whether this is the token's secret.
    ///
    /// # Errors
    /// The question cannot be answered.
    fn is_secret(&self, token: &TokenId, secret: &str) -> Result<bool, AccessError>;
}

impl SecretCheck for Cfs {
    fn is_secret(&self, token: &TokenId, secret: &str) -> Result<bool, AccessError> {
        let content = self.read_text(TOKEN_CFG)?.unwrap_or_default();
        Ok(secrets::is_listed(&content, token, secret))
    }
}

/// Checks the value of a token header, `USER@REALM!TOKEN=SECRET`.
///
/// # Errors
/// The reason, which is for the log alone.
pub fn verify(config: &UserConfig, secrets: &dyn SecretCheck, value: &str, now: i64) -> Result<TokenId, AccessError> {
    if value.is_empty() {
        return Err(AccessError::plain("no API token specified"));
    }
    let (id, secret) = value
        .rsplit_once('=')
        .ok_or_else(|| AccessError::plain("no tokenid specified"))?;
    let id: TokenId = id.parse().map_err(|_| {
        AccessError::plain(format!(
            "'{id}' is not a valid token ID - not able to split into user and token parts"
        ))
    })?;
    config.require_active_user(&id.user, now)?;
    let token = config.require_token(&id)?;
    if is_past(token.expire, now) {
        return Err(AccessError::plain(format!("token '{}' access expired", id.name)));
    }
    if secrets.is_secret(&id, secret)? {
        Ok(id)
    } else {
        Err(AccessError::plain("invalid token value!"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Content(&'static str);

    impl SecretCheck for Content {
        fn is_secret(&self, token: &TokenId, secret: &str) -> Result<bool, AccessError> {
            Ok(secrets::is_listed(self.0, token, secret))
        }
    }

    #[test]
    fn a_token_header_is_checked_step_by_step() {
        let config = UserConfig::parse(include_str!("../../tests/data/user-d.cfg"));
        let secrets = Content("alice@pve!ci s3cret\nalice@pve!full x=y\n");
        let now = 1_700_000_001;
        let verify = |value: &str, now| match verify(&config, &secrets, value, now) {
            Ok(id) => id.to_string(),
            Err(error) => error.to_string(),
        };
        for (value, outcome) in [
            ("", "no API token specified"),
            ("alice@pve!ci", "no tokenid specified"),
            (
                "alice@pve=x",
                "'alice@pve' is not a valid token ID - not able to split into user and token parts",
            ),
            ("zed@pve!ci=x", "no such user ('zed@pve')"),
            ("carol@corp!ci=x", "user 'carol@corp' is disabled"),
            ("alice@pve!nix=x", "no such token 'nix' for user 'alice@pve'"),
            ("alice@pve!ci=x", "invalid token value!"),
            ("alice@pve!ci=", "invalid token value!"),
            ("alice@pve!ci=s3cret", "alice@pve!ci"),
        ] {
            assert_eq!(verify(value, now), outcome, "{value}");
        }
        assert_eq!(verify("alice@pve!full=y", 1_893_456_001), "token 'full' access expired");
    }
}
