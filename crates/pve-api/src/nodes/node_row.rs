//! What the API tells of a node in lists (reference 04 §10, §15.2).

use std::collections::BTreeMap;

use pve_cfs::{Cfs, CfsError};
use serde_json::{Map, Number, Value};

/// The status keys of the nodes' records.
const PREFIX: &str = "rrd/pve-node-9.0/";
/// Seconds after which a record says nothing any more.
const MAX_AGE: i64 = 300;

/// The records of the nodes that are fresh enough to be believed.
#[derive(Debug, Default)]
pub(crate) struct NodeRecords(BTreeMap<String, String>);

impl NodeRecords {
    /// Reads what the nodes told.
    pub(crate) fn load(cfs: &Cfs, now: i64) -> Result<Self, CfsError> {
        let told = cfs.status().list(PREFIX)?;
        let fresh = told.into_iter().filter(|record| now - record.at <= MAX_AGE);
        let records = fresh.filter_map(|record| {
            let node = record.key.strip_prefix(PREFIX)?.to_owned();
            Some((node, String::from_utf8_lossy(&record.value).into_owned()))
        });
        Ok(Self(records.collect()))
    }

    /// A node's record.
    pub(crate) fn get(&self, node: &str) -> Option<&str> {
        self.0.get(node).map(String::as_str)
    }
}

/// A node's row: figures only with a record, and only for those who may see them.
pub(crate) fn node_row(node: &str, record: Option<&str>, online: bool, audit: bool) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("id".to_owned(), format!("node/{node}").into());
    row.insert("node".to_owned(), node.into());
    row.insert("type".to_owned(), "node".into());
    let status = match (online, record) {
        (false, _) => "offline",
        (true, Some(_)) => "online",
        (true, None) => "unknown",
    };
    row.insert("status".to_owned(), status.into());
    let Some(record) = record else { return row };
    let fields: Vec<&str> = record.split(':').collect();
    let field = |at: usize| fields.get(at).copied().filter(|text| *text != "U").unwrap_or_default();
    row.insert("level".to_owned(), field(1).into());
    if !audit {
        return row;
    }
    for (key, at) in [("maxcpu", 4), ("maxmem", 7), ("maxdisk", 11)] {
        row.insert(key.to_owned(), number(field(at)));
    }
    if online {
        for (key, at) in [("uptime", 0), ("cpu", 5), ("mem", 8), ("disk", 12)] {
            row.insert(key.to_owned(), number(field(at)));
        }
    }
    row
}

/// A figure of a record; what is undefined is 0.
fn number(text: &str) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return whole.into();
    }
    let fraction = text.parse::<f64>().ok().and_then(Number::from_f64);
    fraction.map_or_else(|| 0.into(), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const RECORD: &str = "86400:c:1700000000:0.50:8:0.125:0.001:16777216000:4194304000:0:0:100000000000:40000000000:\
        333:444:12582912000:0:0.00:0.10:0.00:0.00:0.00";

    /// Reference 04 §20, vectors 28 to 31.
    #[test]
    fn rows_show_what_the_caller_may_see() {
        assert_eq!(
            Value::from(node_row("pve1", Some(RECORD), true, true)),
            json!({"cpu":0.125,"disk":40_000_000_000_i64,"id":"node/pve1","level":"c","maxcpu":8,
                "maxdisk":100_000_000_000_i64,"maxmem":16_777_216_000_i64,"mem":4_194_304_000_i64,"node":"pve1",
                "status":"online","type":"node","uptime":86400})
        );
        assert_eq!(
            Value::from(node_row("pve1", Some(RECORD), true, false)),
            json!({"id":"node/pve1","level":"c","node":"pve1","status":"online","type":"node"})
        );
        assert_eq!(
            Value::from(node_row("pve2", Some(&RECORD.replace(":c:", "::")), false, true)),
            json!({"id":"node/pve2","level":"","maxcpu":8,"maxdisk":100_000_000_000_i64,
                "maxmem":16_777_216_000_i64,"node":"pve2","status":"offline","type":"node"})
        );
        assert_eq!(
            Value::from(node_row("pve4", None, true, true)),
            json!({"id":"node/pve4","node":"pve4","status":"unknown","type":"node"})
        );
    }
}
