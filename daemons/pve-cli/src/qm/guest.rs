//! What is asked of the agent in the guest. None of it appears before the API asks agents.
//!
//! Not here: `exec`, which waits for what it started.

use pve_contract::id;

use super::of_vm;
use crate::api::Positional::Required;
use crate::api::{Entry, Prompt, Secret, Verb};

pub(super) const ENTRIES: &[Entry] = &[
    Entry::Verb(Verb {
        positional: &[Required("vmid"), Required("command")],
        ..of_vm("cmd", "Ask the agent in the guest", id::POST_NODES_NODE_QEMU_VMID_AGENT)
    }),
    Entry::Verb(Verb {
        positional: &[Required("vmid"), Required("pid")],
        ..of_vm(
            "exec-status",
            "Print how a program in the guest is doing",
            id::GET_NODES_NODE_QEMU_VMID_AGENT_EXEC_STATUS,
        )
    }),
    Entry::Verb(Verb {
        positional: &[Required("vmid"), Required("username")],
        secrets: &[Secret {
            parameter: "password",
            label: "password",
            prompt: Prompt::New,
            always: true,
        }],
        ..of_vm(
            "passwd",
            "Give a user of the guest a new password",
            id::POST_NODES_NODE_QEMU_VMID_AGENT_SET_USER_PASSWORD,
        )
    }),
];
