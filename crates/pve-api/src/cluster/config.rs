//! `/cluster/config` (reference 04 §6.1): who belongs to the cluster. The methods that make or change one are not built.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::time::{Duration, Instant};

use pve_cfs::corosync::{Item, Section};
use pve_cfs::{Cfs, CfsError};
use pve_contract::id;
use pve_rest::{ApiError, ApiResult, Call, Registry, Reply, blocking};
use pve_sys::socket::{self, Timed};
use serde_json::{Map, Value, json};

use super::index;

/// What is below.
const ENTRIES: [&str; 5] = ["nodes", "totem", "join", "qdevice", "apiversion"];
/// The version of the calls by which nodes join.
const API_VERSION: u64 = 1;
/// Where the daemon of an external vote answers.
const QDEVICE_SOCKET: &str = "/var/run/corosync-qdevice/corosync-qdevice.sock";
/// How long it may take, and most bytes of its answer.
const QDEVICE_LIMIT: (Duration, u64) = (Duration::from_secs(5), 64 * 1024);
/// What is told of it.
const QDEVICE_KEYS: [&str; 7] = [
    "Algorithm",
    "Echo reply",
    "Last poll call",
    "Model",
    "QNetd host",
    "State",
    "Tie-breaker",
];

/// Binds the handlers of this file.
pub(super) fn register(registry: &mut Registry) {
    registry.bind(id::GET_CLUSTER_CONFIG, |_call| Box::pin(index(&ENTRIES)));
    registry.bind(id::GET_CLUSTER_CONFIG_APIVERSION, |_call| {
        Box::pin(async { Ok(json!(API_VERSION).into()) })
    });
    registry.bind(id::GET_CLUSTER_CONFIG_NODES, |call| Box::pin(nodes(call)));
    registry.bind(id::GET_CLUSTER_CONFIG_TOTEM, |call| Box::pin(totem(call)));
    registry.bind(id::GET_CLUSTER_CONFIG_JOIN, |call| Box::pin(join(call)));
    registry.bind(id::GET_CLUSTER_CONFIG_QDEVICE, |call| Box::pin(qdevice(call)));
}

/// `GET …/nodes`: empty on a node that is alone.
async fn nodes(call: Call) -> ApiResult {
    blocking(move || {
        let conf = Cfs::new(&call.context).corosync()?.unwrap_or_default();
        let rows = conf.nodes().map(|(name, section)| {
            let mut row = json_of(section);
            row.insert("node".to_owned(), name.as_str().into());
            row
        });
        Ok::<_, ApiError>(Value::from_iter(rows).into())
    })
    .await
}

/// `GET …/totem`: nothing on a node that is alone.
async fn totem(call: Call) -> ApiResult {
    blocking(move || {
        let conf = Cfs::new(&call.context).corosync()?;
        let totem = conf.as_ref().and_then(|conf| conf.section("totem"));
        Ok::<_, ApiError>(totem.map_or_else(Reply::null, |totem| Value::from(json_of(totem)).into()))
    })
    .await
}

/// `GET …/join`: what a node needs to know that is to join.
async fn join(call: Call) -> ApiResult {
    blocking(move || {
        let cfs = Cfs::new(&call.context);
        let conf = cfs
            .corosync()?
            .ok_or_else(|| ApiError::status(424, "node is not in a cluster, no join info available!\n"))?;
        let own = call.context.site.node.as_str();
        let preferred = call.params.text("node").unwrap_or(own);
        if !conf.nodes().any(|(name, _)| name == preferred) {
            return Err(ApiError::plain(format!("unknown node '{preferred}'")));
        }
        let nodes = conf.nodes().map(|(name, section)| join_row(&cfs, name, section));
        let nodes = nodes.collect::<Result<Vec<_>, CfsError>>()?;
        let answer = json!({
            "nodelist": nodes,
            "preferred_node": preferred,
            "totem": conf.section("totem").map(json_of),
            "config_digest": conf.digest,
        });
        Ok::<_, ApiError>(answer.into())
    })
    .await
}

/// A node's section, its address, and the fingerprint by which its web side is known.
fn join_row(cfs: &Cfs, name: &str, section: &Section) -> Result<Map<String, Value>, CfsError> {
    let mut row = json_of(section);
    row.insert("name".to_owned(), name.into());
    row.insert("pve_addr".to_owned(), cfs.node_address(name)?.to_string().into());
    row.insert("pve_fp".to_owned(), pve_node::fingerprint(cfs, name)?.into());
    Ok(row)
}

/// A section as JSON: values are strings.
fn json_of(section: &Section) -> Map<String, Value> {
    let value = |item: &Item| match item {
        Item::Text(text) => Value::from(text.as_str()),
        Item::Section(section) => json_of(section).into(),
        Item::Several(several) => {
            let named = several
                .iter()
                .map(|(name, section)| (name.clone(), json_of(section).into()));
            Value::Object(named.collect())
        }
    };
    section.iter().map(|(key, item)| (key.clone(), value(item))).collect()
}

/// `GET …/qdevice`: what the daemon of an external vote says; nothing where there is none.
async fn qdevice(call: Call) -> ApiResult {
    blocking(move || {
        let answer = ask_qdevice(&call.context.site.path(QDEVICE_SOCKET)).unwrap_or_default();
        let lines = answer.lines().filter(|line| !line.starts_with(char::is_whitespace));
        let told = lines.filter_map(|line| {
            let (key, value) = line.split_once(':')?;
            let key = key.trim_end();
            QDEVICE_KEYS
                .contains(&key)
                .then(|| (key.to_owned(), value.trim().into()))
        });
        Ok::<_, ApiError>(Value::Object(told.collect()).into())
    })
    .await
}

fn ask_qdevice(path: &Path) -> std::io::Result<String> {
    let (limit, size) = QDEVICE_LIMIT;
    let stream = socket::connect(path)?;
    let mut timed = Timed::new(&stream, Instant::now() + limit);
    timed.write_all(b"status verbose\n")?;
    // It may wait for the end of what it is asked.
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    match timed.take(size).read_to_end(&mut answer) {
        // What it said until then.
        Err(error) if error.kind() != ErrorKind::TimedOut => return Err(error),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[cfg(test)]
mod tests {
    use pve_cfs::CorosyncConf;

    use super::*;

    #[test]
    fn sections_are_objects_and_values_strings() {
        let text = b"totem { version: 2 interface { linknumber: 0 } interface { linknumber: 1 } }";
        let conf = CorosyncConf::parse(text).unwrap();
        assert_eq!(
            Value::from(json_of(conf.section("totem").unwrap())),
            json!({"version": "2", "interface": {"0": {"linknumber": "0"}, "1": {"linknumber": "1"}}})
        );
    }
}
