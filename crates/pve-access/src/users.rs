//! Making and deleting users: changes that touch several files (reference 02 §12.2).

use pve_cfs::Cfs;
use pve_schema::Context;
use pve_schema::ids::{AuthId, UserId};

use crate::domains::Domains;
use crate::error::AccessError;
use crate::login::same_but_for_case;
use crate::user_config::{User, UserConfig};
use crate::{edit, password, tfa, token};

/// A user to be made.
#[derive(Debug)]
pub struct NewUser<'a> {
    /// Its id.
    pub id: UserId,
    /// Its record.
    pub user: User,
    /// Its password, if its realm keeps one.
    pub password: Option<&'a str>,
    /// The groups that it joins.
    pub groups: Vec<String>,
}

/// Makes a user.
///
/// # Errors
/// It exists (in a realm without case: under any spelling), a group does not, or the password cannot be set; all wrapped
/// in `create user failed`.
pub fn create(context: &Context, new: &NewUser<'_>) -> Result<(), AccessError> {
    let domains = Domains::load(&Cfs::new(context))?;
    edit::edit(context, "create user failed", |config| {
        if is_taken(config, &domains, &new.id) {
            return Err(AccessError::plain(format!("user '{}' already exists", new.id)));
        }
        if let Some(password) = new.password {
            password::set(context, &domains, &new.id, password)?;
        }
        join_groups(config, &new.id, &new.groups)?;
        config.users.insert(new.id.clone(), new.user.clone());
        Ok(())
    })
}

fn is_taken(config: &UserConfig, domains: &Domains, id: &UserId) -> bool {
    match domains.get(id.realm()) {
        Some(realm) if !realm.is_case_sensitive() => same_but_for_case(config, id.as_str()).next().is_some(),
        _ => config.users.contains_key(id),
    }
}

/// Adds a user to groups, all of which must exist.
///
/// # Errors
/// One does not.
pub fn join_groups(config: &mut UserConfig, id: &UserId, groups: &[String]) -> Result<(), AccessError> {
    for name in groups {
        let group = config
            .groups
            .get_mut(name)
            .ok_or_else(|| AccessError::plain(format!("no such group '{name}'")))?;
        group.members.insert(id.clone());
    }
    Ok(())
}

/// Deletes a user with its password, second factors, tokens, memberships and rights. First of all it is disabled, so that a
/// failure half-way leaves nobody who could log in.
///
/// # Errors
/// There is none of that name (no error for `root@pam`), or a file cannot be changed; wrapped in `delete user failed`.
pub fn delete(context: &Context, caller: &AuthId, id: &UserId) -> Result<(), AccessError> {
    let cfs = Cfs::new(context);
    let domains = Domains::load(&cfs)?;
    const PREFIX: &str = "delete user failed";
    let deleted = tfa::locked(context, |factors| {
        Ok(edit::locked(&cfs, PREFIX, || {
            let mut config = edit::read(&cfs)?;
            match config.users.get_mut(id) {
                Some(user) => user.enable = false,
                None if caller.is_root() => {}
                None => return Err(AccessError::NoSuchUser(id.to_string())),
            }
            edit::write(&cfs, &config)?;
            password::forget(&cfs, &domains, id)?;
            tfa::change::forget_user(context, factors, id)?;

            config.users.remove(id);
            config.remove_from_groups(id);
            config.remove_user_acls(id);
            let and = |error: AccessError| AccessError::plain(format!("{error} - but deleted related TFA"));
            edit::write(&cfs, &config).map_err(and)?;
            // A secret without its token opens nothing, but a token of that name may be made again.
            token::secrets::forget_user(&cfs, id).map_err(and)
        }))
    });
    deleted.map_err(|error| error.during(PREFIX))?
}
