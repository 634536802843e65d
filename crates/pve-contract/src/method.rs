//! One method of the API.

use std::fmt;
use std::str::FromStr;

use pve_schema::schema::{self, Parameter, Schema};

/// What is done to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// Read.
    Get,
    /// Create, or act.
    Post,
    /// Change.
    Put,
    /// Remove.
    Delete,
}

impl Verb {
    /// The HTTP method.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An HTTP method that the API does not know; methods are case-sensitive.
#[derive(Debug)]
pub struct UnknownVerb;

impl FromStr for Verb {
    type Err = UnknownVerb;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "GET" => Ok(Self::Get),
            "POST" => Ok(Self::Post),
            "PUT" => Ok(Self::Put),
            "DELETE" => Ok(Self::Delete),
            _ => Err(UnknownVerb),
        }
    }
}

/// A method's place in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MethodId(pub(crate) u16);

impl MethodId {
    /// The index into a table of all methods.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Who may call a method at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserClass {
    /// Anybody, without a login.
    World,
    /// Anybody who is logged in.
    All,
}

/// A method's permission rule; a method without one is for `root@pam` alone.
#[derive(Debug, PartialEq)]
pub struct Permissions {
    /// The shortcut that is looked at first.
    pub user: Option<UserClass>,
    /// The expression.
    pub check: Option<Check>,
    /// Whether the handler enforces or filters further.
    pub handler_checks: bool,
}

/// A permission expression (reference 02 §11).
#[derive(Debug, PartialEq)]
pub enum Check {
    /// All must hold.
    And(&'static [Check]),
    /// One must hold.
    Or(&'static [Check]),
    /// The caller holds the privileges on the path.
    Perm {
        /// The path, with `{parameter}` place-holders.
        path: &'static str,
        /// The privileges.
        privileges: &'static [&'static str],
        /// Whether one of them is enough.
        any: bool,
        /// A parameter without which the check fails.
        require_param: Option<&'static str>,
    },
    /// The `userid` parameter is the caller.
    UserIdSelf,
    /// The caller may create users in the realm of the `userid` parameter.
    UserIdRealm,
    /// The caller holds one of the privileges on a group of the user.
    UserIdGroup {
        /// The privileges, any of which is enough.
        privileges: &'static [&'static str],
        /// How the `groups` parameter is looked at.
        groups: GroupsParam,
    },
    /// The caller may modify permissions on the path.
    PermModify(&'static str),
}

/// What the `userid-group` check demands of the `groups` parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupsParam {
    /// Nothing.
    Ignored,
    /// The user is about to be created.
    Create,
    /// The user is about to be changed.
    Update,
}

/// One method of the API.
#[derive(Debug)]
pub struct Method {
    /// Its place in the tables.
    pub id: MethodId,
    /// What is done.
    pub verb: Verb,
    /// The path template, `/nodes/{node}/qemu` for one.
    pub path: &'static str,
    /// The method's name in usage texts.
    pub name: &'static str,
    /// Whether only the root daemon runs it.
    pub protected: bool,
    /// The parameter that names the node which must run it.
    pub proxy_to: Option<&'static str>,
    /// Whether the target node comes from `check-node` instead.
    pub proxy_to_check_node: bool,
    /// Whether it may be called with an API token.
    pub allow_token: bool,
    /// Whether the handler may use the caller's ticket or token for calls to other nodes.
    pub expose_credentials: bool,
    /// Whether it may answer with a file instead of data.
    pub download_allowed: bool,
    /// Whether the last path parameter takes the whole rest of the path.
    pub tail_param: bool,
    /// Who may call it; `None` is `root@pam` alone.
    pub permissions: Option<Permissions>,
    /// The declared parameters, sorted by name.
    pub parameters: &'static [Parameter],
    /// Whether unknown parameters are accepted and ignored.
    pub additional_parameters: bool,
    /// What `data` of the answer looks like.
    pub returns: &'static Schema,
}

impl Method {
    /// A parameter by its name as sent: `net3` finds the family `net[n]`.
    pub fn parameter(&self, name: &str) -> Option<&'static Parameter> {
        schema::find_parameter(self.parameters, name)
    }
}
