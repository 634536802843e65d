//! Making, changing and deleting API tokens (reference 02 §12.3).
//!
//! A token is a record in `user.cfg` and a secret in `priv/token.cfg`. The record decides: it is written last and
//! removed first, so that a failure half-way leaves at most a secret that opens nothing.

use pve_cfs::Cfs;
use pve_schema::Context;
use pve_schema::ids::TokenId;

use super::secrets;
use crate::edit;
use crate::error::AccessError;
use crate::user_config::{Token, UserConfig};

/// What to change of a token; `None` leaves it as it is.
#[derive(Debug, Default)]
pub struct Change {
    /// Unix seconds; 0 for never.
    pub expire: Option<u64>,
    /// Whether it has only rights of its own.
    pub privsep: Option<bool>,
    /// Free text; an empty one removes it.
    pub comment: Option<String>,
    /// Options to remove: only `comment` can be.
    pub delete: Vec<String>,
    /// Whether it gets a new secret.
    pub regenerate: bool,
}

/// Makes a token: its secret, which is told this once.
///
/// # Errors
/// There is one of that name (400), or no such user; the files cannot be changed (500).
pub fn create(context: &Context, id: &TokenId, token: &Token) -> Result<String, AccessError> {
    let cfs = Cfs::new(context);
    refuse_existing(&edit::read(&cfs)?, id)?;
    edit::edit(context, "generating token failed", |config| {
        // Somebody may have been faster.
        refuse_existing(config, id)?;
        let secret = secrets::renew(&cfs, id)?;
        owner(config, id)?.insert(id.name.clone(), token.clone());
        Ok(secret)
    })
}

/// Changes a token: what it is now, and its new secret if it was to get one.
///
/// # Errors
/// There is none of that name, or an option cannot be removed; the files cannot be changed.
pub fn update(context: &Context, id: &TokenId, change: &Change) -> Result<(Token, Option<String>), AccessError> {
    let cfs = Cfs::new(context);
    edit::edit(context, "updating token info failed", |config| {
        let token = require_mut(config, id)?;
        if let Some(expire) = change.expire {
            token.expire = expire;
        }
        if let Some(privsep) = change.privsep {
            token.privsep = privsep;
        }
        if let Some(comment) = &change.comment {
            token.comment = Some(comment.clone()).filter(|comment| !comment.is_empty());
        }
        for option in &change.delete {
            match option.as_str() {
                "comment" => token.comment = None,
                other => return Err(AccessError::parameter("delete", format!("unknown option '{other}'"))),
            }
        }
        let token = token.clone();
        let secret = change.regenerate.then(|| secrets::renew(&cfs, id)).transpose()?;
        Ok((token, secret))
    })
}

/// Deletes a token.
///
/// # Errors
/// There is none of that name; the files cannot be changed.
pub fn delete(context: &Context, id: &TokenId) -> Result<(), AccessError> {
    let cfs = Cfs::new(context);
    edit::read(&cfs)?.require_token(id)?;
    edit::locked(&cfs, "deleting token failed", || {
        let mut config = edit::read(&cfs)?;
        owner(&mut config, id)?.remove(&id.name);
        config.remove_token_acls(id);
        edit::write(&cfs, &config)?;
        secrets::forget(&cfs, id)
    })
}

fn refuse_existing(config: &UserConfig, id: &TokenId) -> Result<(), AccessError> {
    if config.require_user(&id.user)?.tokens.contains_key(&id.name) {
        return Err(AccessError::parameter("tokenid", "Token already exists."));
    }
    Ok(())
}

/// The tokens of the user that a token belongs to.
fn owner<'a>(
    config: &'a mut UserConfig,
    id: &TokenId,
) -> Result<&'a mut std::collections::BTreeMap<String, Token>, AccessError> {
    let user = config.users.get_mut(&id.user);
    user.map(|user| &mut user.tokens)
        .ok_or_else(|| AccessError::NoSuchUser(id.user.to_string()))
}

fn require_mut<'a>(config: &'a mut UserConfig, id: &TokenId) -> Result<&'a mut Token, AccessError> {
    owner(config, id)?
        .get_mut(&id.name)
        .ok_or_else(|| AccessError::no_such_token(id))
}
