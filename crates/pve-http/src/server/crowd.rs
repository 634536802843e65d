//! Room for the next client when every place is taken: who has been waited for longest is sent away.
//!
//! A worker has a fixed number of places, and a client that opens a connection and says nothing holds one until its time
//! is up. Thousands of those would keep everybody else waiting for as long. So when all places are taken and somebody
//! knocks, one connection that waits for its client is asked to end:
//!
//! ```text
//! accepted ──▶ waits (stranger) ──whole head──▶ works ──answered──▶ waits (visitor) ──whole head──▶ works …
//!                    ▲                            │
//!                    └────────body expected───────┘
//! ```
//!
//! Strangers go before visitors, who have had an answer on this connection, and among them the oldest first. What works
//! is never disturbed. A client in good faith is a stranger for some milliseconds, and finds that an idle connection was
//! closed, as may happen at any time.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

/// How long a full worker leaves a knock to the others before it listens whether there is one.
const LULL: Duration = Duration::from_millis(20);
/// How long who was asked to leave has for it, before the next one is asked.
const FAREWELL: Duration = Duration::from_millis(50);
/// Marks the numbers of visitors: all of them are larger than any stranger's.
const VISITOR: u64 = 1 << 63;
/// The number of who does not wait.
const WORKS: u64 = 0;

/// Where connections come in, so many at a time.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: usize,
    slots: Arc<Semaphore>,
    crowd: Arc<Crowd>,
    /// When somebody knocked last while all places were taken.
    knocked: Mutex<Option<Instant>>,
}

/// A new connection.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    /// It counts as long as this is held.
    pub(crate) slot: OwnedSemaphorePermit,
    pub(crate) place: Place,
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            slots: Arc::new(Semaphore::new(limit)),
            crowd: Arc::default(),
            knocked: Mutex::default(),
        }
    }

    /// How many connections there are.
    pub(crate) fn open(&self) -> usize {
        self.limit.saturating_sub(self.slots.available_permits())
    }

    /// The next connection. At the limit of open ones it waits for one to end, and sees to it that one does.
    ///
    /// # Errors
    /// It cannot be accepted.
    pub(crate) async fn next(&self, listener: &TcpListener) -> io::Result<Arrival> {
        let (stream, peer, slot) = match Arc::clone(&self.slots).try_acquire_owned() {
            Ok(slot) => {
                let (stream, peer) = listener.accept().await?;
                (stream, peer, slot)
            }
            Err(_) => self.squeeze_in(listener).await?,
        };
        let place = self.crowd.enter();
        Ok(Arrival {
            stream,
            peer,
            slot,
            place,
        })
    }

    /// The next connection and a slot for it, when there was none.
    async fn squeeze_in(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let is_besieged = self.knocked().is_some_and(|last| last.elapsed() < 2 * LULL);
        // Without a knock nobody has to leave, and other workers may have room.
        let knock = async {
            if !is_besieged {
                sleep(LULL).await;
            }
            listener.accept().await
        };
        let slot = Arc::clone(&self.slots).acquire_owned();
        tokio::pin!(knock, slot);
        let (stream, peer) = tokio::select! {
            slot = &mut slot => {
                let (stream, peer) = listener.accept().await?;
                return Ok((stream, peer, slot.map_err(io::Error::other)?));
            }
            accepted = &mut knock => accepted?,
        };
        *self.knocked() = Some(Instant::now());
        loop {
            self.crowd.make_room();
            if let Ok(slot) = timeout(FAREWELL, &mut slot).await {
                return Ok((stream, peer, slot.map_err(io::Error::other)?));
            }
        }
    }

    fn knocked(&self) -> MutexGuard<'_, Option<Instant>> {
        self.knocked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All connections of a worker.
#[derive(Debug, Default)]
struct Crowd {
    /// Counts up whenever somebody begins to wait.
    clock: AtomicU64,
    places: Mutex<HashMap<u64, Arc<State>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Since when it waits, by the crowd's clock.
    since: AtomicU64,
    /// Was asked to leave since then.
    is_asked: AtomicBool,
    asked: Notify,
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Place {
    id: u64,
    crowd: Arc<Crowd>,
    state: Arc<State>,
}

impl Crowd {
    /// The place of a new connection, which waits for its client.
    fn enter(self: &Arc<Self>) -> Place {
        let place = self.apart();
        place.wait(0);
        self.places().insert(place.id, Arc::clone(&place.state));
        place
    }

    /// A place that nobody is asked to leave.
    fn apart(self: &Arc<Self>) -> Place {
        Place {
            id: self.clock.fetch_add(1, Ordering::Relaxed) + 1,
            crowd: Arc::clone(self),
            state: Arc::default(),
        }
    }

    /// Asks whoever was waited for longest to leave; whether there was somebody to ask.
    fn make_room(&self) -> bool {
        let places = self.places();
        let waiting = places.values().filter(|state| !state.is_asked.load(Ordering::Relaxed));
        let oldest = waiting
            .map(|state| (state.since.load(Ordering::Relaxed), state))
            .filter(|(since, _)| *since != WORKS)
            .min_by_key(|(since, _)| *since);
        let Some((_, state)) = oldest else { return false };
        state.is_asked.store(true, Ordering::Relaxed);
        state.asked.notify_one();
        true
    }

    fn places(&self) -> MutexGuard<'_, HashMap<u64, Arc<State>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// A place for a part of the connection's work, which nobody is asked to leave.
    pub(super) fn apart(&self) -> Self {
        self.crowd.apart()
    }

    /// The client's turn, before anything was done for it, or after a refusal that ends the connection.
    pub(crate) fn waits_for_stranger(&self) {
        self.wait(0);
    }

    /// The client's turn, after an answer.
    pub(super) fn waits_for_visitor(&self) {
        self.wait(VISITOR);
    }

    fn wait(&self, standing: u64) {
        let since = self.crowd.clock.fetch_add(1, Ordering::Relaxed) + 1;
        self.state.is_asked.store(false, Ordering::Relaxed);
        self.state.since.store(standing | since, Ordering::Relaxed);
    }

    /// Tells whether this connection has been asked to leave.
    pub(crate) fn hurry(&self) -> Hurry {
        Hurry(Arc::clone(&self.state))
    }

    /// Our turn.
    pub(crate) fn works(&self) {
        self.state.since.store(WORKS, Ordering::Relaxed);
    }

    /// Ready when the connection is to end, which is never while it works. Whether it is a visitor's.
    pub(crate) async fn asked_to_leave(&self) -> bool {
        loop {
            self.state.asked.notified().await;
            let since = self.state.since.load(Ordering::Relaxed);
            if since != WORKS && self.state.is_asked.load(Ordering::Relaxed) {
                return since & VISITOR != 0;
            }
        }
    }
}

/// Tells whether a connection has been asked to leave.
#[derive(Debug)]
pub(crate) struct Hurry(Arc<State>);

impl Hurry {
    pub(crate) fn is_on(&self) -> bool {
        self.0.is_asked.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.crowd.places().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crowd() -> Arc<Crowd> {
        Arc::default()
    }

    fn is_asked(place: &Place) -> bool {
        place.state.is_asked.load(Ordering::Relaxed)
    }

    #[test]
    fn strangers_go_first_and_the_oldest_of_them() {
        let crowd = crowd();
        let places: Vec<Place> = (0..4).map(|_| crowd.enter()).collect();
        let [visitor, busy, second, first] = places.as_slice() else {
            panic!()
        };
        visitor.waits_for_visitor();
        busy.works();
        second.waits_for_stranger();
        let mut order = Vec::new();
        while crowd.make_room() {
            order.push(places.iter().map(is_asked).collect::<Vec<_>>());
        }
        assert_eq!(
            order,
            [
                [false, false, false, true],
                [false, false, true, true],
                [true, false, true, true],
            ]
        );
        assert!(is_asked(first) && is_asked(second) && is_asked(visitor) && !is_asked(busy));
    }

    #[tokio::test]
    async fn who_works_by_then_stays() {
        let crowd = crowd();
        let place = crowd.enter();
        assert!(crowd.make_room());
        place.works();
        let mut asked = Box::pin(place.asked_to_leave());
        let now = std::future::poll_fn(|cx| std::task::Poll::Ready(asked.as_mut().poll(cx))).await;
        assert!(now.is_pending());
        place.waits_for_visitor();
        assert!(crowd.make_room());
        assert!(asked.await, "a visitor");
    }

    #[test]
    fn places_are_forgotten_with_their_connections() {
        let crowd = crowd();
        drop(crowd.enter());
        let apart = crowd.apart();
        apart.waits_for_stranger();
        assert!(!crowd.make_room());
        assert!(crowd.places().is_empty());
    }
}
