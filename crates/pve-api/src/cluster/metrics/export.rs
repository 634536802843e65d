//! `GET /cluster/metrics/export` (reference 04 §17)
//!
//! Other nodes are asked all at once, in the caller's name: each checks the caller's rights itself. One that does not
//! answer is left out.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use http::Request;
use pve_access::Credentials;
use pve_cfs::Cfs;
use pve_fetch::{Client, Settings, Trust};
use pve_metrics::pull::{Cache, Entry, answered, entries};
use pve_rest::{ApiError, ApiResult, Call, Reply, blocking};
use pve_schema::ids::NodeName;
use pve_schema::list;
use serde::Serialize;

/// Where every node's proxy listens.
const PORT: u16 = 8006;
/// How long another node may take (reference 04 §17).
const PATIENCE: Duration = Duration::from_secs(20);
/// How long others who want the history, too, are waited for.
const TURN: Duration = Duration::from_secs(30);
/// The most that all other nodes together may answer: half an hour of more than a thousand guests.
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
        // The worker needs some hundred bytes for each of perhaps millions of figures.
        let _turn = question.with_history.then(Turn::wait).transpose()?;
        let mut rows = ask_all(&cfs, others, &call.client.credentials, question);
        if is_own_wanted {
            rows.extend(own_rows(&call, question)?);
        }
        rows.sort_by_key(|row| row.timestamp);
        let text = serde_json::to_string(&Figures { data: &rows });
        let text = text.map_err(|error| ApiError::plain(error.to_string()))?;
        Ok::<_, ApiError>(Reply::text(text))
    })
    .await
}

/// What is answered.
#[derive(Serialize)]
struct Figures<'a> {
    data: &'a [Entry],
}

/// Somebody's turn to have an answer with history made: one at a time in each worker.
struct Turn;

static IS_TAKEN: Mutex<bool> = Mutex::new(false);
static IS_OVER: Condvar = Condvar::new();

impl Turn {
    fn wait() -> Result<Self, ApiError> {
        let taken = IS_TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = IS_OVER.wait_timeout_while(taken, TURN, |taken| *taken);
        let (mut taken, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *taken {
            return Err(ApiError::status(503, "others ask for the history of all figures"));
        }
        *taken = true;
        Ok(Self)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *IS_TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
        IS_OVER.notify_one();
    }
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

fn own_rows(call: &Call, question: Question) -> Result<Vec<Entry>, ApiError> {
    let old = match (question.with_history, question.after) {
        (false, _) => 0,
        (true, None) => ALL,
        (true, Some(after)) => {
            let cycles = call.context.now().saturating_sub(after) / CYCLE;
            usize::try_from(cycles).unwrap_or(0)
        }
    };
    let node = &call.context.site.node;
    let mut rows = Vec::new();
    Cache::new(&call.context).each(old.saturating_add(1), |cycle| {
        let all = entries(node, &cycle).into_iter();
        rows.extend(all.filter(|entry| question.after.is_none_or(|after| entry.timestamp > after)));
    })?;
    Ok(rows)
}

/// Asks other nodes for theirs.
fn ask_all(cfs: &Cfs, nodes: Vec<NodeName>, credentials: &Credentials, question: Question) -> Vec<Entry> {
    let largest = MAX_ANSWER / nodes.len().max(1) as u64;
    thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|node| {
                let work = move || ask(cfs, node, credentials, question, largest);
                thread::Builder::new().spawn_scoped(scope, work)
            })
            .collect();
        let answers = nodes.iter().zip(threads).filter_map(|(node, thread)| {
            let answer = match thread {
                Ok(thread) => thread.join().unwrap_or_else(|_| Err("internal error".to_owned())),
                Err(error) => Err(error.to_string()),
            };
            answer
                .inspect_err(|error| log::warn!("could not fetch metrics from {node}: {error}"))
                .ok()
        });
        answers.flatten().collect()
    })
}

fn ask(
    cfs: &Cfs,
    node: &NodeName,
    credentials: &Credentials,
    question: Question,
    largest: u64,
) -> Result<Vec<Entry>, String> {
    let (header, secret) = credentials.to_header().ok_or("no credentials to ask with")?;
    let address = cfs.node_address(node.as_str()).map_err(|error| error.to_string())?;
    let certificate = pve_node::web_certificate(cfs, node.as_str()).map_err(|error| error.to_string())?;
    let certificate =
        certificate.ok_or_else(|| format!("no certificate of node '{node}' in '/etc/pve/nodes/{node}'"))?;
    let settings = Settings {
        deadline: PATIENCE,
        largest,
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
    answered(answer.body()).map_err(|error| error.to_string())
}
