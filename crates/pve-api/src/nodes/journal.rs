//! `GET /nodes/{node}/journal` (reference 09 §7.2): no envelope, but a file that is made while it is sent.

use flate2::Compression;
use flate2::read::GzEncoder;
use pve_node::journal::{self, Window};
use pve_rest::{ApiResult, Call, Content, Download, Reply, blocking};

/// Lines of a log are alike: more effort gains little.
const COMPRESSION: Compression = Compression::new(2);

/// The lines between two cursors or times, or the last ones.
pub(super) async fn journal(call: Call) -> ApiResult {
    blocking(move || read(&call)).await
}

fn read(call: &Call) -> ApiResult {
    let text = |name: &str| call.params.text(name).map(str::to_owned);
    let count = call.params.integer("lastentries");
    let window = Window {
        since: call.params.integer("since"),
        until: call.params.integer("until"),
        last: count.and_then(|count| u64::try_from(count).ok()),
        after: text("startcursor"),
        before: text("endcursor"),
    };
    let journal = journal::open(&call.context.site, &window)?;
    Ok(Reply {
        download: Some(Download {
            content: Content::Stream(Box::new(GzEncoder::new(journal, COMPRESSION))),
            content_type: "application/json".to_owned(),
            content_encoding: Some("gzip".to_owned()),
            content_disposition: None,
        }),
        ..Reply::default()
    })
}
