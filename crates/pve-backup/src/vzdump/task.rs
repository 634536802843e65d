//! The run as a task.

use pve_schema::ids::VmId;
use pve_task::{Task, TaskError, Worker};
use serde::{Deserialize, Serialize};

use super::VzdumpError;
use super::conf::Conf;
use super::given::Given;
use super::lock::GlobalLock;
use super::options::Options;

/// `vzdump`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Vzdump {
    /// The options of the call.
    pub given: Given,
    /// The guests, by number: those of this node, and numbers that no guest has.
    pub attempted: Vec<VmId>,
    /// Selected guests of other nodes.
    pub elsewhere: Vec<VmId>,
}

impl Task for Vzdump {
    const KIND: &'static str = "backup-vzdump";

    fn run(self, worker: &mut Worker) -> Result<(), TaskError> {
        let context = worker.context.clone();
        let conf = Conf::load(&context);
        let options = Options::merge(&self.given, &conf.options, |_| None)?;
        let upid = worker.upid.clone();
        let lock = GlobalLock::acquire(&context, options.lockwait, &upid, &mut |_| {}, &|| false)?;
        lock.succeeded();
        Err(VzdumpError::NotYet("running a backup").into())
    }
}
