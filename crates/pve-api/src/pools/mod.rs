//! `/pools` (reference 02 §14, 10c §10): pools of guests and storages, up to three levels deep.
//!
//! A nested pool's name holds `/`, which no component of a URL can: the calls below `/pools/{poolid}` are for pools of
//! the top level, and deprecated.

mod members;

use pve_access::pools::{self, Member, PoolChange};
use pve_access::user_config::Pool;
use pve_access::{AccessControl, AccessError};
use pve_cfs::Cfs;
use pve_contract::id;
use pve_rest::{ApiError, ApiResult, Call, Registry, Reply, blocking};
use pve_schema::list;
use pve_storage::Storages;
use serde_json::{Map, Value, json};

use crate::access::audit;

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_POOLS, |call| Box::pin(index(call)));
    registry.bind(id::POST_POOLS, |call| Box::pin(create(call)));
    registry.bind(id::PUT_POOLS, |call| Box::pin(update(call)));
    registry.bind(id::DELETE_POOLS, |call| Box::pin(delete(call)));
    registry.bind(id::GET_POOLS_POOLID, |call| Box::pin(read(call)));
    registry.bind(id::PUT_POOLS_POOLID, |call| Box::pin(update(call)));
    registry.bind(id::DELETE_POOLS_POOLID, |call| Box::pin(delete(call)));
}

/// `GET /pools`: all that the caller may see, or one with its members.
async fn index(call: Call) -> ApiResult {
    blocking(move || {
        let access = AccessControl::load(&call.context)?;
        let caller = call.auth_id();
        let rows: Vec<Value> = match call.params.text("poolid") {
            Some(name) => {
                access.require_all(&caller, &format!("/pool/{name}"), &["Pool.Audit"])?;
                let mut row = with_members(&call, &access, name)?;
                row.insert("poolid".to_owned(), json!(name));
                vec![row.into()]
            }
            None => {
                let pools = access.pools.iter();
                let seen = pools.filter(|(name, _)| access.has(&caller, &format!("/pool/{name}"), &["Pool.Audit"]));
                seen.map(|(name, pool)| {
                    let mut row = fields(pool);
                    row.insert("poolid".to_owned(), json!(name));
                    row.into()
                })
                .collect()
            }
        };
        Ok::<_, ApiError>(Value::from(rows).into())
    })
    .await
}

/// `GET /pools/{poolid}`
async fn read(call: Call) -> ApiResult {
    blocking(move || {
        let access = AccessControl::load(&call.context)?;
        let row = with_members(&call, &access, call.params.required("poolid"))?;
        Ok::<_, ApiError>(Value::Object(row).into())
    })
    .await
}

/// The fields of a pool that are set.
fn fields(pool: &Pool) -> Map<String, Value> {
    let mut fields = Map::new();
    if let Some(comment) = &pool.comment {
        fields.insert("comment".to_owned(), json!(comment));
    }
    fields
}

fn with_members(call: &Call, access: &AccessControl, name: &str) -> Result<Map<String, Value>, ApiError> {
    let pool = pools::require(access, name)?;
    let mut row = fields(pool);
    let members = members::rows(&call.context, pool, call.params.text("type"))?;
    row.insert("members".to_owned(), Value::from(members));
    Ok(row)
}

/// `POST /pools`
async fn create(call: Call) -> ApiResult {
    audit::change(call, |call| {
        let comment = call.params.text("comment").filter(|comment| !comment.is_empty());
        pools::create(
            &call.context,
            call.params.required("poolid"),
            comment.map(str::to_owned),
        )?;
        Ok(Reply::null())
    })
    .await
}

/// `PUT /pools` and `PUT /pools/{poolid}`
async fn update(call: Call) -> ApiResult {
    audit::change(call, |call| {
        let params = &call.params;
        let items = |name: &str| list::split(params.text(name).unwrap_or_default());
        let change = PoolChange {
            pool: params.required("poolid"),
            comment: params.text("comment"),
            // Checked already: every element is a number.
            vms: items("vms").into_iter().filter_map(|vmid| vmid.parse().ok()).collect(),
            storages: items("storage"),
            delete: params.is_set("delete"),
            allow_move: params.is_set("allow-move"),
        };
        pools::update(&call.context, &call.auth_id(), &change)?;
        Ok(Reply::null())
    })
    .await
}

/// `DELETE /pools` and `DELETE /pools/{poolid}`
async fn delete(call: Call) -> ApiResult {
    audit::change(call, |call| {
        let cfs = Cfs::new(&call.context);
        let storages = Storages::open(&call.context)?;
        let guests = cfs.guests()?;
        pools::delete(&call.context, call.params.required("poolid"), |member| {
            Ok::<_, AccessError>(match member {
                Member::Guest(vmid) => guests.iter().any(|guest| u64::from(guest.vmid.get()) == vmid),
                Member::Storage(name) => storages.iter().any(|storage| storage.id.as_str() == name),
            })
        })?;
        Ok(Reply::null())
    })
    .await
}
