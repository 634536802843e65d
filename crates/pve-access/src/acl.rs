//! Granting and revoking roles (reference 02 §12.7).

use pve_schema::ids::{AuthId, TokenId, UserId};
use pve_schema::{Context, ParamErrors};

use crate::edit;
use crate::error::AccessError;
use crate::paths::AclPath;
use crate::privileges::PrivilegeSet;
use crate::roles::NO_ACCESS;
use crate::user_config::{AclMember, UserConfig};

/// A change of ACLs on one path.
#[derive(Debug, Clone, Default)]
pub struct AclChange<'a> {
    /// The path as it was sent.
    pub path: &'a str,
    /// The roles.
    pub roles: Vec<&'a str>,
    /// For these groups.
    pub groups: Vec<&'a str>,
    /// For these users.
    pub users: Vec<&'a str>,
    /// For these tokens.
    pub tokens: Vec<&'a str>,
    /// Whether what is granted holds below the path too.
    pub propagate: bool,
    /// Revoke rather than grant.
    pub delete: bool,
}

/// Grants or revokes roles. Nothing is saved if anything fails.
///
/// # Errors
/// 400 for the path and for missing members; all else wrapped in `ACL update failed`.
pub fn update(context: &Context, caller: &AuthId, change: &AclChange<'_>) -> Result<(), AccessError> {
    if change.groups.is_empty() && change.users.is_empty() && change.tokens.is_empty() {
        let names = ["users", "groups", "tokens"];
        let text = "either 'users', 'groups' or 'tokens' is required.";
        let errors: ParamErrors = names.map(|name| (name.to_owned(), text.to_owned())).into();
        return Err(AccessError::Parameters(errors));
    }
    let path = AclPath::normalise(change.path)
        .filter(|path| change.delete || path.is_known())
        .ok_or_else(|| AccessError::parameter("path", format!("invalid ACL path '{}'", change.path)))?;
    edit::edit(context, "ACL update failed", |config| {
        for role in &change.roles {
            may_delegate(config, caller, &path, role, change)?;
        }
        let members = members(config, change)?;
        for role in &change.roles {
            for member in &members {
                if change.delete {
                    config.revoke(&path, member, role);
                } else {
                    config.grant(&path, member, role, change.propagate);
                }
            }
        }
        Ok(())
    })
}

/// Who may not change permissions may pass on what it holds itself.
fn may_delegate(
    config: &UserConfig,
    caller: &AuthId,
    path: &AclPath,
    role: &str,
    change: &AclChange<'_>,
) -> Result<(), AccessError> {
    let privileges = config
        .role(role)
        .ok_or_else(|| AccessError::plain(format!("role '{role}' does not exist")))?;
    let own = config.privileges_on(caller, path.as_str());
    if own.has("Permissions.Modify") {
        return Ok(());
    }
    let verb = if change.delete { "remove" } else { "add" };
    let refuse = |text: String| Err(AccessError::parameter("role", text));
    let covers = |set: PrivilegeSet| set.intersection(privileges) == privileges;
    if role == NO_ACCESS {
        return refuse(format!("Cannot {verb} role '{role}' - requires 'Permissions.Modify'"));
    }
    if !covers(own.held) {
        return refuse(format!(
            "Cannot {verb} role '{role}' - requires 'Permissions.Modify' or superset of privileges."
        ));
    }
    if !change.delete && change.propagate && !covers(own.propagated) {
        return refuse(format!(
            "Cannot add role '{role}' with propagation - requires 'Permissions.Modify' or propagated superset of \
             privileges."
        ));
    }
    Ok(())
}

/// The members of the change, all of which must exist.
fn members(config: &UserConfig, change: &AclChange<'_>) -> Result<Vec<AclMember>, AccessError> {
    let mut members = Vec::new();
    for group in &change.groups {
        if !config.groups.contains_key(*group) {
            return Err(AccessError::plain(format!("group '{group}' does not exist")));
        }
        members.push(AclMember::Group((*group).to_owned()));
    }
    for user in &change.users {
        let id = user.parse::<UserId>().ok().filter(|id| config.users.contains_key(id));
        let id = id.ok_or_else(|| AccessError::plain(format!("user '{user}' does not exist")))?;
        members.push(AclMember::Subject(AuthId::User(id)));
    }
    for token in &change.tokens {
        let id: TokenId = token
            .parse()
            .map_err(|error: pve_schema::ids::InvalidUserId| AccessError::plain(error.to_string()))?;
        config.require_token(&id)?;
        members.push(AclMember::Subject(AuthId::Token(id)));
    }
    Ok(members)
}
