//! `/access`

use pve_rest::Registry;

/// Binds the handlers below this folder.
pub(crate) fn register(_registry: &mut Registry) {}
