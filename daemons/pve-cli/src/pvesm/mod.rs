//! `pvesm`: storages and what is on them (reference 08 §12).
//!
//! | module | holds |
//! |---|---|
//! | here | the table |
//! | [`show`] | how lists are printed, and verbs that no method has |
//!
//! Not here: `export` and `import`, which send volumes to other nodes, and `apiinfo`, which prints the version of upstream's
//! interface to storage plugins.

mod show;

use Positional::Required;
use pve_contract::id;

use crate::api::{Action, Entry, HERE, Positional, Program, Prompt, Secret, Verb};

/// The tool.
pub(crate) static PROGRAM: Program = Program {
    name: "pvesm",
    about: "Storages and what is on them.",
    entries: ENTRIES,
    only: None,
};

const STORAGE: &[Positional] = &[Required("storage")];
const VOLUME: &[Positional] = &[Required("volume")];

/// What a server asks for; it need not stand in the command line.
const PASSWORD: &[Secret] = &[Secret {
    parameter: "password",
    label: "password",
    prompt: Prompt::Known,
    always: false,
}];

const ENTRIES: &[Entry] = &[
    Entry::Verb(Verb {
        positional: &[Required("type"), Required("storage")],
        action: Action::CallAndShow(show::nothing),
        secrets: PASSWORD,
        ..Verb::new("add", "Make a storage known", id::POST_STORAGE)
    }),
    Entry::Verb(Verb {
        positional: &[
            Required("storage"),
            Required("vmid"),
            Required("filename"),
            Required("size"),
        ],
        fixed: HERE,
        action: Action::CallAndShow(show::allocated),
        ..Verb::new(
            "alloc",
            "Make a disk; an empty name lets the storage choose one",
            id::POST_NODES_NODE_STORAGE_STORAGE_CONTENT,
        )
    }),
    Entry::Verb(Verb {
        positional: VOLUME,
        fixed: HERE,
        ..Verb::new(
            "extractconfig",
            "Print the configuration in a backup",
            id::GET_NODES_NODE_VZDUMP_EXTRACTCONFIG,
        )
    }),
    Entry::Verb(Verb {
        positional: VOLUME,
        fixed: HERE,
        ..Verb::new(
            "free",
            "Delete a volume",
            id::DELETE_NODES_NODE_STORAGE_STORAGE_CONTENT_VOLUME,
        )
    }),
    Entry::Verb(Verb {
        positional: STORAGE,
        fixed: HERE,
        action: Action::CallAndShow(show::volumes),
        ..Verb::new(
            "list",
            "List what is on a storage",
            id::GET_NODES_NODE_STORAGE_STORAGE_CONTENT,
        )
    }),
    Entry::Verb(Verb {
        positional: VOLUME,
        ..Verb::own("path", "Print where a volume is", show::PATH, show::path)
    }),
    Entry::Verb(Verb {
        positional: STORAGE,
        fixed: HERE,
        ..Verb::new(
            "prune-backups",
            "Delete old backups as the storage's retention says",
            id::DELETE_NODES_NODE_STORAGE_STORAGE_PRUNEBACKUPS,
        )
    }),
    Entry::Verb(Verb {
        positional: STORAGE,
        ..Verb::new(
            "remove",
            "Forget a storage; what is on it stays",
            id::DELETE_STORAGE_STORAGE,
        )
    }),
    Entry::Group("scan", SCAN),
    Entry::Verb(Verb {
        positional: STORAGE,
        action: Action::CallAndShow(show::nothing),
        secrets: PASSWORD,
        ..Verb::new("set", "Change a storage's settings", id::PUT_STORAGE_STORAGE)
    }),
    Entry::Verb(Verb {
        fixed: HERE,
        action: Action::CallAndShow(show::storages),
        ..Verb::new(
            "status",
            "List storages and how full they are",
            id::GET_NODES_NODE_STORAGE,
        )
    }),
    Entry::Alias("cifsscan", &["scan", "cifs"]),
    Entry::Alias("iscsiscan", &["scan", "iscsi"]),
    Entry::Alias("lvmscan", &["scan", "lvm"]),
    Entry::Alias("lvmthinscan", &["scan", "lvmthin"]),
    Entry::Alias("nfsscan", &["scan", "nfs"]),
    Entry::Alias("zfsscan", &["scan", "zfs"]),
];

const fn scan(
    name: &'static str,
    about: &'static str,
    method: pve_contract::MethodId,
    positional: &'static [Positional],
) -> Entry {
    Entry::Verb(Verb {
        positional,
        fixed: HERE,
        secrets: PASSWORD,
        ..Verb::new(name, about, method)
    })
}

const SCAN: &[Entry] = &[
    scan(
        "cifs",
        "List what a CIFS server shares",
        id::GET_NODES_NODE_SCAN_CIFS,
        &[Required("server")],
    ),
    scan(
        "iscsi",
        "List the targets of an iSCSI portal",
        id::GET_NODES_NODE_SCAN_ISCSI,
        &[Required("portal")],
    ),
    scan("lvm", "List volume groups", id::GET_NODES_NODE_SCAN_LVM, &[]),
    scan(
        "lvmthin",
        "List the thin pools of a volume group",
        id::GET_NODES_NODE_SCAN_LVMTHIN,
        &[Required("vg")],
    ),
    scan(
        "nfs",
        "List what an NFS server exports",
        id::GET_NODES_NODE_SCAN_NFS,
        &[Required("server")],
    ),
    scan(
        "pbs",
        "List the datastores of a backup server",
        id::GET_NODES_NODE_SCAN_PBS,
        &[Required("server"), Required("username")],
    ),
    scan("zfs", "List ZFS pools", id::GET_NODES_NODE_SCAN_ZFS, &[]),
];
