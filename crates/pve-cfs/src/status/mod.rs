//! The status store: values that daemons tell each other (reference 04 §2, §3).
//!
//! ```text
//! every daemon ──▶ StatusStore ──▶ local: files of this node, where /etc/pve is a plain directory
//!                  limits, cache    (a cluster file system's own store is to be a second kind beside it)
//! ```
//!
//! Root's daemons write, the web side reads. A value is of the node that set it: [`StatusStore::get`] is this node's,
//! [`StatusStore::of_nodes`] everybody's who has it. Where a cluster file system is mounted the store still holds this
//! node's own values only.

mod local;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use pve_schema::ids::NodeName;

use crate::cached::FILES;
use crate::{Cfs, CfsError};
use local::LocalStore;
pub(crate) use local::replace;

/// First size that is too big (reference 04 §1.4).
const MAX_VALUE: usize = 32 * 1024;

/// The status store as one node sees it.
#[derive(Debug, Clone)]
pub struct StatusStore {
    node: NodeName,
    kind: Kind,
}

/// Who keeps the values.
#[derive(Debug, Clone)]
enum Kind {
    /// This node, for itself.
    Local(LocalStore),
}

/// A value, and when it was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The key.
    pub key: String,
    /// The value.
    pub value: Vec<u8>,
    /// When it was set, Unix seconds of the machine's clock.
    pub at: i64,
}

impl Cfs {
    /// The status store.
    pub fn status(&self) -> StatusStore {
        let site = self.site().clone();
        StatusStore {
            node: site.node.clone(),
            kind: Kind::Local(LocalStore { site }),
        }
    }
}

impl StatusStore {
    /// Sets a value: `set("tasklist", json)`.
    ///
    /// # Errors
    /// [`CfsError::StatusTooBig`], [`CfsError::StatusKey`], [`CfsError::MakeDir`], [`CfsError::Write`].
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), CfsError> {
        if value.len() >= MAX_VALUE {
            return Err(CfsError::StatusTooBig(key.to_owned()));
        }
        match &self.kind {
            Kind::Local(store) => store.set(key, value),
        }
    }

    /// Forgets a value.
    ///
    /// # Errors
    /// [`CfsError::StatusKey`], [`CfsError::Remove`].
    pub fn unset(&self, key: &str) -> Result<(), CfsError> {
        match &self.kind {
            Kind::Local(store) => store.unset(key),
        }
    }

    /// This node's value, `None` if it was never told.
    ///
    /// # Errors
    /// [`CfsError::StatusKey`], [`CfsError::Read`].
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, CfsError> {
        match &self.kind {
            Kind::Local(store) => store.get(key),
        }
    }

    /// The values of all nodes that have one.
    ///
    /// # Errors
    /// As [`StatusStore::get`].
    pub fn of_nodes(&self, key: &str) -> Result<BTreeMap<NodeName, Vec<u8>>, CfsError> {
        match &self.kind {
            Kind::Local(store) => Ok(store
                .get(key)?
                .map(|value| (self.node.clone(), value))
                .into_iter()
                .collect()),
        }
    }

    /// All values whose key starts with `prefix`, in order of the keys: `rrd/` for the figures, of all nodes.
    ///
    /// # Errors
    /// [`CfsError::Read`].
    pub fn list(&self, prefix: &str) -> Result<Vec<Told>, CfsError> {
        match &self.kind {
            Kind::Local(store) => store.list(prefix),
        }
    }

    /// What `make` makes of all values whose key starts with `prefix`, from memory if no value was set since.
    ///
    /// # Errors
    /// As [`StatusStore::list`].
    pub fn cached<T: Any + Send + Sync>(
        &self,
        prefix: &'static str,
        make: impl FnOnce(Vec<Told>) -> T,
    ) -> Result<Arc<T>, CfsError> {
        match &self.kind {
            Kind::Local(store) => FILES.get(store.dir(), prefix, |_| Ok(make(store.list(prefix)?))),
        }
    }
}
