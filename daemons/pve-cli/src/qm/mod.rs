//! `qm`: virtual machines of this node.
//!
//! | module | holds |
//! |---|---|
//! | here | the table: power, configuration, disks, snapshots, other nodes |
//! | [`guest`] | the table of what is asked of the agent in the guest |
//! | [`show`] | how lists and configurations are printed |
//! | [`state`] | verbs that no method has: `status`, `unlock`, `wait`, `showcmd`, `rescan` |
//! | [`console`] | verbs that connect standard input and output to a VM: `terminal`, `vncproxy` |
//! | [`error`] | what can go wrong with these |
//!
//! Not here: `cleanup`, which `qmeventd` does itself; `mtunnel`, `nbdstop` and the imports, which need what is not built.

mod console;
mod error;
mod guest;
mod show;
mod state;

use Positional::{Optional, Required};
use pve_contract::id;

use crate::api::{Action, Entry, HERE, Positional, Program, Verb};

/// The tool.
pub(crate) static PROGRAM: Program = Program {
    name: "qm",
    about: "Virtual machines of this node.",
    entries: ENTRIES,
    only: None,
};

const VMID: &[Positional] = &[Required("vmid")];
const SNAPSHOT: &[Positional] = &[Required("vmid"), Required("snapname")];

/// A verb about one VM of this node.
const fn of_vm(name: &'static str, about: &'static str, method: pve_contract::MethodId) -> Verb {
    Verb {
        positional: VMID,
        fixed: HERE,
        ..Verb::new(name, about, method)
    }
}

/// A verb about one VM that calls no method.
const fn own(
    name: &'static str,
    about: &'static str,
    parameters: &'static [pve_schema::schema::Parameter],
    work: crate::api::Work,
) -> Verb {
    Verb {
        positional: VMID,
        ..Verb::own(name, about, parameters, work)
    }
}

const ENTRIES: &[Entry] = &[
    Entry::Verb(CLONE),
    Entry::Group("cloudinit", CLOUDINIT),
    Entry::Verb(Verb {
        action: Action::CallAndShow(show::config),
        ..of_vm(
            "config",
            "Print the configuration, with what waits for the next start",
            id::GET_NODES_NODE_QEMU_VMID_CONFIG,
        )
    }),
    Entry::Verb(of_vm(
        "create",
        "Make a VM, or restore one from a backup",
        id::POST_NODES_NODE_QEMU,
    )),
    Entry::Verb(Verb {
        positional: SNAPSHOT,
        ..of_vm(
            "delsnapshot",
            "Delete a snapshot",
            id::DELETE_NODES_NODE_QEMU_VMID_SNAPSHOT_SNAPNAME,
        )
    }),
    Entry::Verb(of_vm(
        "destroy",
        "Destroy a VM and all of its disks",
        id::DELETE_NODES_NODE_QEMU_VMID,
    )),
    Entry::Group("disk", DISK),
    Entry::Group("guest", guest::ENTRIES),
    Entry::Verb(Verb {
        action: Action::CallAndShow(show::list),
        fixed: HERE,
        ..Verb::new("list", "List the VMs of this node", id::GET_NODES_NODE_QEMU)
    }),
    Entry::Verb(of_vm(
        "listsnapshot",
        "List the snapshots of a VM",
        id::GET_NODES_NODE_QEMU_VMID_SNAPSHOT,
    )),
    Entry::Verb(Verb {
        positional: &[Required("vmid"), Required("target")],
        ..of_vm(
            "migrate",
            "Move a VM to another node",
            id::POST_NODES_NODE_QEMU_VMID_MIGRATE,
        )
    }),
    Entry::Verb(Verb {
        action: Action::CallAndShow(show::pending),
        ..of_vm(
            "pending",
            "Print the configuration that runs and what waits for the next start",
            id::GET_NODES_NODE_QEMU_VMID_PENDING,
        )
    }),
    Entry::Verb(of_vm(
        "reboot",
        "Shut a VM down and start it again",
        id::POST_NODES_NODE_QEMU_VMID_STATUS_REBOOT,
    )),
    Entry::Verb(of_vm(
        "reset",
        "Push the reset button",
        id::POST_NODES_NODE_QEMU_VMID_STATUS_RESET,
    )),
    Entry::Verb(of_vm(
        "resume",
        "Let a suspended VM go on",
        id::POST_NODES_NODE_QEMU_VMID_STATUS_RESUME,
    )),
    Entry::Verb(Verb {
        positional: SNAPSHOT,
        ..of_vm(
            "rollback",
            "Go back to a snapshot",
            id::POST_NODES_NODE_QEMU_VMID_SNAPSHOT_SNAPNAME_ROLLBACK,
        )
    }),
    Entry::Verb(Verb {
        positional: &[Required("vmid"), Required("key")],
        ..of_vm(
            "sendkey",
            "Press keys, as ctrl-alt-delete",
            id::PUT_NODES_NODE_QEMU_VMID_SENDKEY,
        )
    }),
    Entry::Verb(Verb {
        secrets: CLOUDINIT_PASSWORD,
        ..of_vm("set", "Change the configuration", id::PUT_NODES_NODE_QEMU_VMID_CONFIG)
    }),
    Entry::Verb(own(
        "showcmd",
        "Print QEMU's command line",
        state::SHOWCMD,
        state::show_command,
    )),
    Entry::Verb(of_vm(
        "shutdown",
        "Ask the guest to shut down, and wait until it has",
        id::POST_NODES_NODE_QEMU_VMID_STATUS_SHUTDOWN,
    )),
    Entry::Verb(Verb {
        positional: SNAPSHOT,
        ..of_vm("snapshot", "Take a snapshot", id::POST_NODES_NODE_QEMU_VMID_SNAPSHOT)
    }),
    Entry::Verb(of_vm("start", "Start a VM", id::POST_NODES_NODE_QEMU_VMID_STATUS_START)),
    Entry::Verb(own("status", "Print whether a VM runs", state::STATUS, state::status)),
    Entry::Verb(of_vm(
        "stop",
        "Stop a VM at once, as by pulling its plug",
        id::POST_NODES_NODE_QEMU_VMID_STATUS_STOP,
    )),
    Entry::Verb(of_vm(
        "suspend",
        "Let a VM stand still",
        id::POST_NODES_NODE_QEMU_VMID_STATUS_SUSPEND,
    )),
    Entry::Verb(of_vm(
        "template",
        "Make a template of a VM",
        id::POST_NODES_NODE_QEMU_VMID_TEMPLATE,
    )),
    Entry::Verb(own(
        "terminal",
        "Show a serial port of a running VM, for one at a time",
        console::TERMINAL,
        console::terminal,
    )),
    Entry::Verb(own(
        "unlock",
        "Remove the lock from a configuration",
        state::ONLY_VMID,
        state::unlock,
    )),
    Entry::Verb(own(
        "vncproxy",
        "Set the display's password, from LC_PVE_TICKET, and connect it: VNC on standard input and output",
        state::ONLY_VMID,
        console::vnc_proxy,
    )),
    Entry::Verb(own("wait", "Wait until a VM has stopped", state::WAIT, state::wait)),
    Entry::Alias("agent", &["guest", "cmd"]),
    Entry::Alias("move-disk", &["disk", "move"]),
    Entry::Alias("move_disk", &["disk", "move"]),
    Entry::Alias("rescan", &["disk", "rescan"]),
    Entry::Alias("resize", &["disk", "resize"]),
    Entry::Alias("unlink", &["disk", "unlink"]),
];

const CLONE: Verb = Verb {
    positional: &[Required("vmid"), Required("newid")],
    ..of_vm("clone", "Copy a VM", id::POST_NODES_NODE_QEMU_VMID_CLONE)
};

/// The password for the guest's first user need not stand in the command line.
const CLOUDINIT_PASSWORD: &[crate::api::Secret] = &[crate::api::Secret {
    parameter: "cipassword",
    label: "password",
    prompt: crate::api::Prompt::New,
    always: false,
}];

const CLOUDINIT: &[Entry] = &[
    Entry::Verb(Verb {
        positional: &[Required("vmid"), Required("type")],
        ..of_vm(
            "dump",
            "Print a generated cloud-init file",
            id::GET_NODES_NODE_QEMU_VMID_CLOUDINIT_DUMP,
        )
    }),
    Entry::Verb(Verb {
        action: Action::CallAndShow(show::pending),
        ..of_vm(
            "pending",
            "Print what the cloud-init drive has and what it will have",
            id::GET_NODES_NODE_QEMU_VMID_CLOUDINIT,
        )
    }),
    Entry::Verb(of_vm(
        "update",
        "Make the cloud-init drive anew",
        id::PUT_NODES_NODE_QEMU_VMID_CLOUDINIT,
    )),
];

const DISK: &[Entry] = &[
    Entry::Verb(Verb {
        positional: &[Required("vmid"), Required("disk"), Optional("storage")],
        ..of_vm(
            "move",
            "Move a disk to another storage or VM",
            id::POST_NODES_NODE_QEMU_VMID_MOVE_DISK,
        )
    }),
    Entry::Verb(Verb::own(
        "rescan",
        "Record sizes of disks as they are, and list disks that nothing refers to as unused",
        state::RESCAN,
        state::rescan,
    )),
    Entry::Verb(Verb {
        positional: &[Required("vmid"), Required("disk"), Required("size")],
        ..of_vm("resize", "Make a disk larger", id::PUT_NODES_NODE_QEMU_VMID_RESIZE)
    }),
    Entry::Verb(of_vm(
        "unlink",
        "Take disks out of the configuration, or delete unused ones",
        id::PUT_NODES_NODE_QEMU_VMID_UNLINK,
    )),
];
