//! `/access/users`, but for second factors; tokens are in `tokens` (reference 02 §12.2).

use pve_access::domains::Domains;
use pve_access::error::AccessError;
use pve_access::tfa::{self, Locks};
use pve_access::user_config::User;
use pve_access::users::{self, NewUser};
use pve_access::{AccessControl, UserConfig, edit};
use pve_cfs::Cfs;
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry};
use pve_schema::ids::{AuthId, UserId};
use serde_json::{Map, Value, json};

use super::tfa::add_locks;
use super::tokens::{token_fields, token_row};
use super::{answer, list, non_empty};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS_USERS, |call| Box::pin(all(call)));
    registry.bind(id::POST_ACCESS_USERS, |call| Box::pin(create(call)));
    registry.bind(id::GET_ACCESS_USERS_USERID, |call| Box::pin(one(call)));
    registry.bind(id::PUT_ACCESS_USERS_USERID, |call| Box::pin(update(call)));
    registry.bind(id::DELETE_ACCESS_USERS_USERID, |call| Box::pin(delete(call)));
}

/// The `userid` parameter.
pub(super) fn user_id(call: &Call) -> Result<UserId, AccessError> {
    call.params
        .required("userid")
        .parse()
        .map_err(|error: pve_schema::ids::InvalidUserId| AccessError::parameter("userid", error.to_string()))
}

async fn all(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let cfs = Cfs::new(&call.context);
        let listing = Listing {
            domains: &*access.domains()?,
            locks: &tfa::locks(&cfs, call.context.now())?,
            config: access,
            is_full: call.params.is_set("full"),
        };
        let caller = call.auth_id();
        let visible = Visible::to(access, &caller);
        let wanted = call.params.flag("enabled");
        let rows = access
            .users
            .iter()
            .filter(|(id, _)| visible.includes(id))
            .filter(|(_, user)| wanted.is_none_or(|enabled| user.enable == enabled))
            .map(|(id, user)| listing.row(id, user));
        Ok(rows.collect())
    })
    .await
}

/// Which users a caller gets to see, and with them their second factors.
pub(super) struct Visible<'a> {
    config: &'a UserConfig,
    caller: &'a AuthId,
    sees_all: bool,
    groups: Vec<&'a str>,
}

/// One of these on a group shows its members.
const SEE_USERS: [&str; 2] = ["User.Modify", "Sys.Audit"];

impl<'a> Visible<'a> {
    pub(super) fn to(access: &'a AccessControl, caller: &'a AuthId) -> Self {
        Self {
            config: access,
            caller,
            sees_all: access.has_any(caller, "/access/groups", &SEE_USERS),
            groups: access.visible_groups(caller, &SEE_USERS).collect(),
        }
    }

    pub(super) fn includes(&self, id: &UserId) -> bool {
        self.sees_all
            || matches!(self.caller, AuthId::User(caller) if caller == id)
            || self.config.groups_of(id).any(|group| self.groups.contains(&group))
    }
}

struct Listing<'a> {
    domains: &'a Domains,
    locks: &'a std::collections::BTreeMap<UserId, Locks>,
    config: &'a UserConfig,
    is_full: bool,
}

impl Listing<'_> {
    fn row(&self, id: &UserId, user: &User) -> Value {
        let mut row = user_fields(user);
        row.insert("userid".to_owned(), json!(id));
        if let Some(realm) = self.domains.get(id.realm()) {
            row.insert("realm-type".to_owned(), json!(realm.kind.as_str()));
        }
        add_locks(&mut row, self.locks.get(id).copied().unwrap_or_default());
        if self.is_full {
            let groups: Vec<&str> = self.config.groups_of(id).collect();
            row.insert("groups".to_owned(), json!(groups.join(",")));
            let tokens = user.tokens.iter().map(|(name, token)| token_row(name, token));
            row.insert("tokens".to_owned(), none_if_empty(user, tokens.collect()));
        }
        Value::Object(row)
    }
}

/// The fields of a user that are set.
fn user_fields(user: &User) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("enable".to_owned(), json!(u8::from(user.enable)));
    fields.insert("expire".to_owned(), json!(user.expire));
    for (name, value) in [
        ("firstname", &user.firstname),
        ("lastname", &user.lastname),
        ("email", &user.email),
        ("comment", &user.comment),
        ("keys", &user.keys),
    ] {
        if let Some(value) = value {
            fields.insert(name.to_owned(), json!(value));
        }
    }
    fields
}

/// A user without tokens has `null`, not an empty list.
fn none_if_empty(user: &User, tokens: Value) -> Value {
    if user.tokens.is_empty() { Value::Null } else { tokens }
}

async fn one(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let id = user_id(call)?;
        let user = access.require_user(&id)?;
        let mut object = user_fields(user);
        let groups: Vec<&str> = access.groups_of(&id).collect();
        object.insert("groups".to_owned(), json!(groups));
        let tokens: Map<String, Value> = user
            .tokens
            .iter()
            .map(|(name, token)| (name.clone(), Value::Object(token_fields(token))))
            .collect();
        object.insert("tokens".to_owned(), none_if_empty(user, Value::Object(tokens)));
        Ok(Value::Object(object))
    })
    .await
}

async fn create(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let new = NewUser {
            id: user_id(call)?,
            user: User {
                enable: call.params.flag("enable").unwrap_or(true),
                expire: expire(call).unwrap_or(0),
                firstname: non_empty(call, "firstname"),
                lastname: non_empty(call, "lastname"),
                email: non_empty(call, "email"),
                comment: non_empty(call, "comment"),
                keys: non_empty(call, "keys"),
                ..User::default()
            },
            password: call.params.text("password"),
            groups: groups(call),
        };
        users::create(&call.context, &new)?;
        Ok(Value::Null)
    })
    .await
}

pub(super) fn expire(call: &Call) -> Option<u64> {
    call.params.integer("expire").and_then(|expire| expire.try_into().ok())
}

fn groups(call: &Call) -> Vec<String> {
    list(call, "groups").into_iter().map(str::to_owned).collect()
}

async fn update(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let id = user_id(call)?;
        edit::edit(&call.context, "update user failed", |config| {
            config.require_user(&id)?;
            if call.params.has("groups") {
                if !call.params.is_set("append") {
                    config.remove_from_groups(&id);
                }
                users::join_groups(config, &id, &groups(call))?;
            }
            if let Some(user) = config.users.get_mut(&id) {
                overwrite(user, call);
            }
            Ok(())
        })?;
        Ok(Value::Null)
    })
    .await
}

/// What is given overwrites; an empty text clears.
fn overwrite(user: &mut User, call: &Call) {
    if let Some(enable) = call.params.flag("enable") {
        user.enable = enable;
    }
    if let Some(expire) = expire(call) {
        user.expire = expire;
    }
    for (name, field) in [
        ("firstname", &mut user.firstname),
        ("lastname", &mut user.lastname),
        ("email", &mut user.email),
        ("comment", &mut user.comment),
        ("keys", &mut user.keys),
    ] {
        if call.params.has(name) {
            *field = non_empty(call, name);
        }
    }
}

async fn delete(call: Call) -> ApiResult {
    answer(call, |call, _| {
        users::delete(&call.context, &call.auth_id(), &user_id(call)?)?;
        Ok(Value::Null)
    })
    .await
}
