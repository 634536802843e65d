//! Users of a lab: the first one, their passwords, tickets for scripts.

use pve_access::domains::Domains;
use pve_access::paths::AclPath;
use pve_access::user_config::{AclMember, User};
use pve_access::{AccessControl, edit, password};
use pve_cfs::Cfs;
use pve_schema::Context;
use pve_schema::ids::{AuthId, UserId};

use crate::error::LabError;

/// The user that a new lab has besides root, whose password is the machine's.
pub(crate) const FIRST_USER: &str = "admin@pve";
/// What that user may do.
const FIRST_ROLE: &str = "Administrator";

/// A ticket and what goes with it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) ticket: String,
    pub(crate) csrf_token: String,
}

/// Makes the first user and gives it a password, which is returned; `None` when the user is there already.
pub(crate) fn create_first_user(context: &Context) -> Result<Option<String>, LabError> {
    let user = first_user()?;
    if AccessControl::load(context)?.config().users.contains_key(&user) {
        return Ok(None);
    }
    edit::edit(context, "create user failed", |config| {
        let account = User {
            enable: true,
            comment: Some("made by pve-lab".to_owned()),
            ..User::default()
        };
        config.users.insert(user.clone(), account);
        let member = AclMember::Subject(AuthId::User(user.clone()));
        config.grant(&AclPath::root(), &member, FIRST_ROLE, true);
        Ok(())
    })?;
    set_password(context, &user).map(Some)
}

/// Gives a user a new password, which is returned.
pub(crate) fn set_password(context: &Context, user: &UserId) -> Result<String, LabError> {
    if user.realm() != "pve" {
        return Err(LabError::NotPve(user.to_string()));
    }
    require(context, user)?;
    let password = random_password()?;
    let domains = Domains::load(&Cfs::new(context))?;
    password::set(context, &domains, user, &password)?;
    Ok(password)
}

/// A ticket for a user, without asking for the password: who may read the key is root.
pub(crate) fn session(context: &Context, user: &UserId) -> Result<Session, LabError> {
    require(context, user)?;
    let access = AccessControl::load(context)?;
    Ok(Session {
        ticket: access.login_ticket(user)?,
        csrf_token: access.csrf_token(user)?,
    })
}

fn require(context: &Context, user: &UserId) -> Result<(), LabError> {
    if user.is_root() || AccessControl::load(context)?.config().users.contains_key(user) {
        Ok(())
    } else {
        Err(LabError::NoUser(user.to_string()))
    }
}

fn first_user() -> Result<UserId, LabError> {
    FIRST_USER.parse().map_err(|_| LabError::NoUser(FIRST_USER.to_owned()))
}

/// Twenty characters out of 32 that nobody mistakes for each other: 100 bits.
fn random_password() -> Result<String, LabError> {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mut bytes = [0_u8; 20];
    getrandom::fill(&mut bytes).map_err(|error| LabError::Random(error.to_string()))?;
    Ok(bytes
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte % 32)]))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_long_and_differ() {
        let (one, two) = (random_password().unwrap(), random_password().unwrap());
        assert_eq!(one.len(), 20);
        assert_ne!(one, two);
    }
}
