//! What the daemon tells its task process, as one line of JSON by pipe: never in the arguments, which everybody can read.

use pve_schema::Site;
use pve_schema::ids::AuthId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Version of the order. A task process runs the image that ordered it, so another version is a mistake.
pub(crate) const VERSION: u32 = 1;
/// Longest order: beyond any parameters that the API takes (512 KiB), escaped.
pub(crate) const MAX_ORDER: u64 = 4 * 1024 * 1024;
/// The answer that releases the task.
pub(crate) const RELEASE: &str = "OK";
/// What stands before the text of a failure on the way back.
pub(crate) const FAILURE: &str = "ERROR: ";

/// What is to be done, by whom, where.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Where the instance lives.
    pub(crate) site: Site,
    /// The type in the UPID.
    pub(crate) worker_type: String,
    /// The subject in the UPID.
    pub(crate) id: String,
    /// Who asked.
    pub(crate) caller: AuthId,
    /// The request it came from.
    pub(crate) request_id: String,
    /// [`crate::Task::KIND`].
    pub(crate) kind: String,
    /// The task itself.
    pub(crate) payload: Value,
}
