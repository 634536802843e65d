//! `/access/openid` (reference 02 §9).

use pve_access::AccessError;
use pve_access::openid::{self, OpenIdError, Return};
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry, Reply, blocking};
use serde_json::json;

use super::{audit, subdirs, ticket};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS_OPENID, |call| Box::pin(index(call)));
    registry.bind(id::POST_ACCESS_OPENID_AUTH_URL, |call| Box::pin(auth_url(call)));
    registry.bind(id::POST_ACCESS_OPENID_LOGIN, |call| Box::pin(log_in(call)));
}

async fn index(_call: Call) -> ApiResult {
    Ok(subdirs(&["auth-url", "login"]))
}

/// Where the browser is to go.
async fn auth_url(call: Call) -> ApiResult {
    blocking(move || {
        let params = &call.params;
        let (realm, redirect_url) = (params.required("realm"), params.required("redirect-url"));
        openid::auth_url(&call.context, realm, redirect_url, call.client.address)
            .map(|url| Reply::from(json!(url)))
            .map_err(OpenIdError::for_strangers)
    })
    .await
}

/// The browser came back.
async fn log_in(call: Call) -> ApiResult {
    blocking(move || {
        let params = &call.params;
        let arrival = openid::login(
            &call.context,
            &Return {
                state: params.required("state"),
                code: params.required("code"),
                redirect_url: params.required("redirect-url"),
                client: call.client.address,
            },
        )?;
        // What the log-in itself did has a line of its own.
        if !arrival.changes.is_empty() {
            audit::log_arrival(&call, arrival.login.user.as_str(), &arrival.changes);
        }
        Ok::<_, AccessError>(Reply::from(ticket::reply(&arrival.login)))
    })
    .await
}
