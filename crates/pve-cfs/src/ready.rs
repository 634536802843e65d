//! Whether `/etc/pve` is there for this node, and whose guests are left in it that is none any more: what daemons look at
//! when they start, and say.

use std::fmt;

use pve_daemon::Needs;
use pve_schema::ids::NodeName;
use pve_schema::{Context, errno_text};

use crate::error::shown;
use crate::{Cfs, CfsError, GuestKind};

/// What a daemon that serves TLS needs of its node's directory: one of these.
const CERTIFICATES: [&str; 2] = ["pveproxy-ssl.pem", "pve-ssl.pem"];

/// What a daemon that reads `/etc/pve` needs of it.
pub fn needs(context: &Context) -> Needs {
    let cfs = Cfs::new(context);
    needs_with(&cfs, cfs.missing())
}

/// What the one that serves TLS needs.
pub fn needs_of_web(context: &Context) -> Needs {
    let cfs = Cfs::new(context);
    needs_with(&cfs, cfs.missing().or_else(|| cfs.missing_certificate()))
}

fn needs_with(cfs: &Cfs, missing: Option<Missing>) -> Needs {
    // What cannot be read is told as missing.
    let strangers = cfs.strangers().unwrap_or_default();
    let notes: Vec<String> = strangers.iter().map(ToString::to_string).collect();
    Needs {
        missing: missing.map(|missing| missing.to_string()),
        note: (!notes.is_empty()).then(|| notes.join("; ")),
    }
}

/// What is not there. The text names what makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// `/etc/pve` itself.
    Tree(String),
    /// It is there, and may not be looked into.
    Unreadable {
        /// What.
        path: String,
        /// The system's word.
        reason: String,
    },
    /// This node's directory.
    Node {
        /// The directory.
        path: String,
        /// Other nodes, of which one may be this machine by its old name.
        others: Vec<Stranger>,
    },
    /// Something that `updatecerts` makes.
    File(String),
}

/// A node of the tree that does not belong to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Its name.
    pub node: NodeName,
    /// How many guests it has.
    pub guests: usize,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(path) => write!(f, "'{path}', which 'pvecm updatecerts' makes"),
            Self::Unreadable { path, reason } => write!(f, "'{path}', which cannot be read - {reason}"),
            Self::Node { path, others } if others.is_empty() => {
                write!(f, "'{path}', which 'pvecm updatecerts' makes")
            }
            Self::Node { path, others } => {
                let names: Vec<String> = others.iter().map(|other| format!("'{}'", other.node)).collect();
                let names = names.join(", ");
                write!(
                    f,
                    "'{path}' - there is one for {names}: if this machine had that name before, run 'pvecm updatecerts'"
                )
            }
            Self::File(path) => write!(f, "'{path}', which 'pvecm updatecerts' makes"),
        }
    }
}

impl fmt::Display for Stranger {
    /// What is to be known of it, and how its guests come here: nobody moves them silently.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, guests } = self;
        write!(
            f,
            "{guests} guest(s) belong to a node '{node}' that there is not - if this machine had that name before, \
             they are its own again after 'mv /etc/pve/nodes/{node}/qemu-server/*.conf /etc/pve/qemu-server/' \
             (and the same with lxc)"
        )
    }
}

impl Cfs {
    /// What a daemon that reads `/etc/pve` has to wait for; `None` when all is there.
    pub fn missing(&self) -> Option<Missing> {
        let root = self.site().etc_pve();
        let own = root.join("nodes").join(self.site().node.as_str());
        match self.list("nodes") {
            // A directory that is not there lists as empty.
            Ok(nodes) if nodes.is_empty() && !root.join("nodes").exists() => Some(Missing::Tree(shown(&root))),
            Ok(nodes) if nodes.iter().any(|node| node == self.site().node.as_str()) => match std::fs::read_dir(&own) {
                Ok(_) => None,
                Err(error) => Some(Missing::Unreadable {
                    path: shown(&own),
                    reason: errno_text(&error),
                }),
            },
            Ok(_) => Some(Missing::Node {
                path: shown(&own),
                others: self.strangers().unwrap_or_default(),
            }),
            Err(CfsError::Open { path, reason }) => Some(Missing::Unreadable { path, reason }),
            Err(error) => Some(Missing::Unreadable {
                path: shown(&root),
                reason: error.to_string(),
            }),
        }
    }

    /// What a daemon of the web side has to wait for beyond that: a certificate.
    pub fn missing_certificate(&self) -> Option<Missing> {
        let paths = CERTIFICATES.map(|name| format!("nodes/{}/{name}", self.site().node));
        for path in &paths {
            match self.exists(path) {
                Ok(true) => return None,
                Ok(false) => {}
                Err(error) => {
                    return Some(Missing::Unreadable {
                        path: shown(&self.site().etc_pve().join(path)),
                        reason: error.to_string(),
                    });
                }
            }
        }
        let [_, own] = paths;
        Some(Missing::File(shown(&self.site().etc_pve().join(own))))
    }

    /// Nodes of the tree that do not belong to the cluster and yet have guests or a certificate: this machine by the
    /// name it had before, or one that was removed.
    ///
    /// # Errors
    /// As [`Cfs::list`].
    pub fn strangers(&self) -> Result<Vec<Stranger>, CfsError> {
        let members = self.nodes()?;
        let mut strangers = Vec::new();
        for name in self.list("nodes")? {
            let Ok(node) = name.parse::<NodeName>() else { continue };
            if members.contains(&node) {
                continue;
            }
            let mut guests = 0;
            for kind in GuestKind::ALL {
                let names = self.list(&format!("nodes/{node}/{}", kind.folder()))?;
                guests += names.iter().filter(|name| name.ends_with(".conf")).count();
            }
            if guests > 0 || self.exists(&format!("nodes/{node}/pve-ssl.pem"))? {
                strangers.push(Stranger { node, guests });
            }
        }
        Ok(strangers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_what_makes_it() {
        let root = tempfile::tempdir().unwrap();
        let cfs = Cfs::new(&pve_testing::context(root.path(), "new"));
        let etc_pve = root.path().join("etc/pve");
        let said = |missing: Option<Missing>| {
            let text = missing.map(|missing| missing.to_string()).unwrap_or_default();
            text.replace(&shown(&etc_pve), "/etc/pve")
        };
        assert_eq!(said(cfs.missing()), "'/etc/pve', which 'pvecm updatecerts' makes");

        let old = Cfs::new(&pve_testing::context(root.path(), "old"));
        old.ensure_tree().unwrap();
        assert_eq!(
            said(cfs.missing()),
            "'/etc/pve/nodes/new', which 'pvecm updatecerts' makes"
        );
        assert_eq!(cfs.strangers().unwrap(), [], "an empty directory says nothing");

        old.write("nodes/old/pve-ssl.pem", b"x").unwrap();
        old.write("nodes/old/qemu-server/100.conf", b"").unwrap();
        assert_eq!(
            said(cfs.missing()),
            "'/etc/pve/nodes/new' - there is one for 'old': if this machine had that name before, run 'pvecm updatecerts'"
        );
        cfs.ensure_tree().unwrap();
        assert_eq!(cfs.missing(), None);
        let strangers = cfs.strangers().unwrap();
        assert_eq!((strangers[0].node.as_str(), strangers[0].guests), ("old", 1));
        assert!(
            strangers[0]
                .to_string()
                .contains("mv /etc/pve/nodes/old/qemu-server/*.conf")
        );

        let certificate = "'/etc/pve/nodes/new/pve-ssl.pem', which 'pvecm updatecerts' makes";
        assert_eq!(said(cfs.missing_certificate()), certificate);
        cfs.write("nodes/new/pveproxy-ssl.pem", b"x").unwrap();
        assert_eq!(cfs.missing_certificate(), None);
    }
}
