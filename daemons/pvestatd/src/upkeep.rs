//! What else has to be done regularly.

use pve_access::ticket;
use pve_cfs::Cfs;
use pve_daemon::BoxError;
use pve_schema::Context;
use pve_task::TaskList;

use crate::counters;
use crate::errands::Found;

/// Notices tasks that ended without saying so, and tells the other nodes.
pub(crate) fn refresh_tasks(context: &Context) -> Result<Found, BoxError> {
    let entries = TaskList::new(context).refresh(None)?;
    counters::running_tasks(entries.iter().filter(|entry| entry.endtime.is_none()).count());
    Ok(().into())
}

/// Replaces the key that signs tickets, once a day.
pub(crate) fn rotate_key(context: &Context) -> Result<Found, BoxError> {
    Ok(ticket::rotate_if_stale(context)?.into())
}

/// Takes records out of the status store that nobody believes any more: of guests and storages that are gone.
pub(crate) fn forget_old(context: &Context) -> Result<Found, BoxError> {
    Ok(pve_metrics::told::forget_old(&Cfs::new(context), context.now())?.into())
}
