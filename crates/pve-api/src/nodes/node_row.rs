//! What the API tells of a node in lists (reference 04 §15.2).

use pve_metrics::Told;
use pve_metrics::told::node;
use serde_json::{Map, Value};

/// A node's row: figures only with a record, and only for those who may see them.
pub(crate) fn node_row(name: &str, record: Option<&Told>, online: bool, audit: bool) -> Map<String, Value> {
    let mut row = Map::new();
    row.insert("id".to_owned(), format!("node/{name}").into());
    row.insert("node".to_owned(), name.into());
    row.insert("type".to_owned(), "node".into());
    let status = match (online, record) {
        (false, _) => "offline",
        (true, Some(_)) => "online",
        (true, None) => "unknown",
    };
    row.insert("status".to_owned(), status.into());
    let Some(record) = record else { return row };
    row.insert("level".to_owned(), record.text(node::LEVEL).unwrap_or_default().into());
    if !audit {
        return row;
    }
    let mut figures = vec![
        ("maxcpu", node::CPUS),
        ("maxmem", node::MEMORY_TOTAL),
        ("maxdisk", node::ROOT_TOTAL),
    ];
    if online {
        figures.extend([
            ("uptime", node::UPTIME),
            ("cpu", node::CPU),
            ("mem", node::MEMORY_USED),
            ("disk", node::ROOT_USED),
        ]);
    }
    row.extend(figures.into_iter().map(|(key, at)| (key.to_owned(), record.number(at))));
    row
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
        let row = |name: &str, record: &str, online, audit| {
            Value::from(node_row(name, Told::parse(record).as_ref(), online, audit))
        };
        assert_eq!(
            row("pve1", RECORD, true, true),
            json!({"cpu":0.125,"disk":40_000_000_000_i64,"id":"node/pve1","level":"c","maxcpu":8,
                "maxdisk":100_000_000_000_i64,"maxmem":16_777_216_000_i64,"mem":4_194_304_000_i64,"node":"pve1",
                "status":"online","type":"node","uptime":86400})
        );
        assert_eq!(
            row("pve1", RECORD, true, false),
            json!({"id":"node/pve1","level":"c","node":"pve1","status":"online","type":"node"})
        );
        assert_eq!(
            row("pve2", &RECORD.replace(":c:", "::"), false, true),
            json!({"id":"node/pve2","level":"","maxcpu":8,"maxdisk":100_000_000_000_i64,
                "maxmem":16_777_216_000_i64,"node":"pve2","status":"offline","type":"node"})
        );
        assert_eq!(
            row("pve4", "", true, true),
            json!({"id":"node/pve4","node":"pve4","status":"unknown","type":"node"})
        );
    }
}
