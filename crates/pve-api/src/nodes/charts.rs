//! Charts of a node, a guest, a storage: their points, `GET …/rrddata` (reference 04 §13.2), and as pictures,
//! `GET …/rrd` (reference 04 §13.3).

use std::fmt::Display;
use std::str::FromStr;

use pve_contract::id;
use pve_metrics::{Consolidation, Rrd, Subject, Timeframe};
use pve_rest::{ApiError, ApiResult, Call, Registry, blocking};
use pve_schema::list;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Pictures are drawn one at a time (docs/decisions/0011-rrd.md).
static DRAWING: Queue = Queue::new(16);

/// Those that want to draw: they wait here, and not on threads that other requests need.
struct Queue {
    places: Semaphore,
    first: Semaphore,
}

/// Whose turn it is.
struct Turn<'a> {
    _place: SemaphorePermit<'a>,
    _first: SemaphorePermit<'a>,
}

impl Queue {
    const fn new(places: usize) -> Self {
        Self {
            places: Semaphore::const_new(places),
            first: Semaphore::const_new(1),
        }
    }

    /// Waits for one's turn; not at all where too many wait.
    async fn turn(&self) -> Result<Turn<'_>, ApiError> {
        let full = || ApiError::status(503, "too many pictures are asked for at once\n");
        let place = self.places.try_acquire().map_err(|_| full())?;
        let first = self.first.acquire().await.map_err(|_| full())?;
        Ok(Turn {
            _place: place,
            _first: first,
        })
    }
}

/// Binds the handlers of this file.
pub(crate) fn register(registry: &mut Registry) {
    registry.bind(id::GET_NODES_NODE_RRDDATA, |call| Box::pin(points(call, node)));
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_RRDDATA, |call| {
        Box::pin(points(call, guest))
    });
    registry.bind(id::GET_NODES_NODE_LXC_VMID_RRDDATA, |call| {
        Box::pin(points(call, guest))
    });
    registry.bind(id::GET_NODES_NODE_STORAGE_STORAGE_RRDDATA, |call| {
        Box::pin(points(call, storage))
    });
    registry.bind(id::GET_NODES_NODE_RRD, |call| Box::pin(picture(call, node)));
    registry.bind(id::GET_NODES_NODE_QEMU_VMID_RRD, |call| Box::pin(picture(call, guest)));
    registry.bind(id::GET_NODES_NODE_LXC_VMID_RRD, |call| Box::pin(picture(call, guest)));
    registry.bind(id::GET_NODES_NODE_STORAGE_STORAGE_RRD, |call| {
        Box::pin(picture(call, storage))
    });
}

fn node(call: &Call) -> Result<Subject, ApiError> {
    Ok(Subject::Node(parameter(call, "node")?))
}

/// By number alone: every node of a cluster has the figures of all guests.
fn guest(call: &Call) -> Result<Subject, ApiError> {
    Ok(Subject::Guest(parameter(call, "vmid")?))
}

fn storage(call: &Call) -> Result<Subject, ApiError> {
    Ok(Subject::Storage(parameter(call, "node")?, parameter(call, "storage")?))
}

async fn points(call: Call, subject: fn(&Call) -> Result<Subject, ApiError>) -> ApiResult {
    blocking(move || {
        let (timeframe, how) = range(&call)?;
        let rows = Rrd::new(&call.context).rows(&subject(&call)?, timeframe, how)?;
        Ok::<_, ApiError>(Value::from_iter(rows).into())
    })
    .await
}

async fn picture(call: Call, subject: fn(&Call) -> Result<Subject, ApiError>) -> ApiResult {
    let turn = DRAWING.turn().await?;
    blocking(move || {
        // Until the picture is there, even if nobody waits for it any more.
        let _turn = turn;
        let (timeframe, how) = range(&call)?;
        let sources = list::split(call.params.required("ds"));
        let picture = Rrd::new(&call.context).picture(&subject(&call)?, &sources, timeframe, how)?;
        // A byte is a character of the same number, as upstream writes bytes in JSON.
        let image: String = picture.image.into_iter().map(char::from).collect();
        Ok::<_, ApiError>(json!({ "filename": picture.filename, "image": image }).into())
    })
    .await
}

/// How far back, and whose values.
fn range(call: &Call) -> Result<(Timeframe, Consolidation), ApiError> {
    let how = match call.params.text("cf") {
        Some("MAX") => Consolidation::Max,
        _ => Consolidation::Average,
    };
    Ok((parameter(call, "timeframe")?, how))
}

fn parameter<T: FromStr<Err: Display>>(call: &Call, name: &str) -> Result<T, ApiError> {
    let parsed = call.params.required(name).parse();
    parsed.map_err(|error: T::Err| ApiError::parameter(name, error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn one_draws_some_wait_and_the_rest_is_sent_away() {
        let queue = Queue::new(2);
        let mut context = Context::from_waker(Waker::noop());
        let mut first = pin!(queue.turn());
        let Poll::Ready(Ok(turn)) = first.as_mut().poll(&mut context) else {
            panic!("nobody else draws");
        };
        let mut second = pin!(queue.turn());
        assert!(second.as_mut().poll(&mut context).is_pending());
        let Poll::Ready(Err(error)) = pin!(queue.turn()).poll(&mut context) else {
            panic!("there is no place left");
        };
        assert_eq!(error.status, 503);
        drop(turn);
        assert!(matches!(second.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
    }
}
