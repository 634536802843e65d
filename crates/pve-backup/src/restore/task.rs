//! The task of a restore.

use pve_qemu::start;
use pve_qemu::tasks::Start;
use pve_schema::ids::VmId;
use pve_task::{Launcher, Task, TaskError, TaskRequest, Worker};
use serde::{Deserialize, Serialize};

use super::order::Order;
use super::run::restore;

/// `qmrestore`
#[derive(Debug, Serialize, Deserialize)]
pub struct Restore {
    /// The VM, which is locked already.
    pub vmid: VmId,
    /// What it is to be.
    pub order: Order,
    /// Whether it is started then.
    pub start: bool,
}

impl Task for Restore {
    const KIND: &'static str = "qemu-restore";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let (context, caller) = (worker.context.clone(), worker.caller.clone());
        restore(&context, self.vmid, &self.order, &caller, worker)?;
        if self.start {
            worker.log("Execute autostart");
            let request = TaskRequest {
                worker_type: "qmstart".to_owned(),
                id: self.vmid.to_string(),
                caller,
                request_id: worker.request_id.clone(),
            };
            let task = Start {
                vmid: self.vmid,
                options: start::Options::default(),
            };
            // The VM is there, whether it starts or not.
            if let Err(error) = Launcher::start(&context, request, &task) {
                worker.warn(error.to_string());
            }
        }
        Ok(())
    }
}
