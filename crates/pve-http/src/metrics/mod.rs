//! The metrics of this node's daemons, as Prometheus wants them: at `/api2/metrics` for whoever has `Sys.Audit` on the
//! node, and without login on a socket of its own on loopback (docs/decisions/0014-metrics.md).
//!
//! | module | holds |
//! |---|---|
//! | here | the answer: which format, and what goes wrong |
//! | `exposition` | the two text formats |
//! | `socket` | the socket without login |
//!
//! Not here: counting ([`crate::counters`], [`pve_daemon::counters`]).

mod exposition;
pub(crate) mod socket;

use http::header::ACCEPT;
use http::{HeaderMap, StatusCode};
use pve_schema::Context;

use crate::answer::{Answer, Payload};
use exposition::Format;

/// All that is counted on this node, in the format that the reader likes best.
pub(crate) async fn answer(context: &Context, headers: &HeaderMap) -> Answer {
    let accept = crate::head::joined(headers, &ACCEPT);
    let format = Format::preferred(&accept);
    let context = context.clone();
    // Small files in memory; but whatever opens a file may wait.
    match tokio::task::spawn_blocking(move || exposition::text(&context.site, format)).await {
        Ok(text) => Answer::new(StatusCode::OK, "")
            .with_type(format.content_type())
            .with_body(Payload::Whole(text.into())),
        Err(_) => Answer::bare(500, "unable to read the counters"),
    }
}
