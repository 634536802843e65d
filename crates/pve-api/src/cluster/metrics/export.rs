//! `GET /cluster/metrics/export` (reference 04 §17)
//!
//! Other nodes are asked all at once, in the caller's name: each checks the caller's rights itself. One that does not
//! answer is left out.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use http::Request;
use pve_access::Credentials;
use pve_cfs::Cfs;
use pve_fetch::{Client, Settings, Trust};
use pve_metrics::pull::{Cache, entries};
use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_schema::ids::NodeName;
use pve_schema::list;
use serde_json::{Value, json};

/// Where every node's proxy listens.
const PORT: u16 = 8006;
/// How long another node may take (reference 04 §17).
const PATIENCE: Duration = Duration::from_secs(20);
/// The most that another node may answer: half an hour of a few hundred guests.
const MAX_ANSWER: u64 = 256 << 20;
/// Seconds from one cycle to the next.
const CYCLE: i64 = 10;
/// Cycles that are asked for besides the newest, if all are.
const ALL: usize = 181;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
struct Question {
    /// Only what was seen after this time.
    after: Option<i64>,
    with_history: bool,
}

pub(super) async fn export(call: Call) -> ApiResult {
    blocking(move || {
        let params = &call.params;
        let question = Question {
            after: params.integer("start-time"),
            with_history: params.is_set("history"),
        };
        let cfs = Cfs::new(&call.context);
        let own = &call.context.site.node;
        let wanted = params.text("node-list").map(list::split).unwrap_or_default();
        let (is_own_wanted, others) = match params.is_set("local-only") {
            true => (true, Vec::new()),
            false => nodes(&cfs, own, &wanted)?,
        };
        let mut rows = ask_all(&cfs, others, &call.client.credentials, question);
        if is_own_wanted {
            rows.extend(own_rows(&call, question)?);
        }
        rows.sort_by_key(timestamp);
        Ok::<_, ApiError>(json!({ "data": rows }).into())
    })
    .await
}

/// Whether this node is wanted, and which of the others that can be reached.
fn nodes(cfs: &Cfs, own: &NodeName, wanted: &[&str]) -> Result<(bool, Vec<NodeName>), ApiError> {
    let known = cfs.nodes()?;
    let is_known = |name: &&&str| known.iter().any(|node| node.as_str() == **name);
    let unknown: BTreeSet<&str> = wanted.iter().filter(|name| !is_known(name)).copied().collect();
    if !unknown.is_empty() {
        let names: Vec<&str> = unknown.into_iter().collect();
        let text = format!("Requested node-list contains unknown nodes - {}", names.join(", "));
        return Err(ApiError::plain(text));
    }
    let is_wanted = |node: &NodeName| wanted.is_empty() || wanted.contains(&node.as_str());
    let mut others = Vec::new();
    for node in known.into_iter().filter(|node| node != own && is_wanted(node)) {
        if cfs.is_online(node.as_str())? {
            others.push(node);
        }
    }
    Ok((is_wanted(own), others))
}

fn timestamp(row: &Value) -> i64 {
    row.get("timestamp").and_then(Value::as_i64).unwrap_or_default()
}

fn own_rows(call: &Call, question: Question) -> Result<Vec<Value>, ApiError> {
    let old = match (question.with_history, question.after) {
        (false, _) => 0,
        (true, None) => ALL,
        (true, Some(after)) => {
            let cycles = call.context.now().saturating_sub(after) / CYCLE;
            usize::try_from(cycles).unwrap_or(0)
        }
    };
    let cycles = Cache::new(&call.context).read(old.saturating_add(1))?;
    let node = &call.context.site.node;
    let all = cycles.iter().rev().flat_map(|cycle| entries(node, cycle));
    let new = all.filter(|entry| question.after.is_none_or(|after| entry.timestamp > after));
    Ok(new.map(|entry| entry.to_json()).collect())
}

/// Asks other nodes for theirs.
fn ask_all(cfs: &Cfs, nodes: Vec<NodeName>, credentials: &Credentials, question: Question) -> Vec<Value> {
    thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(move || ask(cfs, node, credentials, question)))
            .collect();
        let answers = nodes.iter().zip(threads).filter_map(|(node, thread)| {
            let answer = thread.join().unwrap_or_else(|_| Err("internal error".to_owned()));
            answer
                .inspect_err(|error| log::warn!("could not fetch metrics from {node}: {error}"))
                .ok()
        });
        answers.flatten().collect()
    })
}

fn ask(cfs: &Cfs, node: &NodeName, credentials: &Credentials, question: Question) -> Result<Vec<Value>, String> {
    let (header, secret) = credentials.to_header().ok_or("no credentials to ask with")?;
    let address = cfs.node_address(node.as_str()).map_err(|error| error.to_string())?;
    let certificate = pve_node::web_certificate(cfs, node.as_str()).map_err(|error| error.to_string())?;
    let certificate =
        certificate.ok_or_else(|| format!("no certificate of node '{node}' in '/etc/pve/nodes/{node}'"))?;
    let settings = Settings {
        deadline: PATIENCE,
        largest: MAX_ANSWER,
        proxy: None,
        trust: Trust::Only(certificate),
    };
    let mut url = format!(
        "https://{}/api2/json/cluster/metrics/export?local-only=1&history={}",
        std::net::SocketAddr::from((address, PORT)),
        u8::from(question.with_history)
    );
    if let Some(after) = question.after {
        url.push_str(&format!("&start-time={after}"));
    }
    let request = Request::get(url).header(header, secret).body(Vec::new());
    let request = request.map_err(|error| error.to_string())?;
    let client = Client::new(&settings).map_err(|error| error.to_string())?;
    let answer = client.send(request).map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(answer.status().to_string());
    }
    let mut body: Value = serde_json::from_slice(answer.body()).map_err(|error| error.to_string())?;
    match body.pointer_mut("/data/data").map(Value::take) {
        Some(Value::Array(rows)) => Ok(rows),
        _ => Err("no list of figures".to_owned()),
    }
}
