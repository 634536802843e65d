//! `vzdump`: backups of this node's guests, now and in the foreground (reference 05 §12.1, §17.8).
//!
//! `vzdump -stop` alone stops the backups that run on this node: what `pve-guests.service` does before guests are stopped.

use pve_contract::id;

use crate::api::Positional::Several;
use crate::api::{HERE, Program, Verb};

/// The tool.
pub(crate) static PROGRAM: Program = Program {
    name: "vzdump",
    about: "Backups of this node's guests.",
    entries: &[],
    only: Some(&VZDUMP),
};

static VZDUMP: Verb = Verb {
    positional: &[Several("vmid")],
    fixed: HERE,
    // Written by the scheduler alone; and an archive on standard output would be mixed with the log.
    hidden: &["job-id", "stdout"],
    ..Verb::new(
        "vzdump",
        "Back up guests of this node, or with -stop alone: stop the backups that run here",
        id::POST_NODES_NODE_VZDUMP,
    )
};
