//! How much of a worker's memory the bodies of one user's calls may take at a time.
//!
//! Who is logged in may send 512 KiB with each call, on as many connections as there are, and what is decoded from that is
//! larger by far. So a large body waits, unread, until those of the same user before it leave room: what it costs to
//! send many at once is time, and only that user's own. Small ones never wait: a worker holds as many as it has
//! connections.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use pve_schema::ids::{AuthId, UserId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::params::MAX_BODY;
use crate::refusal::Refusal;

/// What one user's large bodies may take together, in bytes: eight of the largest.
const SUM: u64 = 8 * MAX_BODY;
/// Bodies up to this size, in bytes, do not count; nearly all are far below.
const SMALL: u64 = 16 * 1024;
/// How long a body waits for those before it.
const PATIENCE: Duration = Duration::from_secs(20);
/// When so many users are known, those who send nothing are forgotten.
const FORGET_FROM: usize = 64;

/// The bodies that a worker holds, by user.
#[derive(Debug, Default)]
pub(crate) struct Bodies(Mutex<HashMap<UserId, Weak<Semaphore>>>);

/// Room for a body, as long as this is held.
#[derive(Debug)]
pub(crate) struct Room {
    _bytes: OwnedSemaphorePermit,
    /// It lives as long as somebody of its user's has room.
    _user: Arc<Semaphore>,
}

impl Bodies {
    /// Waits for room for a body that is at most `length` bytes long. Tokens share their user's.
    ///
    /// # Errors
    /// [`Refusal::Busy`].
    pub(crate) async fn room(&self, caller: &AuthId, length: u64) -> Result<Option<Room>, Refusal> {
        self.room_within(caller, length, PATIENCE).await
    }

    async fn room_within(&self, caller: &AuthId, length: u64, limit: Duration) -> Result<Option<Room>, Refusal> {
        if length <= SMALL {
            return Ok(None);
        }
        let user = self.of(caller.user());
        let bytes = u32::try_from(length.min(SUM)).unwrap_or(u32::MAX);
        let taken = timeout(limit, Arc::clone(&user).acquire_many_owned(bytes)).await;
        match taken {
            Ok(Ok(bytes)) => Ok(Some(Room {
                _bytes: bytes,
                _user: user,
            })),
            _ => Err(Refusal::Busy),
        }
    }

    fn of(&self, user: &UserId) -> Arc<Semaphore> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = users.get(user).and_then(Weak::upgrade) {
            return known;
        }
        if users.len() >= FORGET_FROM {
            users.retain(|_, known| known.strong_count() > 0);
        }
        let new = Arc::new(Semaphore::new(usize::try_from(SUM).unwrap_or(usize::MAX)));
        users.insert(user.clone(), Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> AuthId {
        name.parse().unwrap()
    }

    #[tokio::test]
    async fn large_bodies_of_one_user_wait_for_each_other() {
        let bodies = Bodies::default();
        let joe = user("joe@pve");
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(bodies.room(&joe, MAX_BODY).await.unwrap().unwrap());
        }
        // A token of his is he, too; others and small bodies are not held up.
        let token = user("joe@pve!ci");
        let refused = bodies
            .room_within(&token, MAX_BODY, Duration::from_millis(20))
            .await
            .unwrap_err();
        assert_eq!(
            (refused.status().as_u16(), refused.to_string().as_str()),
            (503, "too many large requests at once")
        );
        assert!(bodies.room(&user("ann@pve"), MAX_BODY).await.unwrap().is_some());
        assert!(bodies.room(&joe, SMALL).await.unwrap().is_none());
        let mut waiting = Box::pin(bodies.room(&joe, MAX_BODY));
        let now = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx))).await;
        assert!(now.is_pending());
        held.pop();
        assert!(waiting.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn who_sends_nothing_is_forgotten() {
        let bodies = Bodies::default();
        for number in 0..1000 {
            drop(bodies.room(&user(&format!("u{number}@pve")), MAX_BODY).await.unwrap());
        }
        assert!(bodies.0.lock().unwrap().len() <= FORGET_FROM);
    }
}
