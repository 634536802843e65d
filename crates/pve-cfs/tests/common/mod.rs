//! A site in a temporary directory.

use pve_schema::Context;
use std::path::Path;

/// A site below a directory, owned by root and www-data where the test runs as root.
#[allow(clippy::expect_used)]
pub(crate) fn context(root: &Path) -> Context {
    pve_testing::context(root, "pve1")
}
