//! `/cluster/options`: what `datacenter.cfg` says for all nodes (reference 04 §8).

mod change;
mod show;

use pve_access::AccessControl;
use pve_cfs::{Cfs, Datacenter};
use pve_contract::id;
use pve_rest::{ApiResult, Call, Registry, Reply, blocking};

use crate::access::audit;

/// Generated hardware addresses begin with this unless the options say otherwise; never written.
const MAC_PREFIX: &str = "BC:24:11";

pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_CLUSTER_OPTIONS, |call| Box::pin(blocking(move || get(&call))));
    registry.bind(id::PUT_CLUSTER_OPTIONS, |call| Box::pin(audit::change(call, put)));
}

fn get(call: &Call) -> ApiResult {
    let cfs = Cfs::new(&call.context);
    let access = AccessControl::load(&call.context)?;
    let datacenter = Datacenter::read(&cfs)?;
    Ok(show::answer(&cfs, &access, &call.auth_id(), &datacenter)?.into())
}

fn put(call: &Call) -> ApiResult {
    change::apply(&Cfs::new(&call.context), &call.params)?;
    Ok(Reply::null())
}
