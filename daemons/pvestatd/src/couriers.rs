//! Who tells external metric servers: a courier each, so that one that is away delays nobody.
//!
//! ```text
//! outbox ──▶ dispatcher ──a queue each──▶ courier ──▶ server
//!              │ status.cfg changed:          │ sent ───▶ at work
//!              └─ couriers come and go        └ failed ─▶ rests: 8 s, 16 s … 5 min
//! ```
//!
//! A courier that rests, or whose queue is full, drops what it gets; counters tell how much. What goes wrong is said
//! once, and once when it is over.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use pve_cfs::Cfs;
use pve_contract::RELEASE;
use pve_contract::version::build_id;
use pve_metrics::Snapshot;
use pve_metrics::servers::{Link, Origin, SendError, Server, ServerError, Servers, edit};
use pve_schema::Context;

use crate::counters::{self, Delivery};

/// Snapshots that wait for the dispatcher, which only hands them on.
const WAITING: usize = 64;
/// Snapshots that wait for a courier: two cycles.
const QUEUE: usize = 8;
/// The first rest after a failure: the other snapshots of the cycle are not tried, the next cycle's are.
const FIRST_REST: Duration = Duration::from_secs(8);
/// The longest rest.
const LONGEST_REST: Duration = Duration::from_secs(300);

/// What a courier carries.
type Parcel = (Arc<Origin>, Arc<Snapshot>);

/// Starts the dispatcher. It ends, and its couriers with it, when the sender is dropped.
pub(crate) fn hire(context: &Context) -> SyncSender<Arc<Snapshot>> {
    let (sender, snapshots) = mpsc::sync_channel(WAITING);
    let mut dispatcher = Dispatcher::new(context);
    let spawned = thread::Builder::new()
        .name("dispatcher".to_owned())
        .spawn(move || dispatcher.run(&snapshots));
    if let Err(error) = spawned {
        log::error!("metric servers are not told: {error}");
    }
    sender
}

/// A courier, and what it was sent for.
struct Courier {
    server: Server,
    token: Option<String>,
    queue: SyncSender<Parcel>,
}

struct Dispatcher {
    cfs: Cfs,
    couriers: BTreeMap<String, Courier>,
    origin: Arc<Origin>,
    /// What was said of the file.
    said: Option<String>,
}

impl Dispatcher {
    fn new(context: &Context) -> Self {
        Self {
            cfs: Cfs::new(context),
            couriers: BTreeMap::new(),
            origin: Arc::new(Origin {
                node: context.site.node.clone(),
                cluster: None,
                version: format!("{RELEASE}/{}", build_id()),
            }),
            said: None,
        }
    }

    fn run(&mut self, snapshots: &Receiver<Arc<Snapshot>>) {
        for snapshot in snapshots {
            let text = self.look().err().map(|error| error.to_string());
            if let Some(text) = text.as_ref().filter(|text| self.said.as_ref() != Some(text)) {
                log::error!("status update error: {text}");
            }
            self.said = text;
            self.hand_out(&snapshot);
        }
    }

    /// Looks whom to tell. While that cannot be read, those are told who were told before.
    fn look(&mut self) -> Result<(), ServerError> {
        let servers = Servers::load(&self.cfs)?;
        let enabled: Vec<&Server> = servers.iter().filter(|server| !server.is_disabled).collect();
        let is_wanted = |id: &String| enabled.iter().any(|server| server.id == *id);
        let before = self.couriers.len();
        self.couriers.retain(|id, _| is_wanted(id));
        if self.couriers.len() < before {
            let names: Vec<&str> = servers.iter().map(|server| server.id.as_str()).collect();
            counters::keep_servers(&names);
        }
        let mut result = Ok(());
        for server in enabled {
            let token = match edit::token(&self.cfs, &server.id) {
                Ok(token) => token,
                // The others are not to suffer from that.
                Err(error) => {
                    result = result.and(Err(error));
                    continue;
                }
            };
            let courier = self.couriers.get(&server.id);
            // One that was sent for another address, or with another secret, goes home when it is done.
            if !courier.is_some_and(|courier| courier.server == *server && courier.token == token) {
                self.send_for(server, token);
            }
        }
        if !self.couriers.is_empty() {
            let cluster = self.cfs.members()?.cluster.map(|cluster| cluster.name);
            if cluster != self.origin.cluster {
                self.origin = Arc::new(Origin {
                    cluster,
                    ..self.origin.as_ref().clone()
                });
            }
        }
        result
    }

    fn send_for(&mut self, server: &Server, token: Option<String>) {
        let (queue, parcels) = mpsc::sync_channel(QUEUE);
        let (carried, secret) = (server.clone(), token.clone());
        let spawned = thread::Builder::new()
            .name("courier".to_owned())
            .spawn(move || carry(carried, secret, &parcels));
        match spawned {
            Err(error) => log::error!("metric server '{}' is not told: {error}", server.id),
            Ok(_) => {
                let courier = Courier {
                    server: server.clone(),
                    token,
                    queue,
                };
                self.couriers.insert(server.id.clone(), courier);
            }
        }
    }

    /// Gives each courier its copy, unless it cannot carry any more.
    fn hand_out(&mut self, snapshot: &Arc<Snapshot>) {
        self.couriers.retain(|id, courier| {
            let parcel = (Arc::clone(&self.origin), Arc::clone(snapshot));
            match courier.queue.try_send(parcel) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    counters::delivery(id, Delivery::Dropped);
                    true
                }
                // It is no more; the next look sends for another.
                Err(TrySendError::Disconnected(_)) => {
                    counters::delivery(id, Delivery::Dropped);
                    false
                }
            }
        });
    }
}

/// A courier's life.
fn carry(server: Server, token: Option<String>, parcels: &Receiver<Parcel>) {
    let id = server.id.clone();
    let mut health = Health::default();
    let link = Link::new(server, token);
    for (origin, snapshot) in parcels {
        if health.rests(Instant::now()) {
            counters::delivery(&id, Delivery::Dropped);
            continue;
        }
        let told = link.as_ref().map_err(Clone::clone);
        let result = match told.and_then(|link| link.send(&origin, &snapshot)) {
            // A node without containers has nothing to tell of them, and that says nothing of the server.
            Ok(false) => continue,
            Ok(true) => Ok(()),
            Err(error) => Err(error),
        };
        let delivery = match result {
            Ok(()) => Delivery::Sent,
            Err(_) => Delivery::Failed,
        };
        counters::delivery(&id, delivery);
        match health.note(&id, &result, Instant::now()) {
            Some(Err(text)) => log::warn!("{text}"),
            Some(Ok(text)) => log::info!("{text}"),
            None => {}
        }
    }
}

/// How it goes with a server.
#[derive(Default)]
struct Health {
    /// What was said of it.
    said: Option<String>,
    /// The last rest.
    rest: Duration,
    /// When it ends.
    until: Option<Instant>,
}

impl Health {
    /// Whether the server is left alone at the moment.
    fn rests(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Takes note of an attempt; what has to be said about it, if that is anything new.
    fn note(&mut self, id: &str, result: &Result<(), SendError>, now: Instant) -> Option<Result<String, String>> {
        let Err(error) = result else {
            self.rest = Duration::ZERO;
            self.until = None;
            return self
                .said
                .take()
                .map(|_| Ok(format!("metric server '{id}' works again")));
        };
        if error.asks_for_a_pause() {
            self.rest = (self.rest * 2).clamp(FIRST_REST, LONGEST_REST);
            self.until = Some(now + self.rest);
        }
        let text = match error.is_connection() {
            true => format!("connection for plugin '{id}' failed: {error}"),
            false => format!("metrics send error '{id}': {error}"),
        };
        if self.said.as_ref() == Some(&text) {
            return None;
        }
        self.said = Some(text.clone());
        Some(Err(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> SendError {
        SendError::Socket {
            service: "carbon",
            host: "h".to_owned(),
            port: 1,
            reason: "Connection refused".to_owned(),
        }
    }

    #[test]
    fn only_changes_are_told() {
        let mut health = Health::default();
        let now = Instant::now();
        let mut note = |result: Result<(), SendError>| health.note("g", &result, now);
        assert_eq!(note(Ok(())), None);
        let refused_text = "connection for plugin 'g' failed: couldn't create carbon socket [h]:1 - Connection refused";
        assert_eq!(note(Err(refused())), Some(Err(refused_text.to_owned())));
        assert_eq!(note(Err(refused())), None);
        let status = SendError::Status {
            code: 401,
            reason: "Unauthorized",
        };
        let unauthorized = "metrics send error 'g': 401 Unauthorized";
        assert_eq!(note(Err(status.clone())), Some(Err(unauthorized.to_owned())));
        assert_eq!(note(Err(status)), None);
        assert_eq!(note(Ok(())), Some(Ok("metric server 'g' works again".to_owned())));
        assert_eq!(note(Ok(())), None);
    }

    #[test]
    fn a_secret_that_cannot_be_read_keeps_no_other_server_waiting() {
        let root = tempfile::tempdir().unwrap();
        let context = pve_testing::context(root.path(), "n1");
        let mut dispatcher = Dispatcher::new(&context);
        dispatcher.cfs.ensure_tree().unwrap();
        let servers = "graphite: ../x\n\tserver 127.0.0.1\n\ngraphite: good\n\tserver 127.0.0.1\n";
        dispatcher.cfs.write("status.cfg", servers.as_bytes()).unwrap();
        assert!(dispatcher.look().is_err());
        assert!(dispatcher.couriers.keys().eq(["good"]));
    }

    #[test]
    fn rests_grow_and_end() {
        let mut health = Health::default();
        let mut now = Instant::now();
        let mut rests = Vec::new();
        for _ in 0..8 {
            assert!(!health.rests(now));
            health.note("g", &Err(refused()), now);
            let rest = health.until.unwrap() - now;
            rests.push(rest.as_secs());
            assert!(health.rests(now + rest / 2));
            now += rest;
        }
        assert_eq!(rests, [8, 16, 32, 64, 128, 256, 300, 300]);
        health.note("g", &Ok(()), now);
        assert!(!health.rests(now));
        health.note("g", &Err(refused()), now);
        assert_eq!(health.rest, FIRST_REST, "a new failure starts anew");
    }

    #[test]
    fn one_that_refuses_is_asked_again_at_once() {
        for (code, rests) in [
            (400, false),
            (401, false),
            (404, false),
            (429, true),
            (500, true),
            (503, true),
        ] {
            let mut health = Health::default();
            let now = Instant::now();
            health.note("i", &Err(SendError::Status { code, reason: "" }), now);
            assert_eq!(health.rests(now), rests, "{code}");
        }
    }
}
