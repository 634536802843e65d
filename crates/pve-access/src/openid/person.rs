//! Whose claims these are, and what they change: the user and its groups (reference 02 §9).

use std::collections::BTreeSet;

use pve_cfs::Cfs;
use pve_contract::{id, method};
use pve_schema::Context;
use pve_schema::check;
use pve_schema::ids::UserId;
use serde_json::Value;

use super::provider::Claims;
use super::{OpenIdError, is_on};
use crate::access_control::AccessControl;
use crate::domains::{Domains, Realm};
use crate::edit;
use crate::error::AccessError;
use crate::user_config::{Group, User, UserConfig};

/// The claim that names the user where the realm names none.
const SUBJECT: &str = "sub";

/// The user, who exists now and may log in, and what was changed for that.
pub(super) fn admit(
    context: &Context,
    name: &str,
    realm: &Realm,
    claims: &Claims,
) -> Result<(UserId, Vec<String>), OpenIdError> {
    let user = user_of(name, realm, claims)?;
    let mut changes = Vec::new();
    if is_on(realm, "autocreate", false) && !AccessControl::load(context)?.config().users.contains_key(&user) {
        let is_new = edit::edit(context, "autocreate openid user failed", |config| {
            // Another log-in may have been faster.
            let is_new = !config.users.contains_key(&user);
            config.users.entry(user.clone()).or_insert_with(|| record(claims));
            Ok(is_new)
        })?;
        changes.extend(is_new.then(|| "created user".to_owned()));
    }
    AccessControl::load(context)?.require_active_user(&user, context.now())?;
    if let Some(claim) = realm.option("groups-claim") {
        match claims.get(claim) {
            Some(Value::Array(groups)) => changes.extend(join(context, name, realm, &user, groups)?),
            other => {
                let what = if other.is_some() { "is no list" } else { "is missing" };
                log::warn!("openid user '{user}': claim '{claim}' {what}, groups stay as they are");
            }
        }
    }
    Ok((user, changes))
}

/// The user whom the claims name.
fn user_of(name: &str, realm: &Realm, claims: &Claims) -> Result<UserId, OpenIdError> {
    let claim = match realm.option("username-claim") {
        // As older releases had it.
        None | Some("subject") => SUBJECT,
        Some("username") => "preferred_username",
        Some(other) => other,
    };
    let user = match claims.get(claim) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => return Err(OpenIdError::MissingClaim(claim.to_owned())),
    };
    Ok(format!("{user}@{name}").parse::<UserId>()?)
}

/// The record of a new user. What does not fit the fields of one is left out.
fn record(claims: &Claims) -> User {
    let text = |claim: &str, field: &str| {
        let text = claims.get(claim)?.as_str().filter(|text| !text.is_empty())?;
        let schema = method(id::POST_ACCESS_USERS).parameter(field)?.schema;
        match check::text(schema, text, field) {
            Ok(_) if !text.contains(char::is_control) => Some(text.to_owned()),
            _ => {
                log::warn!("openid claim '{claim}' does not fit a user's '{field}' - left out");
                None
            }
        }
    };
    User {
        enable: true,
        email: text("email", "email"),
        firstname: text("given_name", "firstname"),
        lastname: text("family_name", "lastname"),
        ..User::default()
    }
}

/// Makes the user a member of the groups that it is said to be in; tells what changed.
fn join(
    context: &Context,
    name: &str,
    realm: &Realm,
    user: &UserId,
    claimed: &[Value],
) -> Result<Vec<String>, AccessError> {
    let domains = Domains::load(&Cfs::new(context))?;
    let wanted: BTreeSet<String> = claimed
        .iter()
        .filter_map(|value| group_of(&domains, name, value))
        .collect();
    let may_create = is_on(realm, "groups-autocreate", false);
    let overwrite = is_on(realm, "groups-overwrite", false);
    edit::edit(context, "updating openid groups failed", |config| {
        let before = groups_of(config, user);
        if overwrite {
            config.remove_from_groups(user);
        }
        for group in &wanted {
            match config.groups.get_mut(group) {
                Some(group) => {
                    group.members.insert(user.clone());
                }
                None if may_create => {
                    let members = BTreeSet::from([user.clone()]);
                    config.groups.insert(group.clone(), Group { members, comment: None });
                }
                None => log::info!("openid user '{user}': there is no group '{group}'"),
            }
        }
        let after = groups_of(config, user);
        let joined = after.difference(&before).map(|group| format!("joined {group}"));
        let left = before.difference(&after).map(|group| format!("left {group}"));
        Ok(joined.chain(left).collect())
    })
}

/// The group that a claim means in this realm.
fn group_of(domains: &Domains, realm: &str, claimed: &Value) -> Option<String> {
    let name = claimed.as_str()?;
    let is_valid = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if name.is_empty() || !name.chars().all(is_valid) {
        log::warn!("openid group {name:?} is no name of a group - left out");
        return None;
    }
    let group = format!("{name}-{realm}");
    match domains.owner_of_group(&group) {
        Some(owner) if owner != realm => {
            log::warn!("openid group '{group}' would be one of realm '{owner}' - left out");
            None
        }
        _ => Some(group),
    }
}

fn groups_of(config: &UserConfig, user: &UserId) -> BTreeSet<String> {
    config.groups_of(user).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_names_a_group_of_its_own_realm_alone() {
        let realm = |name: &str| format!("openid: {name}\n\tissuer-url https://a\n\tclient-id a\n\n");
        let domains = Domains::parse((realm("corp") + &realm("x-corp")).as_bytes());
        for (claimed, group) in [
            (Value::from("admins"), Some("admins-corp")),
            (Value::from("admins-x"), None),
            (Value::from("x"), Some("x-corp")),
            (Value::from("a:b"), None),
            (Value::from(""), None),
            (Value::from(7), None),
        ] {
            assert_eq!(group_of(&domains, "corp", &claimed).as_deref(), group, "{claimed}");
        }
    }
}
