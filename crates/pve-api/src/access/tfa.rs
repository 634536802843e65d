//! `/access/tfa` and the calls about second factors below `/access/users` (reference 02 §8.8, §12.4).

use pve_access::AccessControl;
use pve_access::error::AccessError;
use pve_access::tfa::add::{self, Added, NewFactor};
use pve_access::tfa::change;
use pve_access::tfa::config::{Factors, Shown};
use pve_access::tfa::verify::Subject;
use pve_access::tfa::{self, Locks};
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry};
use pve_schema::ids::UserId;
use serde_json::{Map, Value, json};

use super::answer;
use super::users::{Visible, user_id};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS_TFA, |call| Box::pin(all(call)));
    registry.bind(id::GET_ACCESS_TFA_USERID, |call| Box::pin(of_user(call)));
    registry.bind(id::POST_ACCESS_TFA_USERID, |call| Box::pin(add(call)));
    registry.bind(id::GET_ACCESS_TFA_USERID_ID, |call| Box::pin(one(call)));
    registry.bind(id::PUT_ACCESS_TFA_USERID_ID, |call| Box::pin(update(call)));
    registry.bind(id::DELETE_ACCESS_TFA_USERID_ID, |call| Box::pin(delete(call)));
    registry.bind(id::GET_ACCESS_USERS_USERID_TFA, |call| Box::pin(kinds(call)));
    registry.bind(id::PUT_ACCESS_USERS_USERID_UNLOCK_TFA, |call| Box::pin(unlock(call)));
}

/// Where the caller's own password is sent.
const PASSWORD: &str = "password";

/// A factor as it is shown: nothing that could be used in its place.
fn row(shown: &Shown) -> Value {
    let mut row = json!({ "type": shown.kind.as_str(), "id": shown.id, "created": shown.created });
    if !shown.description.is_empty() {
        row["description"] = json!(shown.description);
    }
    if !shown.enable {
        row["enable"] = json!(0);
    }
    row
}

fn rows(factors: &Factors) -> Vec<Value> {
    factors.shown().iter().map(row).collect()
}

/// Puts a user's locks, where it has any, into its row.
pub(super) fn add_locks(row: &mut Map<String, Value>, locks: Locks) {
    if locks.totp_locked {
        row.insert("totp-locked".to_owned(), json!(1));
    }
    if let Some(until) = locks.locked_until {
        row.insert("tfa-locked-until".to_owned(), json!(until));
    }
}

async fn all(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let config = tfa::load(&call.context)?;
        let caller = call.auth_id();
        let visible = Visible::to(access, &caller);
        let seen = config.users.iter().filter(|(id, _)| visible.includes(id));
        let rows = seen.map(|(id, factors)| {
            let mut row = Map::new();
            row.insert("userid".to_owned(), json!(id));
            row.insert("entries".to_owned(), json!(rows(factors)));
            add_locks(&mut row, factors.locks());
            Value::Object(row)
        });
        Ok(rows.collect())
    })
    .await
}

async fn of_user(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let config = tfa::load(&call.context)?;
        let factors = config.users.get(&user_id(call)?);
        Ok(factors.map(rows).unwrap_or_default().into())
    })
    .await
}

async fn one(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let config = tfa::load(&call.context)?;
        let wanted = call.params.required("id");
        let shown = config
            .users
            .get(&user_id(call)?)
            .map(Factors::shown)
            .unwrap_or_default();
        let found = shown.iter().find(|shown| shown.id == wanted);
        found
            .map(row)
            .ok_or_else(|| AccessError::NoSuchFactor(wanted.to_owned()))
    })
    .await
}

/// Lets only those change somebody's factors who prove who they are.
fn confirm(call: &Call, access: &AccessControl, target: &UserId) -> Result<(), AccessError> {
    let password = call.params.text(PASSWORD);
    access.reauthenticate(&call.auth_id(), target, password, PASSWORD, call.client.address)
}

async fn add(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let id = user_id(call)?;
        confirm(call, access, &id)?;
        let domains = access.domains()?;
        let subject = Subject {
            id: &id,
            user: access.require_user(&id)?,
            realm: domains.require(id.realm())?,
        };
        let params = &call.params;
        let new = NewFactor {
            kind: params.required("type"),
            description: params.text("description"),
            totp: params.text("totp"),
            value: params.text("value"),
            challenge: params.text("challenge"),
            host: call.client.host.as_deref(),
        };
        Ok(match add::add(&call.context, subject, new)? {
            // A text with JSON in it, as clients want it.
            Added::Challenge(challenge) => json!({ "id": null, "challenge": challenge }),
            Added::Entry(id) => json!({ "id": id }),
            Added::Recovery(keys) => json!({ "id": tfa::config::RECOVERY_ID, "recovery": keys }),
        })
    })
    .await
}

async fn update(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let user = user_id(call)?;
        confirm(call, access, &user)?;
        let params = &call.params;
        let description = params.text("description");
        change::update(
            &call.context,
            &user,
            params.required("id"),
            description,
            params.flag("enable"),
        )?;
        Ok(Value::Null)
    })
    .await
}

async fn delete(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let user = user_id(call)?;
        confirm(call, access, &user)?;
        change::remove(&call.context, &user, call.params.required("id"))?;
        Ok(Value::Null)
    })
    .await
}

async fn kinds(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let id = user_id(call)?;
        let domains = access.domains()?;
        let realm = domains.require(id.realm())?;
        let config = tfa::load(&call.context)?;
        let (demanded, kinds) = change::kinds(config.users.get(&id), realm);
        let mut object = Map::new();
        if let Some(demanded) = demanded {
            object.insert("realm".to_owned(), json!(demanded));
        }
        if call.params.is_set("multiple") {
            object.insert("user".to_owned(), json!(kinds));
        } else if !kinds.is_empty() {
            let known = [("u2f", "u2f"), ("totp", "oath"), ("yubico", "yubico")];
            let first = known.iter().find(|(kind, _)| kinds.contains(kind));
            object.insert("user".to_owned(), json!(first.map_or("incompatible", |(_, word)| word)));
        }
        Ok(Value::Object(object))
    })
    .await
}

async fn unlock(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let was_locked = change::unlock(&call.context, &user_id(call)?)?;
        Ok(json!(u8::from(was_locked)))
    })
    .await
}
