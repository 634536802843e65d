//! `pvenode`: this node (reference 09 §23). Verbs whose method is not built yet do not appear.
//!
//! Not here: `acme account register` and `acme plugin add|set`, which ask back and encode files.

mod show;

use Positional::{Optional, Required};
use pve_contract::{MethodId, id};

use crate::api::{Action, Entry, HERE, Positional, Program, Verb};

/// The tool.
pub(crate) static PROGRAM: Program = Program {
    name: "pvenode",
    about: "This node: its settings, certificates, tasks, and all of its guests at once.",
    entries: &[
        Entry::Group("acme", ACME),
        Entry::Group("cert", CERT),
        Entry::Group("config", CONFIG),
        Entry::Verb(Verb {
            positional: &[Required("target")],
            ..here(
                "migrateall",
                "Move all guests to another node",
                id::POST_NODES_NODE_MIGRATEALL,
            )
        }),
        Entry::Verb(here(
            "startall",
            "Start all guests that start at boot",
            id::POST_NODES_NODE_STARTALL,
        )),
        Entry::Verb(here("stopall", "Stop all guests", id::POST_NODES_NODE_STOPALL)),
        Entry::Verb(here("suspendall", "Suspend all guests", id::POST_NODES_NODE_SUSPENDALL)),
        Entry::Group("task", TASK),
        Entry::Verb(Verb {
            positional: &[Required("node")],
            action: Action::CallAndShow(show::woken),
            ..Verb::new("wakeonlan", "Wake another node", id::POST_NODES_NODE_WAKEONLAN)
        }),
    ],
    only: None,
};

/// A verb about this node.
const fn here(name: &'static str, about: &'static str, method: MethodId) -> Verb {
    Verb {
        fixed: HERE,
        ..Verb::new(name, about, method)
    }
}

const CONFIG: &[Entry] = &[
    Entry::Verb(Verb {
        action: Action::CallAndShow(show::config),
        ..here("get", "Print the node's settings", id::GET_NODES_NODE_CONFIG)
    }),
    Entry::Verb(here("set", "Change the node's settings", id::PUT_NODES_NODE_CONFIG)),
];

const TASK: &[Entry] = &[
    Entry::Verb(here("list", "List tasks, the newest first", id::GET_NODES_NODE_TASKS)),
    Entry::Verb(Verb {
        positional: &[Required("upid")],
        action: Action::CallAndShow(show::log),
        // A whole log, unless a part is asked for.
        defaults: &[("limit", "0")],
        hidden: &["download"],
        ..here("log", "Print the log of a task", id::GET_NODES_NODE_TASKS_UPID_LOG)
    }),
    Entry::Verb(Verb {
        positional: &[Required("upid")],
        ..here(
            "status",
            "Print how a task is doing",
            id::GET_NODES_NODE_TASKS_UPID_STATUS,
        )
    }),
];

const CERT: &[Entry] = &[
    Entry::Verb(here(
        "delete",
        "Delete the node's own certificate of a person's choice",
        id::DELETE_NODES_NODE_CERTIFICATES_CUSTOM,
    )),
    Entry::Verb(here(
        "info",
        "List the node's certificates",
        id::GET_NODES_NODE_CERTIFICATES_INFO,
    )),
    Entry::Verb(Verb {
        positional: &[Required("certificates"), Optional("key")],
        files: &["certificates", "key"],
        ..here(
            "set",
            "Take a certificate and its key from files",
            id::POST_NODES_NODE_CERTIFICATES_CUSTOM,
        )
    }),
];

const ACME: &[Entry] = &[
    Entry::Group("account", ACCOUNT),
    Entry::Group("cert", ACME_CERT),
    Entry::Group("plugin", PLUGIN),
];

const NAME: &[Positional] = &[Optional("name")];

const ACCOUNT: &[Entry] = &[
    Entry::Verb(Verb {
        positional: NAME,
        ..Verb::new("deactivate", "Give an account up", id::DELETE_CLUSTER_ACME_ACCOUNT_NAME)
    }),
    Entry::Verb(Verb {
        positional: NAME,
        ..Verb::new("info", "Print an account", id::GET_CLUSTER_ACME_ACCOUNT_NAME)
    }),
    Entry::Verb(Verb::new("list", "List accounts", id::GET_CLUSTER_ACME_ACCOUNT)),
    Entry::Verb(Verb {
        positional: NAME,
        ..Verb::new("update", "Change an account", id::PUT_CLUSTER_ACME_ACCOUNT_NAME)
    }),
];

const ACME_CERT: &[Entry] = &[
    Entry::Verb(here(
        "order",
        "Order a certificate",
        id::POST_NODES_NODE_CERTIFICATES_ACME_CERTIFICATE,
    )),
    Entry::Verb(here(
        "renew",
        "Renew the certificate",
        id::PUT_NODES_NODE_CERTIFICATES_ACME_CERTIFICATE,
    )),
    Entry::Verb(here(
        "revoke",
        "Revoke the certificate",
        id::DELETE_NODES_NODE_CERTIFICATES_ACME_CERTIFICATE,
    )),
];

const PLUGIN: &[Entry] = &[
    Entry::Verb(Verb {
        positional: &[Required("id")],
        ..Verb::new("config", "Print a plugin", id::GET_CLUSTER_ACME_PLUGINS_ID)
    }),
    Entry::Verb(Verb::new("list", "List plugins", id::GET_CLUSTER_ACME_PLUGINS)),
    Entry::Verb(Verb {
        positional: &[Required("id")],
        ..Verb::new("remove", "Remove a plugin", id::DELETE_CLUSTER_ACME_PLUGINS_ID)
    }),
];
