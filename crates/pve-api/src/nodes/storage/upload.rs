//! Uploads: the HTTP server has put the file into the spool, a task takes it from there, to a storage of this node or of
//! another one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_storage::import::{Algorithm, Checksum};
use pve_storage::tasks::ImportUpload;
use pve_storage::upload::upload_name;
use pve_storage::{Content, StorageError, Storages};
use serde_json::Value;

use super::super::terminal::other_node;
use crate::storage::storage_id;
use crate::task;

/// `POST /nodes/{node}/storage/{storage}/upload`
pub(super) async fn upload(call: Call) -> ApiResult {
    blocking(move || {
        let Some(spooled) = call.params.text("tmpfilename") else {
            return Err(ApiError::plain("missing temporary file name"));
        };
        let spooled = call.context.site.path(spooled);
        let started = order(&call, &spooled).and_then(|order| task::start(&call, "imgcopy", String::new(), &order));
        if started.is_err() {
            // The task would have removed it.
            remove(&spooled);
        }
        Ok(Value::from(started?.to_string()).into())
    })
    .await
}

/// What the task is to do, if it may be done.
fn order(call: &Call, spooled: &Path) -> Result<ImportUpload, ApiError> {
    let storages = Storages::open(&call.context)?;
    let storage = storage_id(call)?;
    let node = other_node(call)?;
    let config = storages.check_enabled(&storage, node.as_ref())?;
    let content = call.params.parse("content");
    let content: Content = content.ok().flatten().unwrap_or(Content::None);
    if !config.kind.is_file_based() {
        let text = format!("can't upload to storage type '{}'", config.kind);
        return Err(ApiError::plain(text));
    }
    if !config.holds(content) {
        return Err(StorageError::NoContent { storage, content }.into());
    }
    let file_name = upload_name(content, call.params.required("filename"));
    Ok(ImportUpload {
        storage,
        content,
        file_name: file_name.map_err(|error| ApiError::parameter("filename", error.to_string()))?,
        upload: PathBuf::from(spooled),
        checksum: checksum(call),
        node,
    })
}

/// Each of the two parameters needs the other.
fn checksum(call: &Call) -> Option<Checksum> {
    Some(Checksum {
        algorithm: Algorithm::parse(call.params.text("checksum-algorithm")?)?,
        value: call.params.text("checksum")?.to_owned(),
    })
}

fn remove(spooled: &Path) {
    match fs::remove_file(spooled) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            log::warn!("unable to remove '{}' - {error}", spooled.display());
        }
        _ => {}
    }
}
