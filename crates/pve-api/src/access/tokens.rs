//! `/access/users/{userid}/token` (reference 02 §12.3).

use pve_access::error::AccessError;
use pve_access::token::change;
use pve_access::user_config::Token;
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry};
use pve_schema::ids::TokenId;
use serde_json::{Map, Value, json};

use super::users::{expire, user_id};
use super::{answer, list, non_empty};

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_ACCESS_USERS_USERID_TOKEN, |call| Box::pin(all(call)));
    registry.bind(id::GET_ACCESS_USERS_USERID_TOKEN_TOKENID, |call| Box::pin(one(call)));
    registry.bind(id::POST_ACCESS_USERS_USERID_TOKEN_TOKENID, |call| {
        Box::pin(create(call))
    });
    registry.bind(id::PUT_ACCESS_USERS_USERID_TOKEN_TOKENID, |call| Box::pin(update(call)));
    registry.bind(id::DELETE_ACCESS_USERS_USERID_TOKEN_TOKENID, |call| {
        Box::pin(delete(call))
    });
}

/// The parameters `userid` and `tokenid` together.
fn token_id(call: &Call) -> Result<TokenId, AccessError> {
    Ok(TokenId {
        user: user_id(call)?,
        name: call.params.required("tokenid").to_owned(),
    })
}

/// The fields of a token that are set.
pub(super) fn token_fields(token: &Token) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("privsep".to_owned(), json!(u8::from(token.privsep)));
    fields.insert("expire".to_owned(), json!(token.expire));
    if let Some(comment) = &token.comment {
        fields.insert("comment".to_owned(), json!(comment));
    }
    fields
}

/// The same in a list.
pub(super) fn token_row(name: &str, token: &Token) -> Value {
    let mut row = token_fields(token);
    row.insert("tokenid".to_owned(), json!(name));
    Value::Object(row)
}

async fn all(call: Call) -> ApiResult {
    answer(call, |call, access| {
        let tokens = &access.require_user(&user_id(call)?)?.tokens;
        Ok(tokens.iter().map(|(name, token)| token_row(name, token)).collect())
    })
    .await
}

async fn one(call: Call) -> ApiResult {
    answer(call, |call, access| {
        Ok(token_fields(access.require_token(&token_id(call)?)?).into())
    })
    .await
}

async fn create(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let id = token_id(call)?;
        let token = Token {
            expire: expire(call).unwrap_or(0),
            privsep: call.params.flag("privsep").unwrap_or(true),
            comment: non_empty(call, "comment"),
        };
        let secret = change::create(&call.context, &id, &token)?;
        let mut info = token_fields(&token);
        if !call.params.has("expire") {
            info.remove("expire");
        }
        Ok(json!({"full-tokenid": id.to_string(), "value": secret, "info": info}))
    })
    .await
}

async fn update(call: Call) -> ApiResult {
    answer(call, |call, _| {
        let id = token_id(call)?;
        let change = change::Change {
            expire: expire(call),
            privsep: call.params.flag("privsep"),
            comment: call.params.text("comment").map(str::to_owned),
            delete: list(call, "delete").into_iter().map(str::to_owned).collect(),
            regenerate: call.params.is_set("regenerate"),
        };
        let (token, secret) = change::update(&call.context, &id, &change)?;
        let mut fields = token_fields(&token);
        if let Some(secret) = secret {
            fields.insert("full-tokenid".to_owned(), json!(id.to_string()));
            fields.insert("value".to_owned(), json!(secret));
        }
        Ok(fields.into())
    })
    .await
}

async fn delete(call: Call) -> ApiResult {
    answer(call, |call, _| {
        change::delete(&call.context, &token_id(call)?)?;
        Ok(Value::Null)
    })
    .await
}
