//! `pveum`: users, groups, roles, rights, realms, pools, API tokens and second factors (reference 02 §15).
//!
//! What the verbs do is the API's; here is only which verb calls what. The few that print or do something of their own are
//! in [`special`].

mod special;

use pve_contract::id;

use crate::api::{Action, Entry, Positional, Program, Prompt, Secret, Verb};
use Positional::{Optional, Required};

/// The tool.
pub(crate) static PROGRAM: Program = Program {
    name: "pveum",
    about: "Users, rights and realms: who may do what.",
    only: None,
    entries: &[
        Entry::Group("acl", ACL),
        Entry::Group("group", GROUP),
        Entry::Verb(PASSWD),
        Entry::Group("pool", POOL),
        Entry::Group("realm", REALM),
        Entry::Group("role", ROLE),
        Entry::Verb(TICKET),
        Entry::Group("user", USER),
        Entry::Alias("acldel", &["acl", "delete"]),
        Entry::Alias("aclmod", &["acl", "modify"]),
        Entry::Alias("groupadd", &["group", "add"]),
        Entry::Alias("groupdel", &["group", "delete"]),
        Entry::Alias("groupmod", &["group", "modify"]),
        Entry::Alias("roleadd", &["role", "add"]),
        Entry::Alias("roledel", &["role", "delete"]),
        Entry::Alias("rolemod", &["role", "modify"]),
        Entry::Alias("useradd", &["user", "add"]),
        Entry::Alias("userdel", &["user", "delete"]),
        Entry::Alias("usermod", &["user", "modify"]),
    ],
};

/// A new password, asked for where the option has no value.
const NEW_PASSWORD: Secret = Secret {
    parameter: "password",
    label: "password",
    prompt: Prompt::New,
    always: false,
};

/// What can be asked for of a realm: the password of a directory, the key that an OpenID provider gave out, and the settings
/// of second factors, of which the key for a server of Yubico codes is one.
const REALM_SECRETS: &[Secret] = &[
    NEW_PASSWORD,
    Secret {
        parameter: "client-key",
        label: "client key",
        prompt: Prompt::Known,
        always: false,
    },
    Secret {
        parameter: "tfa",
        label: "second factor settings",
        prompt: Prompt::Known,
        always: false,
    },
];

const PATH: &[Positional] = &[Required("path")];
const GROUPID: &[Positional] = &[Required("groupid")];
const POOLID: &[Positional] = &[Required("poolid")];
const REALM_NAME: &[Positional] = &[Required("realm")];
const ROLEID: &[Positional] = &[Required("roleid")];
const USERID: &[Positional] = &[Required("userid")];
const MAYBE_USERID: &[Positional] = &[Optional("userid")];
const TOKEN: &[Positional] = &[Required("userid"), Required("tokenid")];

const ACL: &[Entry] = &[
    Entry::Verb(Verb {
        positional: PATH,
        fixed: &[("delete", "1")],
        ..Verb::new(
            "delete",
            "Take roles on a path from users, groups or tokens",
            id::PUT_ACCESS_ACL,
        )
    }),
    Entry::Verb(Verb::new("list", "List who has which role where", id::GET_ACCESS_ACL)),
    Entry::Verb(Verb {
        positional: PATH,
        fixed: &[("delete", "0")],
        ..Verb::new(
            "modify",
            "Give roles on a path to users, groups or tokens",
            id::PUT_ACCESS_ACL,
        )
    }),
];

const GROUP: &[Entry] = &[
    Entry::Verb(Verb {
        positional: GROUPID,
        ..Verb::new("add", "Make a group", id::POST_ACCESS_GROUPS)
    }),
    Entry::Verb(Verb {
        positional: GROUPID,
        ..Verb::new("delete", "Delete a group", id::DELETE_ACCESS_GROUPS_GROUPID)
    }),
    Entry::Verb(Verb::new(
        "list",
        "List groups and their members",
        id::GET_ACCESS_GROUPS,
    )),
    Entry::Verb(Verb {
        positional: GROUPID,
        ..Verb::new("modify", "Change a group", id::PUT_ACCESS_GROUPS_GROUPID)
    }),
];

const PASSWD: Verb = Verb {
    positional: USERID,
    // Root's own password is not asked for.
    hidden: &["confirmation-password"],
    secrets: &[Secret {
        always: true,
        ..NEW_PASSWORD
    }],
    ..Verb::new("passwd", "Give a user a new password", id::PUT_ACCESS_PASSWORD)
};

const POOL: &[Entry] = &[
    Entry::Verb(Verb {
        positional: POOLID,
        ..Verb::new("add", "Make a pool", id::POST_POOLS)
    }),
    Entry::Verb(Verb {
        positional: POOLID,
        ..Verb::new("delete", "Delete an empty pool", id::DELETE_POOLS)
    }),
    Entry::Verb(Verb::new("list", "List pools, or what is in one", id::GET_POOLS)),
    Entry::Verb(Verb {
        positional: POOLID,
        ..Verb::new(
            "modify",
            "Change a pool, put guests and storages into it or take them out",
            id::PUT_POOLS,
        )
    }),
];

const REALM: &[Entry] = &[
    Entry::Verb(Verb {
        positional: REALM_NAME,
        secrets: REALM_SECRETS,
        ..Verb::new("add", "Make a realm", id::POST_ACCESS_DOMAINS)
    }),
    Entry::Verb(Verb {
        positional: REALM_NAME,
        ..Verb::new("delete", "Delete a realm", id::DELETE_ACCESS_DOMAINS_REALM)
    }),
    Entry::Verb(Verb::new("list", "List realms", id::GET_ACCESS_DOMAINS)),
    Entry::Verb(Verb {
        positional: REALM_NAME,
        secrets: REALM_SECRETS,
        ..Verb::new("modify", "Change a realm", id::PUT_ACCESS_DOMAINS_REALM)
    }),
    Entry::Verb(Verb {
        positional: REALM_NAME,
        ..Verb::new(
            "sync",
            "Fetch users and groups of a realm from its directory",
            id::POST_ACCESS_DOMAINS_REALM_SYNC,
        )
    }),
];

const ROLE: &[Entry] = &[
    Entry::Verb(Verb {
        positional: ROLEID,
        ..Verb::new("add", "Make a role", id::POST_ACCESS_ROLES)
    }),
    Entry::Verb(Verb {
        positional: ROLEID,
        ..Verb::new("delete", "Delete a role", id::DELETE_ACCESS_ROLES_ROLEID)
    }),
    Entry::Verb(Verb::new(
        "list",
        "List roles and their privileges",
        id::GET_ACCESS_ROLES,
    )),
    Entry::Verb(Verb {
        positional: ROLEID,
        ..Verb::new("modify", "Change the privileges of a role", id::PUT_ACCESS_ROLES_ROLEID)
    }),
];

const TICKET: Verb = Verb {
    positional: &[Required("username")],
    hidden: &["new-format"],
    secrets: &[Secret {
        parameter: "password",
        label: "password",
        prompt: Prompt::Known,
        always: true,
    }],
    action: Action::CallAndShow(special::ticket),
    ..Verb::new("ticket", "Log in and print the ticket", id::POST_ACCESS_TICKET)
};

const USER: &[Entry] = &[
    Entry::Verb(Verb {
        positional: USERID,
        secrets: &[NEW_PASSWORD],
        ..Verb::new("add", "Make a user", id::POST_ACCESS_USERS)
    }),
    Entry::Verb(Verb {
        positional: USERID,
        ..Verb::new("delete", "Delete a user", id::DELETE_ACCESS_USERS_USERID)
    }),
    Entry::Verb(Verb::new("list", "List users", id::GET_ACCESS_USERS)),
    Entry::Verb(Verb {
        positional: USERID,
        ..Verb::new("modify", "Change a user", id::PUT_ACCESS_USERS_USERID)
    }),
    Entry::Verb(Verb {
        positional: MAYBE_USERID,
        action: Action::CallAndShow(special::permissions),
        ..Verb::new(
            "permissions",
            "List what a user may do where",
            id::GET_ACCESS_PERMISSIONS,
        )
    }),
    Entry::Group("tfa", TFA),
    Entry::Group("token", TOKENS),
];

const TFA: &[Entry] = &[
    Entry::Verb(Verb {
        positional: USERID,
        // Root need not prove who it is.
        hidden: &["password"],
        optional: &["id"],
        action: Action::Run(special::delete_factors),
        ..Verb::new(
            "delete",
            "Delete one second factor of a user, or all",
            id::DELETE_ACCESS_TFA_USERID_ID,
        )
    }),
    Entry::Verb(Verb {
        positional: MAYBE_USERID,
        action: Action::Run(special::list_factors),
        ..Verb::new("list", "List second factors and locks", id::GET_ACCESS_TFA)
    }),
    Entry::Verb(Verb {
        positional: USERID,
        ..Verb::new(
            "unlock",
            "Lift the locks that wrong second factors set",
            id::PUT_ACCESS_USERS_USERID_UNLOCK_TFA,
        )
    }),
];

const TOKENS: &[Entry] = &[
    Entry::Verb(Verb {
        positional: TOKEN,
        ..Verb::new(
            "add",
            "Make an API token and print its secret, this once",
            id::POST_ACCESS_USERS_USERID_TOKEN_TOKENID,
        )
    }),
    Entry::Verb(Verb {
        positional: TOKEN,
        ..Verb::new(
            "delete",
            "Delete an API token",
            id::DELETE_ACCESS_USERS_USERID_TOKEN_TOKENID,
        )
    }),
    Entry::Verb(Verb {
        positional: USERID,
        ..Verb::new("list", "List a user's API tokens", id::GET_ACCESS_USERS_USERID_TOKEN)
    }),
    Entry::Verb(Verb {
        positional: TOKEN,
        ..Verb::new(
            "modify",
            "Change an API token",
            id::PUT_ACCESS_USERS_USERID_TOKEN_TOKENID,
        )
    }),
    Entry::Verb(Verb {
        positional: TOKEN,
        action: Action::Run(special::token_permissions),
        ..Verb::new(
            "permissions",
            "List what an API token may do where",
            id::GET_ACCESS_PERMISSIONS,
        )
    }),
    Entry::Alias("remove", &["user", "token", "delete"]),
];
