//! A site in a temporary directory.

use std::path::Path;

use pve_schema::site::Ids;
use pve_schema::{Context, Site};

/// A site below a directory, owned by root and www-data where the test runs as root.
#[allow(clippy::expect_used)]
pub(crate) fn context(root: &Path) -> Context {
    Context::new(Site {
        root: root.to_owned(),
        instance: None,
        address: [127, 0, 0, 1].into(),
        node: "pve1".parse().expect("a node name"),
        root_user: Ids { uid: 0, gid: 0 },
        web_user: Ids { uid: 33, gid: 33 },
    })
}
