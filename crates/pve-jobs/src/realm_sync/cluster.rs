//! Which node of a cluster synchronises a realm (reference 05 §2.3, §2.5).
//!
//! The job comes up on every node, and one of them is to do it. They agree by a file that all see,
//! `/etc/pve/priv/jobs/realm-sync-ID.json`, under the cluster lock of the domain `realm-sync`.

use jiff::tz::TimeZone;
use pve_cfs::{Cfs, LockId};
use pve_schema::calendar::Event;
use pve_schema::ids::Upid;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::calendar::next_event;
use crate::error::JobsError;
use crate::state::text_of;

/// How long a node that took the job may need to start its task.
const START_LIMIT: i64 = 60;

/// What the cluster knows of a job.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ClusterState {
    /// The node that took it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// When it took it, or failed; Unix seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<i64>,
    /// Its task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upid: Option<String>,
    /// Why there is no task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What a node must know of the others to decide.
pub trait Others {
    /// Whether a task of the cluster is known and has not ended.
    fn is_unfinished(&self, upid: &Upid) -> bool;
    /// Whether a node is online.
    fn is_online(&self, node: &str) -> bool;
}

impl ClusterState {
    fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        let map: Map<String, Value> = serde_json::from_str(text).ok()?;
        Some(Self {
            node: text_of(&map, "node"),
            time: text_of(&map, "time").and_then(|time| time.parse().ok()),
            upid: text_of(&map, "upid"),
            error: text_of(&map, "error"),
        })
    }

    /// A node takes the job.
    pub fn taken(node: &str, now: i64) -> Self {
        Self {
            node: Some(node.to_owned()),
            time: Some(now),
            ..Self::default()
        }
    }

    /// The job runs.
    pub fn started(node: &str, upid: &Upid) -> Self {
        Self {
            node: Some(node.to_owned()),
            upid: Some(upid.to_string()),
            ..Self::default()
        }
    }

    /// The job could not be started.
    pub fn failed(node: &str, now: i64, error: &str) -> Self {
        Self {
            error: Some(error.to_owned()),
            ..Self::taken(node, now)
        }
    }

    /// When the job last ran, as `GET /cluster/jobs/realm-sync` tells it.
    pub fn last_run(&self) -> Option<i64> {
        let upid: Option<Upid> = self.upid.as_ref().and_then(|upid| upid.parse().ok());
        upid.map(|upid| i64::from(upid.starttime)).or(self.time)
    }

    /// Whether this node is to run the job: nobody did since it was due, and nobody is about to.
    pub fn is_due(&self, schedule: &Event, zone: &TimeZone, now: i64, others: &impl Others) -> bool {
        let is_online = || self.node.as_deref().is_some_and(|node| others.is_online(node));
        match &self.upid {
            Some(upid) => {
                let Ok(upid) = upid.parse::<Upid>() else { return true };
                let is_over = next_event(schedule, zone, upid.starttime.into()).is_none_or(|next| next <= now);
                is_over && !(others.is_unfinished(&upid) && others.is_online(upid.node.as_str()))
            }
            None => {
                let is_fresh = self.time.is_some_and(|time| now - time < START_LIMIT);
                !(is_fresh && is_online())
            }
        }
    }
}

/// The lock under which nodes decide.
pub fn lock_id() -> LockId {
    LockId::Domain("realm-sync".to_owned())
}

fn path(id: &str) -> String {
    format!("priv/jobs/realm-sync-{id}.json")
}

/// Reads the file of a job; a missing one is empty, and so is one that nobody understands, with a warning in the log: the
/// next run writes it anew.
///
/// # Errors
/// It cannot be read.
pub fn load(cfs: &Cfs, id: &str) -> Result<ClusterState, JobsError> {
    let rel = path(id);
    let text = cfs.read_text(&rel)?.unwrap_or_default();
    Ok(ClusterState::parse(&text).unwrap_or_else(|| {
        log::warn!("invalid json data in '/etc/pve/{rel}' - taken as empty");
        ClusterState::default()
    }))
}

/// Writes the file of a job.
///
/// # Errors
/// It cannot be written.
pub fn save(cfs: &Cfs, id: &str, state: &ClusterState) -> Result<(), JobsError> {
    let text = serde_json::to_vec(state).unwrap_or_default();
    cfs.write(&path(id), &text)?;
    Ok(())
}

/// Removes the file of a job that is gone.
///
/// # Errors
/// It cannot be removed.
pub fn remove(cfs: &Cfs, id: &str) -> Result<(), JobsError> {
    cfs.remove(&path(id))?;
    Ok(())
}
