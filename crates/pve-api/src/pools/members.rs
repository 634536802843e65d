//! The members of a pool, as rows of `GET /cluster/resources` (10c §10).
//!
//! Who may see a pool sees what is in it, also guests and storages that it has no right on.

use pve_access::user_config::Pool;
use pve_cfs::Cfs;
use pve_metrics::{Subject, ToldRecords};
use pve_rest::ApiError;
use pve_schema::Context;
use pve_storage::Storages;
use serde_json::Value;

use crate::cluster::resources::{guest_row, storage_row};

/// The rows of a pool's members that exist, of one type (`qemu`, `lxc`, `storage`) or of all: guests, then storages,
/// both sorted by id.
pub(super) fn rows(context: &Context, pool: &Pool, wanted: Option<&str>) -> Result<Vec<Value>, ApiError> {
    let cfs = Cfs::new(context);
    let records = ToldRecords::load(&cfs, context.now())?;
    let shows = |kind: &str| wanted.is_none_or(|wanted| wanted == kind);
    let mut rows = Vec::new();

    let mut guests = cfs.guests()?;
    guests.retain(|guest| pool.vms.contains(&guest.vmid.get().into()) && shows(guest.kind.as_str()));
    guests.sort_by_key(|guest| guest.vmid.to_string());
    for guest in &guests {
        let options = cfs.listed_options(guest)?;
        rows.push(guest_row(guest, records.get(&Subject::Guest(guest.vmid)), &options).into());
    }

    if shows("storage") {
        let nodes = cfs.nodes()?;
        let own = &context.site.node;
        let storages = Storages::open(context)?;
        let mut members: Vec<_> = storages
            .iter()
            .filter(|storage| pool.storages.contains(storage.id.as_str()))
            .collect();
        members.sort_by_key(|storage| storage.id.as_str().to_owned());
        for storage in members {
            let here = std::iter::once(own).chain(&nodes);
            let Some(node) = here.into_iter().find(|node| storage.is_for_node(node)) else {
                continue;
            };
            let subject = Subject::Storage(node.clone(), storage.id.clone());
            rows.push(storage_row(storage, node, records.get(&subject)).into());
        }
    }
    Ok(rows)
}
