//! Where steps put what they saw, for those who want to know all of it.
//!
//! ```text
//!  steps ──post──▶ outbox ──at once───────────▶ couriers ──▶ metric servers
//!                     └─────a cycle at a time──▶ keeper ────▶ /run/pve/metrics
//! ```
//!
//! Posting never waits: whoever takes things out has a thread of its own, and what it cannot take in time it does not
//! get. A step that ends after its cycle has its part in the next one.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use pve_metrics::pull::Cache;
use pve_metrics::{Object, Objects, Snapshot};
use pve_schema::Context;
use pve_schema::ids::StorageId;

use crate::couriers;

/// Cycles that wait for the keeper: it needs milliseconds for one, and has ten seconds.
const KEPT_WAITING: usize = 2;

/// Where steps put what they saw. Clones are the same outbox.
#[derive(Clone)]
pub(crate) struct Outbox {
    seen: Arc<Mutex<Seen>>,
    keeper: SyncSender<Vec<Arc<Snapshot>>>,
    couriers: SyncSender<Arc<Snapshot>>,
}

/// What was seen in the cycle at hand.
#[derive(Default)]
struct Seen {
    snapshots: Vec<Arc<Snapshot>>,
    /// Each has an errand of its own, and they are told of together.
    storages: BTreeMap<StorageId, Object>,
}

impl Outbox {
    /// An outbox, and who empties it.
    pub(crate) fn new(context: &Context) -> Self {
        let (keeper, cycles) = mpsc::sync_channel(KEPT_WAITING);
        let cache = Cache::new(context);
        let spawned = thread::Builder::new()
            .name("keeper".to_owned())
            .spawn(move || keep(&cache, &cycles));
        if let Err(error) = spawned {
            log::error!("could not populate metric data cache: {error}");
        }
        Self {
            seen: Arc::default(),
            keeper,
            couriers: couriers::hire(context),
        }
    }

    /// Takes what a step saw; never waits.
    pub(crate) fn post(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        // Without anybody to take it, it is for the keeper alone.
        let _ = self.couriers.try_send(Arc::clone(&snapshot));
        self.seen().snapshots.push(snapshot);
    }

    /// Takes what was seen of one storage; never waits.
    pub(crate) fn post_storage(&self, id: StorageId, object: Object) {
        self.seen().storages.insert(id, object);
    }

    /// All steps of a cycle had their time.
    pub(crate) fn end_cycle(&self, now: i64) {
        let storages = std::mem::take(&mut self.seen().storages);
        if !storages.is_empty() {
            self.post(Snapshot {
                time: now,
                objects: Objects::Storage(storages),
            });
        }
        let snapshots = std::mem::take(&mut self.seen().snapshots);
        // A keeper that is stuck gets no more of them than it can hold.
        let _ = self.keeper.try_send(snapshots);
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes each cycle to the file of pulled figures, and says once what keeps it from that.
fn keep(cache: &Cache, cycles: &Receiver<Vec<Arc<Snapshot>>>) {
    let mut said = None;
    for snapshots in cycles {
        let failed = cache.add(snapshots.iter().map(Arc::as_ref)).err();
        let text = failed.map(|error| error.to_string());
        if text != said {
            match &text {
                Some(text) => log::error!("could not populate metric data cache: {text}"),
                None => log::info!("metric data cache works again"),
            }
            said = text;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::{Duration, Instant};

    fn object(value: Value) -> Object {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn what_was_seen_is_remembered_a_cycle_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let context = pve_testing::context(root.path(), "n1");
        let (outbox, cache) = (Outbox::new(&context), Cache::new(&context));
        outbox.post(Snapshot {
            time: 5,
            objects: Objects::Node(object(json!({"uptime": 3}))),
        });
        outbox.post_storage("local".parse().unwrap(), object(json!({"total": 9, "used": 4})));
        outbox.post_storage("nfs".parse().unwrap(), object(json!({"total": 0, "used": 0})));
        outbox.end_cycle(6);
        outbox.end_cycle(16);
        let deadline = Instant::now() + Duration::from_secs(60);
        while cache.read(9).unwrap().len() < 2 {
            assert!(Instant::now() < deadline);
            thread::yield_now();
        }
        assert_eq!(
            cache.read(9).unwrap(),
            [
                json!({}),
                json!({
                    "node": {"data": {"uptime": 3, "nics": {}}, "timestamp": 5},
                    "storage": {"timestamp": 6,
                        "data": {"local": {"total": 9, "used": 4}, "nfs": {"total": 0, "used": 0}}},
                }),
            ]
        );
    }
}
