//! The node's storages (reference 04 §9.7): an errand for each, since each may hang.

use pve_daemon::BoxError;
use pve_metrics::StorageFigures;
use pve_schema::Context;
use pve_schema::ids::StorageId;
use pve_storage::Storages;

use crate::cycle::publish;
use crate::errands::Errand;

/// An errand per storage that this node may use.
pub(crate) fn errands(context: &Context) -> Result<Vec<Errand>, BoxError> {
    let storages = Storages::open(context)?;
    let usable = storages
        .iter()
        .filter(|config| storages.check_enabled(&config.id, None).is_ok());
    let errand = |config: &pve_storage::StorageConfig| {
        let (context, id) = (context.clone(), config.id.clone());
        Errand::new(format!("storage status update of '{id}'"), move || {
            update(&context, id).map(|()| Vec::new())
        })
    };
    Ok(usable.map(errand).collect())
}

/// Looks at a storage, made usable first, and tells what it saw. One that cannot be used is not told of.
fn update(context: &Context, id: StorageId) -> Result<(), BoxError> {
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
    publish(context, &figures.record(context.site.node.clone(), id))
}
