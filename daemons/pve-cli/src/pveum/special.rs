//! Verbs that print or do something of their own.

use pve_access::tfa::change;
use pve_contract::id;
use pve_rest::ApiError;
use pve_schema::ids::UserId;
use serde_json::{Map, Value, json};

use crate::api::{CallError, Local, Shown, for_people};
use crate::output::{Style, TableColumn};

/// The ticket alone, which is what scripts want.
pub(super) fn ticket(data: Value, style: &Style) -> Shown {
    if data.get("NeedTFA").is_some() {
        eprintln!(
            "second factor needed: log in again with --otp, or with the answer as password and --tfa-challenge TICKET"
        );
    }
    for_people(style, data, |data| {
        let ticket = data.get("ticket").and_then(Value::as_str);
        ticket.map(|ticket| format!("{ticket}\n")).unwrap_or_default()
    })
}

/// Paths and the privileges that are held on them, a privilege in a line.
pub(super) fn permissions(data: Value, style: &Style) -> Shown {
    for_people(style, data, |data| {
        let empty = Map::new();
        let mut paths: Vec<_> = data.as_object().unwrap_or(&empty).iter().collect();
        paths.sort_by_key(|(path, _)| path.as_str());
        let rows = paths.into_iter().map(|(path, held)| {
            let mut held: Vec<_> = held.as_object().unwrap_or(&empty).iter().collect();
            held.sort_by_key(|(privilege, _)| privilege.as_str());
            let lines = held.into_iter().map(|(privilege, flag)| match flag.as_u64() {
                Some(0) => privilege.clone(),
                _ => format!("{privilege} (*)"),
            });
            vec![path.clone(), lines.collect::<Vec<_>>().join("\n")]
        });
        let columns = vec![TableColumn::plain("ACL path"), TableColumn::plain("Permissions")];
        let mut text = style.table(columns, rows.collect());
        if style.header {
            text.push_str("Permissions marked with '(*)' have the 'propagate' flag set.\n");
        }
        text
    })
}

/// The same of an API token.
pub(super) fn token_permissions(
    local: &Local,
    mut params: Map<String, Value>,
    style: &Style,
) -> Result<Shown, CallError> {
    let mut take = |name: &str| {
        params
            .remove(name)
            .as_ref()
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let (user, token) = (take("userid"), take("tokenid"));
    // That there is such a token: nobody has no permissions.
    local.data(
        id::GET_ACCESS_USERS_USERID_TOKEN_TOKENID,
        &[("userid", &user), ("tokenid", &token)],
    )?;
    params.insert("userid".to_owned(), Value::String(format!("{user}!{token}")));
    let reply = local.call(pve_contract::method(id::GET_ACCESS_PERMISSIONS), params)?;
    Ok(permissions(reply.data, style))
}

/// Second factors of one user or of all, a factor in a line; and who is locked.
pub(super) fn list_factors(local: &Local, params: Map<String, Value>, style: &Style) -> Result<Shown, CallError> {
    let mut users = local.data(id::GET_ACCESS_TFA, &[])?;
    if let Some(user) = params.get("userid").and_then(Value::as_str) {
        // It says what is wrong with the name.
        local.data(id::GET_ACCESS_TFA_USERID, &[("userid", user)])?;
        if let Some(users) = users.as_array_mut() {
            users.retain(|row| row.get("userid").is_some_and(|known| known == user));
        }
    }
    Ok(for_people(style, users, |users| {
        let rows = users.as_array().into_iter().flatten().flat_map(factor_rows);
        let columns = ["User", "Type", "ID", "Description", "Enabled", "Locked"];
        let rows: Vec<_> = rows.collect();
        if rows.is_empty() {
            return String::new();
        }
        style.table(columns.map(TableColumn::plain).to_vec(), rows)
    }))
}

fn factor_rows(user: &Value) -> Vec<Vec<String>> {
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let is_set = |key: &str| user.get(key).is_some();
    let locks = [("totp-locked", "totp"), ("tfa-locked-until", "all")];
    let locked: Vec<&str> = locks
        .iter()
        .filter(|(key, _)| is_set(key))
        .map(|(_, word)| *word)
        .collect();
    let entries = user.get("entries").and_then(Value::as_array);
    let rows = entries.into_iter().flatten().map(|entry| {
        let is_off = entry.get("enable").is_some_and(|enable| enable == &json!(0));
        vec![
            text(user, "userid"),
            text(entry, "type"),
            text(entry, "id"),
            text(entry, "description"),
            if is_off { "0" } else { "1" }.to_owned(),
            locked.join(","),
        ]
    });
    rows.collect()
}

/// Deletes one second factor, which the API can, or all of a user's in one change, which it cannot.
pub(super) fn delete_factors(local: &Local, params: Map<String, Value>, _style: &Style) -> Result<Shown, CallError> {
    let text = |name: &str| params.get(name).and_then(Value::as_str);
    let user = text("userid").unwrap_or_default();
    if let Some(id) = text("id") {
        local.data(id::DELETE_ACCESS_TFA_USERID_ID, &[("userid", user), ("id", id)])?;
        return Ok(Shown::Text(String::new()));
    }
    // It says what is wrong with the name.
    local.data(id::GET_ACCESS_TFA_USERID, &[("userid", user)])?;
    let user: UserId = user.parse().map_err(|_| CallError::Encoding)?;
    let call = format!("pveum user tfa delete userid={user}");
    let removed = local.change(&call, || change::remove_all(local.context(), &user));
    removed.map_err(ApiError::from)?;
    Ok(Shown::Text(String::new()))
}
