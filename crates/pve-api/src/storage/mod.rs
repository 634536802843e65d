//! `/storage` (reference 08 §7)

use pve_access::AccessControl;
use pve_contract::id;
use pve_rest::{ApiError, ApiResult, Call, Registry, Reply, blocking};
use pve_schema::ids::StorageId;
use pve_schema::schema::Kind;
use pve_storage::config::{edit, option_kind};
use pve_storage::{StorageConfig, StorageError, StorageKind, Storages};
use serde_json::{Map, Value, json};

/// What a caller must hold, one of them, to see a storage.
pub(crate) const SEE: [&str; 2] = ["Datastore.Audit", "Datastore.AllocateSpace"];
/// Options that never leave the node, not even if somebody wrote them into the file by hand.
const HIDDEN: [&str; 2] = ["keyring", "password"];

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_STORAGE, |call| Box::pin(list(call)));
    registry.bind(id::POST_STORAGE, |call| Box::pin(create(call)));
    registry.bind(id::GET_STORAGE_STORAGE, |call| Box::pin(read(call)));
    registry.bind(id::PUT_STORAGE_STORAGE, |call| Box::pin(update(call)));
    registry.bind(id::DELETE_STORAGE_STORAGE, |call| Box::pin(delete(call)));
}

/// The storage that a call is about.
pub(crate) fn storage_id(call: &Call) -> Result<StorageId, ApiError> {
    let id = call.params.required("storage").parse();
    id.map_err(|error| ApiError::parameter("storage", format!("invalid format - {error}\n")))
}

/// `GET /storage`
async fn list(call: Call) -> ApiResult {
    blocking(move || {
        let rights = AccessControl::load(&call.context)?;
        let storages = Storages::open(&call.context)?;
        let caller = call.auth_id();
        let wanted = call.params.text("type");
        let rows: Vec<Value> = storages
            .iter()
            .filter(|config| wanted.is_none_or(|wanted| config.kind.as_str() == wanted))
            .filter(|config| rights.has_any(&caller, &format!("/storage/{}", config.id), &SEE))
            .map(|config| row(config, storages.file().digest()))
            .collect();
        Ok::<_, ApiError>(Value::from(rows).into())
    })
    .await
}

/// `GET /storage/{storage}`
async fn read(call: Call) -> ApiResult {
    blocking(move || {
        let storages = Storages::open(&call.context)?;
        let config = storages.config(&storage_id(&call)?)?;
        Ok::<_, ApiError>(row(config, storages.file().digest()).into())
    })
    .await
}

/// A section as the API shows it: flags and numbers are numbers.
fn row(config: &StorageConfig, digest: &str) -> Value {
    let shown = config.options().filter(|(option, _)| !HIDDEN.contains(option));
    let mut row: Map<String, Value> = shown
        .map(|(option, text)| (option.to_owned(), typed(option, text)))
        .collect();
    if config.is_shared() {
        row.insert("shared".to_owned(), 1.into());
    }
    row.insert("storage".to_owned(), config.id.to_string().into());
    row.insert("type".to_owned(), config.kind.as_str().into());
    row.insert("digest".to_owned(), digest.into());
    row.into()
}

fn typed(option: &str, text: &str) -> Value {
    match option_kind(option) {
        Kind::Boolean | Kind::Integer => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}

/// `POST /storage`
async fn create(call: Call) -> ApiResult {
    blocking(move || {
        let kind: StorageKind = call.params.required("type").parse().map_err(|error| {
            let text: pve_storage::kind::InvalidKind = error;
            ApiError::parameter("type", text.to_string())
        })?;
        let config = edit::create(&call.context, &storage_id(&call)?, kind, &call.params)?;
        Ok::<_, ApiError>(created(&config))
    })
    .await
}

/// `PUT /storage/{storage}`
async fn update(call: Call) -> ApiResult {
    blocking(move || {
        let config = edit::update(&call.context, &storage_id(&call)?, &call.params)?;
        Ok::<_, ApiError>(created(&config))
    })
    .await
}

fn created(config: &StorageConfig) -> Reply {
    json!({ "storage": config.id.as_str(), "type": config.kind.as_str() }).into()
}

/// `DELETE /storage/{storage}`
async fn delete(call: Call) -> ApiResult {
    blocking(move || {
        edit::remove(&call.context, &storage_id(&call)?).map_err(|error: StorageError| ApiError::from(error))?;
        Ok::<_, ApiError>(Reply::null())
    })
    .await
}
