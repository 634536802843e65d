//! `/access/domains` (reference 02 §12.8, §13.1).

use pve_access::domains::{RealmKind, edit};
use pve_access::error::AccessError;
use pve_contract::id;
use pve_jobs::realm_sync;
use pve_rest::{ApiResult, Call, Registry};
use serde_json::{Value, json};

use super::{answer, audit};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS_DOMAINS, |call| Box::pin(all(call)));
    registry.bind(id::POST_ACCESS_DOMAINS, |call| Box::pin(create(call)));
    registry.bind(id::GET_ACCESS_DOMAINS_REALM, |call| Box::pin(one(call)));
    registry.bind(id::PUT_ACCESS_DOMAINS_REALM, |call| Box::pin(update(call)));
    registry.bind(id::DELETE_ACCESS_DOMAINS_REALM, |call| Box::pin(delete(call)));
    registry.bind(id::POST_ACCESS_DOMAINS_REALM_SYNC, |call| {
        Box::pin(audit::change(call, sync))
    });
}

/// For everybody: the log-in dialog asks before anybody is logged in, so it tells no more than that needs.
async fn all(call: Call) -> ApiResult {
    answer(call, |_, access| {
        let domains = access.domains()?;
        let rows = domains.iter().map(|(name, realm)| {
            let mut row = json!({ "realm": name, "type": realm.kind.as_str() });
            if let Some(comment) = realm.options.get("comment") {
                row["comment"] = json!(comment);
            }
            if realm.options.get("default").is_some_and(|value| value == "1") {
                row["default"] = json!(1);
            }
            if let Some(factor) = realm.required_factor() {
                row["tfa"] = json!(factor);
            }
            row
        });
        Ok(rows.collect())
    })
    .await
}

async fn one(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let name = call.params.required("realm");
        let domains = access.domains()?;
        let realm = domains
            .get(name)
            .ok_or_else(|| AccessError::plain(format!("domain '{name}' does not exist")))?;
        let mut object = realm.to_json();
        object.insert("digest".to_owned(), json!(domains.digest()));
        Ok(Value::Object(object))
    })
    .await
}

async fn create(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let params = &call.params;
        let kind = RealmKind::parse(params.required("type"))
            .ok_or_else(|| AccessError::parameter("type", "no such type of realm"))?;
        edit::create(&call.context, params.required("realm"), kind, params)?;
        Ok(Value::Null)
    })
    .await
}

async fn update(call: Call) -> ApiResult {
    answer(call, |call, _| {
        edit::update(&call.context, call.params.required("realm"), &call.params)?;
        Ok(Value::Null)
    })
    .await
}

async fn delete(call: Call) -> ApiResult {
    answer(call, |call, _| {
        edit::delete(&call.context, call.params.required("realm"))?;
        Ok(Value::Null)
    })
    .await
}

/// `POST /access/domains/{realm}/sync`
fn sync(call: &Call) -> ApiResult {
    let params = &call.params;
    let upid = realm_sync::start(
        &call.context,
        &call.auth_id(),
        &call.request_id,
        params.required("realm"),
        params,
    )?;
    Ok(json!(upid.to_string()).into())
}
