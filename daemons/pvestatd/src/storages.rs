//! The node's storages (reference 04 §9.7): an errand for each, since each may hang.

use pve_daemon::BoxError;
use pve_metrics::{Object, StorageFigures};
use pve_schema::Context;
use pve_schema::ids::StorageId;
use pve_storage::{Status, StorageConfig, Storages};
use serde_json::Value;

use crate::cycle::publish;
use crate::errands::{Errand, Found};
use crate::outbox::Outbox;

/// An errand per storage that this node may use.
pub(crate) fn errands(context: &Context, outbox: &Outbox) -> Result<Found, BoxError> {
    let storages = Storages::open(context)?;
    let usable = storages
        .iter()
        .filter(|config| storages.check_enabled(&config.id, None).is_ok());
    let errand = |config: &StorageConfig| {
        let (context, outbox, config) = (context.clone(), outbox.clone(), config.clone());
        let id = config.id.clone();
        // What is known of one that hangs, now and for as long as it does.
        outbox.post_storage(id.clone(), object(&config, Status::default()));
        Errand::new(format!("storage status update of '{id}'"), move || {
            let status = update(&context, id.clone())?;
            outbox.post_storage(id, object(&config, status));
            Ok(Found::default())
        })
    };
    Ok(usable.map(errand).collect::<Vec<_>>().into())
}

/// Looks at a storage, made usable first, and tells what it saw. One that cannot be used is not told of.
fn update(context: &Context, id: StorageId) -> Result<Status, BoxError> {
    // A look of its own: one that is shared lets only one storage be made usable at a time.
    let storages = Storages::open(context)?;
    storages.activate(&id)?;
    let status = storages.status(&id)?;
    if !status.active {
        return Err(format!("storage '{id}' is not online").into());
    }
    let figures = StorageFigures {
        time: context.now(),
        total: status.total,
        used: status.used,
    };
    publish(context, &figures.record(context.site.node.clone(), id))?;
    Ok(status)
}

/// All that is known of a storage (reference 04 §9.7).
fn object(config: &StorageConfig, status: Status) -> Object {
    let pairs: [(&str, Value); 8] = [
        ("total", status.total.into()),
        ("avail", status.available.into()),
        ("used", status.used.into()),
        ("active", u8::from(status.active).into()),
        ("enabled", u8::from(!config.is_disabled()).into()),
        ("shared", u8::from(config.is_shared()).into()),
        ("type", config.kind.as_str().into()),
        ("content", config.get("content").unwrap_or_default().into()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
