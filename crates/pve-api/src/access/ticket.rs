//! `/access/ticket` and `/access/vncticket` (reference 02 §7.2, §12.9).

use pve_access::login::{Login, LoginRequest};
use pve_access::permissions::Capabilities;
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry, Reply};
use serde_json::{Map, Value, json};

use super::answer;

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS_TICKET, |call| Box::pin(nothing(call)));
    registry.bind(id::POST_ACCESS_TICKET, |call| Box::pin(log_in(call)));
    registry.bind(id::POST_ACCESS_VNCTICKET, |call| Box::pin(check_vnc(call)));
}

/// A place for forms to come from.
async fn nothing(_call: Call) -> ApiResult {
    Ok(Reply::null())
}

async fn log_in(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let params = &call.params;
        let login = access.login(&LoginRequest {
            username: params.required("username"),
            realm: params.text("realm"),
            password: params.required("password"),
            otp: params.text("otp"),
            tfa_challenge: params.text("tfa-challenge"),
            verify: params.text("path").zip(params.text("privs")),
            client: call.client.address,
            host: call.client.host.as_deref(),
        })?;
        Ok(reply(&login))
    })
    .await
}

/// A log-in as clients see it.
pub(super) fn reply(login: &Login) -> Value {
    let mut object = Map::new();
    object.insert("username".to_owned(), json!(login.user));
    if let Some(session) = &login.session {
        object.insert("ticket".to_owned(), json!(session.ticket));
        object.insert("CSRFPreventionToken".to_owned(), json!(session.csrf_token));
    }
    match &login.capabilities {
        Some(capabilities) => {
            object.insert("cap".to_owned(), json_of(capabilities));
        }
        None => {
            object.insert("NeedTFA".to_owned(), json!(1));
        }
    }
    if let Some(cluster) = &login.cluster {
        object.insert("clustername".to_owned(), json!(cluster));
    }
    Value::Object(object)
}

fn json_of(capabilities: &Capabilities) -> Value {
    let object: Map<String, Value> = capabilities
        .iter()
        .map(|(category, privileges)| {
            let set: Map<String, Value> = privileges.iter().map(|name| ((*name).to_owned(), json!(1))).collect();
            ((*category).to_owned(), Value::Object(set))
        })
        .collect();
    Value::Object(object)
}

async fn check_vnc(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let params = &call.params;
        access.check_vnc_login(
            params.required("authid"),
            params.required("vncticket"),
            params.required("path"),
            params.required("privs"),
            params.parse("port").ok().flatten(),
            call.client.address,
        )?;
        Ok(Value::Null)
    })
    .await
}
