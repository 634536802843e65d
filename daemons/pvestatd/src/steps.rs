//! The steps of a cycle: one list, from which their threads, their log lines and their series of metrics come.
//!
//! A step is added by a line of [`steps!`], in the order of reference 04 §9.3, which also names them. What it remembers
//! from cycle to cycle is in [`Shared`]. A step's work may hang and fail as it likes: see [`crate::errands`].
//!
//! What of the reference has no line: refreshing caches of `/etc/pve` (files are looked at when they are used),
//! and `ceph metadata update` (the suite has no Ceph). `cpu flags update` is a part of the node's step there, and
//! `status store cleanup` is the suite's own.

use std::sync::{Arc, Mutex};

use pve_daemon::BoxError;
use pve_schema::Context;

use crate::errands::{Errand, Found};
use crate::outbox::Outbox;
use crate::{containers, cpu_flags, facts, guests, node, storages, upkeep};

/// What the steps work with.
pub(crate) struct Shared {
    pub(crate) context: Context,
    /// The node's CPU times.
    pub(crate) meter: Mutex<node::Meter>,
    /// When the status store was last looked through.
    pub(crate) cleaned: upkeep::LastLook,
    /// What is known of the CPU flags that VMs can have.
    pub(crate) flags: cpu_flags::Flags,
    /// What is remembered of spreading containers over the CPUs.
    pub(crate) balancer: Mutex<pve_lxc::cpuset::Balancer>,
    /// Where steps put all that they saw.
    pub(crate) outbox: Outbox,
}

impl Shared {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            context: context.clone(),
            meter: Mutex::default(),
            cleaned: upkeep::LastLook::default(),
            flags: cpu_flags::Flags::default(),
            balancer: Mutex::default(),
            outbox: Outbox::new(context),
        }
    }
}

/// A step.
pub(crate) struct Step {
    /// What the log calls it.
    pub(crate) name: &'static str,
    /// What it does.
    work: fn(&Arc<Shared>) -> Result<Found, BoxError>,
}

impl Step {
    /// The step as something to be done.
    pub(crate) fn errand(&self, shared: &Arc<Shared>) -> Errand {
        let (work, shared) = (self.work, Arc::clone(shared));
        Errand::new(self.name, move || work(&shared))
    }
}

macro_rules! steps {
    ($($name:literal => $work:expr,)+) => {
        /// All of them.
        pub(crate) static STEPS: &[Step] = &[$(Step { name: $name, work: $work },)+];
        /// The labels of their series.
        pub(crate) static SERIES: &[&str] = &[$(concat!("step=\"", $name, "\""),)+];
    };
}

steps! {
    "task list update" => |shared| upkeep::refresh_tasks(&shared.context),
    "node status update" => |shared| node::update(&shared.context, &shared.meter, &shared.outbox),
    "cpu flags update" => |shared| cpu_flags::update(&shared.context, &shared.flags).map(Found::from),
    "qemu status update" => |shared| guests::update(&shared.context, &shared.outbox),
    "lxc status update" => |shared| containers::update(&shared.context, &shared.outbox),
    "lxc cpuset rebalance" => |shared| containers::balance(&shared.context, &shared.balancer),
    "storage status update" => |shared| storages::errands(&shared.context, &shared.outbox),
    "lxc console cleanup" => |shared| containers::end_consoles(&shared.context),
    "authkey rotation" => |shared| upkeep::rotate_key(&shared.context),
    "sdn status update" => |shared| facts::zones(&shared.context).map(Found::from),
    "network status update" => |shared| facts::network(&shared.context).map(Found::from),
    "version info update" => |shared| facts::version(&shared.context).map(Found::from),
    "status store cleanup" => |shared| upkeep::forget_old(&shared.context, &shared.cleaned),
}

/// The place of the step to which an errand belongs: one for a single object – a storage – begins with its name.
pub(crate) fn position(errand: &str) -> Option<usize> {
    STEPS.iter().position(|step| errand.starts_with(step.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_errand_is_told_from_those_of_other_steps() {
        for (at, step) in STEPS.iter().enumerate() {
            assert_eq!(position(step.name), Some(at));
            assert_eq!(position(&format!("{} of 'x'", step.name)), Some(at));
            assert_eq!(SERIES[at], format!("step=\"{}\"", step.name));
        }
        assert_eq!(position("something else"), None);
    }
}
