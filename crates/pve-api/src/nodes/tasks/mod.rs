//! `/nodes/{node}/tasks`

mod list;
mod one;

use pve_access::AccessControl;
use pve_contract::id;
use pve_rest::Registry;
use pve_schema::ids::{AuthId, TokenId, Upid};
use serde_json::{Map, Value};

/// Binds the handlers below this folder.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_TASKS, |call| Box::pin(list::list(call)));
    registry.bind(id::GET_NODES_NODE_TASKS_UPID, |call| Box::pin(one::index(call)));
    registry.bind(id::DELETE_NODES_NODE_TASKS_UPID, |call| Box::pin(one::stop(call)));
    registry.bind(id::GET_NODES_NODE_TASKS_UPID_LOG, |call| Box::pin(one::log(call)));
    registry.bind(id::GET_NODES_NODE_TASKS_UPID_STATUS, |call| Box::pin(one::status(call)));
}

/// Whether a task is the caller's: a user's own and his tokens', a token's own only.
fn is_owner(caller: &AuthId, upid: &Upid) -> bool {
    if upid.user == caller.to_string() {
        return true;
    }
    match caller {
        AuthId::User(user) => upid.user.parse::<TokenId>().is_ok_and(|token| token.user == *user),
        AuthId::Token(_) => false,
    }
}

/// Whether the caller may see a task.
fn may_see(access: &AccessControl, caller: &AuthId, node: &str, upid: &Upid) -> bool {
    is_owner(caller, upid) || access.has(caller, &format!("/nodes/{node}"), &["Sys.Audit"])
}

/// What a UPID tells of its task. `split`: a token's name goes apart from its user.
fn row(upid: &Upid, split: bool) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("upid".to_owned(), upid.to_string().into());
    row.insert("node".to_owned(), upid.node.to_string().into());
    row.insert("pid".to_owned(), upid.pid.into());
    row.insert("pstart".to_owned(), upid.pstart.into());
    row.insert("starttime".to_owned(), upid.starttime.into());
    row.insert("type".to_owned(), upid.worker_type.clone().into());
    row.insert("id".to_owned(), upid.id.clone().into());
    match upid.user.parse::<TokenId>() {
        Ok(token) if split => {
            row.insert("user".to_owned(), token.user.to_string().into());
            row.insert("tokenid".to_owned(), token.name.into());
        }
        _ => {
            row.insert("user".to_owned(), upid.user.clone().into());
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upid(user: &str) -> Upid {
        format!("UPID:pve1:0000BBEF:0012D687:6553F100:qmstart:101:{user}:")
            .parse()
            .unwrap()
    }

    #[test]
    fn users_own_their_tokens_tasks_but_not_the_other_way_round() {
        for (caller, user, owns) in [
            ("joe@pve", "joe@pve", true),
            ("joe@pve", "joe@pve!tok", true),
            ("joe@pve!tok", "joe@pve!tok", true),
            ("joe@pve!tok", "joe@pve", false),
            ("joe@pve!tok", "joe@pve!other", false),
            ("jo@pve", "joe@pve", false),
        ] {
            assert_eq!(is_owner(&caller.parse().unwrap(), &upid(user)), owns, "{caller} {user}");
        }
    }

    #[test]
    fn a_tokens_name_is_told_apart() {
        let split = Value::from(row(&upid("joe@pve!tok"), true));
        assert_eq!((&split["user"], &split["tokenid"]), (&"joe@pve".into(), &"tok".into()));
        let whole = row(&upid("joe@pve!tok"), false);
        assert_eq!(whole["user"], "joe@pve!tok");
        assert!(!whole.contains_key("tokenid"));
        assert_eq!((&whole["pid"], &whole["pstart"]), (&48111.into(), &1_234_567.into()));
    }
}
