//! `/access`: users, groups, roles, ACLs, realms, second factors, tickets (reference 02 §12).

mod acl;
pub(crate) mod audit;
mod domains;
mod groups;
mod openid;
mod password;
mod permissions;
mod roles;
mod tfa;
mod ticket;
mod tokens;
mod users;

use pve_access::{AccessControl, AccessError};
use pve_contract::id;
use pve_rest::{ApiError, ApiResult, Call, Registry, Reply, blocking};
use pve_schema::list;
use serde_json::{Value, json};

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS, |call| Box::pin(index(call)));
    acl::register(registry);
    domains::register(registry);
    groups::register(registry);
    openid::register(registry);
    password::register(registry);
    permissions::register(registry);
    roles::register(registry);
    tfa::register(registry);
    ticket::register(registry);
    tokens::register(registry);
    users::register(registry);
}

async fn index(_call: Call) -> ApiResult {
    Ok(subdirs(&[
        "users", "groups", "roles", "acl", "domains", "openid", "tfa", "ticket", "password",
    ]))
}

fn subdirs(children: &[&str]) -> Reply {
    let rows = children.iter().map(|child| json!({ "subdir": child }));
    rows.collect::<Value>().into()
}

/// Runs a handler's work off the connection's thread, with the users and rights as they are now.
async fn answer<F>(call: Call, work: F) -> ApiResult
where
    F: FnOnce(&Call, &AccessControl) -> Result<Value, AccessError> + Send + 'static,
{
    blocking(move || {
        let access = AccessControl::load(&call.context)?;
        let result = work(&call, &access).map(Reply::from).map_err(ApiError::from);
        // Log-ins have lines of their own.
        if !call.method.path.ends_with("ticket") {
            audit::log(&call, result.as_ref().err());
        }
        result
    })
    .await
}

/// A list parameter; an absent one is empty.
fn list<'a>(call: &'a Call, name: &str) -> Vec<&'a str> {
    list::split(call.params.text(name).unwrap_or_default())
}

/// A text parameter; an empty one counts as absent.
fn non_empty(call: &Call, name: &str) -> Option<String> {
    call.params
        .text(name)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}
