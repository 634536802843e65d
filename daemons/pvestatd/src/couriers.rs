//! Who tells external metric servers: a courier each, so that one that is away delays nobody.
//!
//! ```text
//! outbox ──▶ dispatcher ──a queue each──▶ courier ──▶ server
//!              │ status.cfg changed:          │ sent ───▶ at work
//!              └─ couriers come and go        └ failed ─▶ rests: 8 s, 16 s … 5 min
//! ```
//!
//! A courier that rests, or whose queue is full, drops what it gets; counters tell how much. What goes wrong is said
//! once, and once when it is over. One that is not wanted any more drops all that it has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use pve_cfs::Cfs;
use pve_contract::RELEASE;
use pve_contract::version::build_id;
use pve_metrics::Snapshot;
use pve_metrics::servers::{Limit, Link, Origin, SendError, Server, ServerError, Servers, Told, edit};
use pve_schema::Context;

use crate::counters::{self, Delivery};
use crate::health::Health;

/// Snapshots that wait for the dispatcher, which only hands them on.
const WAITING: usize = 64;
/// Snapshots that wait for a courier: two cycles.
const QUEUE: usize = 8;
/// The longest that a server may be told of one snapshot.
const LONGEST_DELIVERY: Duration = Duration::from_secs(60);

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
    is_dismissed: Arc<AtomicBool>,
}

/// Whoever goes leaves what waits in the queue: it was for another address, or with another secret.
impl Drop for Courier {
    fn drop(&mut self) {
        self.is_dismissed.store(true, Ordering::Release);
    }
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
        self.couriers.retain(|id, _| is_wanted(id));
        // Each time, as one that goes may still have counted, and there are those of an earlier run.
        let names: Vec<&str> = servers.iter().map(|server| server.id.as_str()).collect();
        counters::keep_servers(&names);
        let mut result = Ok(());
        let mut tokens = Vec::new();
        for server in enabled {
            let token = server.takes_token().then(|| edit::token(&self.cfs, &server.id));
            match token.transpose() {
                Ok(token) => tokens.push((server, token.flatten())),
                // The others are not to suffer from that.
                Err(error) => result = result.and(Err(error)),
            }
        }
        if Servers::load(&self.cfs)?.digest != servers.digest {
            // A secret may be that of another address already; the next look finds both.
            return result;
        }
        for (server, token) in tokens {
            let courier = self.couriers.get(&server.id);
            // One that was sent for another address, or with another secret, goes.
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
        let is_dismissed = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&is_dismissed);
        let spawned = thread::Builder::new()
            .name("courier".to_owned())
            .spawn(move || carry(carried, secret, &parcels, &flag));
        match spawned {
            Err(error) => log::error!("metric server '{}' is not told: {error}", server.id),
            Ok(_) => {
                let courier = Courier {
                    server: server.clone(),
                    token,
                    queue,
                    is_dismissed,
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
fn carry(server: Server, token: Option<String>, parcels: &Receiver<Parcel>, is_dismissed: &Arc<AtomicBool>) {
    let id = server.id.clone();
    let mut health = Health::default();
    let mut link = None;
    for (origin, snapshot) in parcels {
        if is_dismissed.load(Ordering::Acquire) {
            return;
        }
        if health.rests(Instant::now()) {
            counters::delivery(&id, Delivery::Dropped);
            continue;
        }
        let limit = Limit {
            until: Instant::now() + LONGEST_DELIVERY,
            is_dismissed: Arc::clone(is_dismissed),
        };
        let result = way(&mut link, &server, token.as_ref()).and_then(|link| link.send(&origin, &snapshot, &limit));
        let delivery = match result {
            Err(SendError::Dismissed) => return,
            // A node without containers has nothing to tell of them, and that says nothing of the server.
            Ok(Told::Nothing) => None,
            Ok(Told::All) => Some(Delivery::Sent),
            Ok(Told::AllBut(_)) => Some(Delivery::Partial),
            Err(_) => Some(Delivery::Failed),
        };
        if let Some(delivery) = delivery {
            counters::delivery(&id, delivery);
        }
        let news = health.note(&id, snapshot.objects.subsystem(), &result, Instant::now());
        if health.rests(Instant::now()) {
            // The next attempt begins anew, with the certificates that the system trusts by then.
            link = None;
        }
        match news {
            Some(Err(text)) => log::warn!("{text}"),
            Some(Ok(text)) => log::info!("{text}"),
            None => {}
        }
    }
}

/// The way to the server; the one that there is, or a new one.
fn way<'a>(link: &'a mut Option<Link>, server: &Server, token: Option<&String>) -> Result<&'a Link, SendError> {
    match link {
        Some(link) => Ok(link),
        None => Ok(link.insert(Link::new(server.clone(), token.cloned())?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pve_metrics::Objects;
    use std::io::Read as _;
    use std::net::{TcpListener, UdpSocket};

    #[test]
    fn a_secret_that_cannot_be_read_keeps_no_other_server_waiting() {
        let root = tempfile::tempdir().unwrap();
        let context = pve_testing::context(root.path(), "n1");
        let mut dispatcher = Dispatcher::new(&context);
        dispatcher.cfs.ensure_tree().unwrap();
        let servers = "influxdb: ../x\n\tserver 127.0.0.1\n\tport 1\n\ngraphite: ../y\n\tserver 127.0.0.1\n\ngraphite: good\n\tserver 127.0.0.1\n";
        dispatcher.cfs.write("status.cfg", servers.as_bytes()).unwrap();
        assert!(dispatcher.look().is_err());
        assert!(dispatcher.couriers.keys().eq(["../y", "good"]));
    }

    fn snapshot(fields: usize) -> Arc<Snapshot> {
        let fields = (0..fields).map(|n| (format!("k{n}"), n.into())).collect();
        Arc::new(Snapshot {
            time: 1,
            objects: Objects::Node(fields),
        })
    }

    /// What a courier that is busy has in its queue belongs to the address that it was sent to.
    #[test]
    fn one_that_is_dismissed_tells_nothing_more() {
        let root = tempfile::tempdir().unwrap();
        let context = pve_testing::context(root.path(), "n1");
        let mut dispatcher = Dispatcher::new(&context);
        dispatcher.cfs.ensure_tree().unwrap();
        let old = TcpListener::bind("127.0.0.1:0").unwrap();
        let new = UdpSocket::bind("127.0.0.1:0").unwrap();
        new.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let port = old.local_addr().unwrap().port();
        let config = format!("graphite: g\n\tserver 127.0.0.1\n\tport {port}\n\tproto tcp\n\ttimeout 60\n");
        dispatcher.cfs.write("status.cfg", config.as_bytes()).unwrap();
        dispatcher.look().unwrap();
        // It is busy with what nobody reads; the second one waits.
        dispatcher.hand_out(&snapshot(500_000));
        dispatcher.hand_out(&snapshot(1));
        let mut first = old.accept().unwrap().0;
        let port = new.local_addr().unwrap().port();
        let config = format!("graphite: g\n\tserver 127.0.0.1\n\tport {port}\n");
        dispatcher.cfs.write("status.cfg", config.as_bytes()).unwrap();
        dispatcher.look().unwrap();
        dispatcher.hand_out(&snapshot(1));
        new.recv(&mut [0; 2048]).unwrap();
        // Whatever it had begun ends now, and nobody comes with the second.
        let told = std::io::copy(&mut first.by_ref(), &mut std::io::sink()).unwrap();
        assert!(told < 12_000_000, "it went on to the end: {told}");
        let counter = Arc::strong_count(&dispatcher.origin);
        let deadline = Instant::now() + Duration::from_secs(60);
        while Arc::strong_count(&dispatcher.origin) > 1 {
            assert!(Instant::now() < deadline, "{counter} hold what they were to carry");
            thread::yield_now();
        }
        old.set_nonblocking(true).unwrap();
        assert!(old.accept().is_err(), "it came again");
    }
}
