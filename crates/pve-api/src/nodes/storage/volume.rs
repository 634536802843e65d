//! One volume.

use std::time::Duration;

use pve_access::AccessControl;
use pve_rest::{ApiError, ApiResult, Call, Reply, blocking};
use pve_schema::ids::VolumeId;
use pve_storage::tasks::RemoveVolume;
use pve_storage::{Content, ImageFormat, Storages};
use pve_task::status;
use serde_json::{Map, Value};

use crate::storage::storage_id;
use crate::task;

/// The volume that a call is about: its id, or its name on the storage of the path.
fn volume_id(call: &Call) -> Result<VolumeId, ApiError> {
    let text = call.params.required("volume");
    let storage = call.params.text("storage").map(|_| storage_id(call)).transpose()?;
    match (text.parse::<VolumeId>(), storage) {
        (Ok(volume), Some(storage)) if volume.storage != storage => Err(ApiError::parameter(
            "volume",
            format!("storage ID mismatch ({storage} != {})", volume.storage),
        )),
        (Ok(volume), _) => Ok(volume),
        (Err(_), Some(storage)) => {
            let volume = format!("{storage}:{text}").parse();
            volume.map_err(|error: pve_schema::ids::InvalidVolumeId| ApiError::plain(error.to_string()))
        }
        (Err(error), None) => Err(ApiError::plain(error.to_string())),
    }
}

/// `GET …/content/{volume}`
pub(super) async fn read(call: Call) -> ApiResult {
    blocking(move || {
        let rights = AccessControl::load(&call.context)?;
        let storages = Storages::open(&call.context)?;
        let volume = volume_id(&call)?;
        storages.check_volume_access(&rights, &call.auth_id(), &volume.to_string(), None, None)?;
        let info = storages.size_info(&volume)?;
        if info.size == 0 && info.format != ImageFormat::Subvol.as_str() {
            return Err(ApiError::plain(format!("volume '{volume}' has size zero")));
        }
        let mut row = Map::new();
        let mut set = |key: &str, value: Value| row.insert(key.to_owned(), value);
        set("path", storages.path(&volume)?.display().to_string().into());
        set("size", info.size.into());
        set("used", info.used.into());
        set("format", info.format.into());
        if storages.parse(&volume)?.1.content == Content::Backup {
            let notes = storages.notes(&volume)?;
            if !notes.is_empty() {
                set("notes", notes.into());
            }
            if storages.is_protected(&volume)? {
                set("protected", 1.into());
            }
        }
        Ok::<_, ApiError>(Value::from(row).into())
    })
    .await
}

/// `PUT …/content/{volume}`: notes and protection of a backup.
pub(super) async fn update(call: Call) -> ApiResult {
    blocking(move || {
        let rights = AccessControl::load(&call.context)?;
        let storages = Storages::open(&call.context)?;
        let volume = volume_id(&call)?;
        let caller = call.auth_id();
        storages.check_volume_access(&rights, &caller, &volume.to_string(), None, None)?;
        if let Some(notes) = call.params.text("notes") {
            storages.set_notes(&volume, notes)?;
        }
        if let Some(protected) = call.params.flag("protected") {
            let path = format!("/storage/{}", volume.storage);
            let unlimited = rights.has(&caller, &path, &["Datastore.Allocate"]);
            storages.set_protected(&volume, protected, unlimited)?;
        }
        Ok::<_, ApiError>(Reply::null())
    })
    .await
}

/// `DELETE …/content/{volume}`: a task; who is ready to wait hears of its end, if it comes in time.
pub(super) async fn delete(call: Call) -> ApiResult {
    blocking(move || {
        let rights = AccessControl::load(&call.context)?;
        let storages = Storages::open(&call.context)?;
        let volume = volume_id(&call)?;
        let caller = call.auth_id();
        let (_, name) = storages.parse(&volume)?;
        let storage = format!("/storage/{}", volume.storage);
        match name.owner.filter(|_| name.content == Content::Backup) {
            Some(owner) => {
                rights.require_all(&caller, &storage, &["Datastore.AllocateSpace"])?;
                rights.require_all(&caller, &format!("/vms/{owner}"), &["VM.Backup"])?;
            }
            None => rights.require_all(&caller, &storage, &["Datastore.Allocate"])?,
        }
        let id = match name.owner {
            Some(owner) => format!("{owner}@{}", volume.storage),
            None => volume.storage.to_string(),
        };
        let upid = task::start(&call, "imgdel", id, &RemoveVolume { volume })?;
        let delay = call.params.integer("delay").and_then(|delay| u64::try_from(delay).ok());
        match delay.and_then(|delay| task::status_within(&call, &upid, Duration::from_secs(delay))) {
            Some(status) if status::is_error(&status) => Err(ApiError::plain(status)),
            Some(_) => Ok(Reply::null()),
            None => Ok(Value::from(upid.to_string()).into()),
        }
    })
    .await
}
