//! The nodes, quorum, and a node's address (reference 04 §1.2, §1.8, §2.1, §4).

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::fs::MetadataExt;
use std::sync::mpsc;
use std::time::Duration;

use pve_schema::ids::NodeName;
use serde::Deserialize;

use crate::{Cfs, CfsError};

/// Longest wait for the resolver: its own default is two tries of 5 s per name server.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(20);
/// The owner's write bit: the cluster file system takes it from `local` while there is no quorum.
const OWNER_WRITE: u32 = 0o200;

/// Who belongs to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Members {
    /// This node's name.
    pub nodename: String,
    /// Counts changes.
    pub version: u64,
    /// The cluster; `None` on a node that is alone.
    #[serde(default)]
    pub cluster: Option<Cluster>,
    /// The nodes by name; `None` on a node that is alone.
    #[serde(default)]
    pub nodelist: Option<BTreeMap<String, Member>>,
}

/// What the members know of their cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Cluster {
    /// Its name.
    pub name: String,
    /// The version of its configuration.
    pub version: u64,
    /// Number of nodes configured.
    pub nodes: u64,
    /// 1 when a majority of the votes is there.
    pub quorate: u8,
}

/// One node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Member {
    /// Its number.
    pub id: u64,
    /// 1 when its cluster file system can be reached.
    pub online: u8,
    /// Its address, once it has told.
    #[serde(default)]
    pub ip: Option<String>,
}

impl Members {
    /// A node that is alone.
    fn alone(node: &NodeName) -> Self {
        Self {
            nodename: node.to_string(),
            version: 0,
            cluster: None,
            nodelist: None,
        }
    }

    /// Whether the node belongs to a cluster.
    pub fn is_clustered(&self) -> bool {
        self.nodelist.is_some()
    }
}

impl Cfs {
    /// Who belongs to the cluster.
    ///
    /// # Errors
    /// [`CfsError::Read`], [`CfsError::Parse`].
    pub fn members(&self) -> Result<Members, CfsError> {
        if !self.is_mounted() {
            return Ok(Members::alone(&self.site().node));
        }
        match self.read(".members")? {
            None => Ok(Members::alone(&self.site().node)),
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| CfsError::Parse {
                path: ".members".to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    /// The names of all nodes, sorted; of this node alone where it belongs to no cluster.
    ///
    /// # Errors
    /// As [`Cfs::members`].
    pub fn nodes(&self) -> Result<Vec<NodeName>, CfsError> {
        let own = &self.site().node;
        let listed: Vec<NodeName> = self
            .members()?
            .nodelist
            .unwrap_or_default()
            .into_keys()
            .filter_map(|name| name.parse().ok())
            .collect();
        if listed.contains(own) {
            Ok(listed)
        } else {
            Ok(vec![own.clone()])
        }
    }

    /// Whether a node's cluster file system can be reached; always so for this node.
    ///
    /// # Errors
    /// As [`Cfs::members`].
    pub fn is_online(&self, node: &str) -> Result<bool, CfsError> {
        if node == self.site().node.as_str() {
            return Ok(true);
        }
        let nodes = self.members()?.nodelist.unwrap_or_default();
        Ok(nodes.get(node).is_some_and(|member| member.online == 1))
    }

    /// Checks that a node exists.
    ///
    /// # Errors
    /// [`CfsError::NoSuchNode`]; else as [`Cfs::members`].
    pub fn check_node_exists(&self, node: &str) -> Result<(), CfsError> {
        if self.nodes()?.iter().any(|known| known.as_str() == node) {
            Ok(())
        } else {
            Err(CfsError::NoSuchNode(node.to_owned()))
        }
    }

    /// Whether changes are possible. A node that is alone always has a majority.
    pub fn is_quorate(&self) -> bool {
        fs::symlink_metadata(self.site().etc_pve().join("local")).is_ok_and(|meta| meta.mode() & OWNER_WRITE != 0)
    }

    /// Checks that the tree is set up and that changes are possible.
    ///
    /// # Errors
    /// [`CfsError::NotMounted`], [`CfsError::NoQuorum`].
    pub fn check_quorum(&self) -> Result<(), CfsError> {
        let link = fs::symlink_metadata(self.site().etc_pve().join("local"));
        match link {
            Ok(meta) if !meta.is_symlink() => Err(CfsError::NotMounted),
            Err(_) => Err(CfsError::NotMounted),
            Ok(meta) if meta.mode() & OWNER_WRITE == 0 => Err(CfsError::NoQuorum),
            Ok(_) => Ok(()),
        }
    }

    /// A node's address: what it told the cluster, else what its name resolves to. A lab's own node has the lab's
    /// address.
    ///
    /// # Errors
    /// [`CfsError::Lookup`], [`CfsError::NoAddress`]; else as [`Cfs::members`].
    pub fn node_address(&self, node: &str) -> Result<IpAddr, CfsError> {
        let first = self.node_addresses(node)?.into_iter().next();
        first.ok_or_else(|| CfsError::NoAddress(node.to_owned()))
    }

    /// All addresses of a node, at least one: the first is where others find it.
    ///
    /// # Errors
    /// As [`Cfs::node_address`].
    pub fn node_addresses(&self, node: &str) -> Result<Vec<IpAddr>, CfsError> {
        let site = self.site();
        if node == site.node.as_str() && !site.is_system() {
            return Ok(vec![site.address]);
        }
        let told = self
            .members()?
            .nodelist
            .and_then(|nodes| nodes.get(node)?.ip.as_deref()?.parse().ok());
        told.map_or_else(|| resolve(node), |address| Ok(vec![address]))
    }
}

/// The addresses of a host that others can use, in the resolver's order.
fn resolve(host: &str) -> Result<Vec<IpAddr>, CfsError> {
    let (answer, answered) = mpsc::channel();
    let name = host.to_owned();
    // The resolver knows no deadline of ours, so it runs aside; a thread that is late ends by itself.
    std::thread::spawn(move || {
        let found = (name.as_str(), 0)
            .to_socket_addrs()
            .map(|all| all.map(|a| a.ip()).collect::<Vec<_>>());
        let _ = answer.send(found.map_err(|error| lookup_text(&error.to_string())));
    });
    let found = answered
        .recv_timeout(LOOKUP_TIMEOUT)
        .unwrap_or_else(|_| Err("Temporary failure in name resolution".to_owned()));
    match found {
        Ok(all) => match usable(&all) {
            none if none.is_empty() => Err(CfsError::NoAddress(host.to_owned())),
            usable => Ok(usable),
        },
        Err(reason) => Err(CfsError::Lookup {
            host: host.to_owned(),
            reason,
        }),
    }
}

/// The addresses that are of use to other machines. Those that hold on one link only, which every IPv6 host has and some
/// resolvers tell first, come last.
fn usable(all: &[IpAddr]) -> Vec<IpAddr> {
    let is_local = |address: &IpAddr| match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    let addresses = all.iter().copied().filter(|address| !address.is_loopback());
    let (local, mut usable): (Vec<_>, Vec<_>) = addresses.partition(is_local);
    usable.extend(local);
    usable
}

/// The resolver's own words, without what the standard library puts before them.
fn lookup_text(text: &str) -> String {
    text.rsplit_once("information: ")
        .map_or(text, |(_, tail)| tail)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_lists_of_both_kinds_parse() {
        let alone: Members = serde_json::from_str("{\n\"nodename\": \"pve1\",\n\"version\": 0\n}\n").unwrap();
        assert!(!alone.is_clustered());
        let text = r#"{"nodename":"pve1","version":4,"cluster":{"name":"lab","version":2,"nodes":2,"quorate":1},
            "nodelist":{"pve1":{"id":1,"online":1,"ip":"192.0.2.1"},"pve2":{"id":2,"online":0}}}"#;
        let two: Members = serde_json::from_str(text).unwrap();
        let nodes = two.nodelist.unwrap();
        assert_eq!(nodes["pve1"].ip.as_deref(), Some("192.0.2.1"));
        assert_eq!(nodes["pve2"].online, 0);
    }

    #[test]
    fn loopback_is_no_address_of_a_node_and_one_links_own_the_last() {
        let list = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<IpAddr>>();
        for (told, expected) in [
            (&["127.0.1.1", "::1"][..], &[][..]),
            (&["127.0.1.1", "192.0.2.1", "192.0.2.2"], &["192.0.2.1", "192.0.2.2"]),
            (&["::1", "fe80::1", "2001:db8::1"], &["2001:db8::1", "fe80::1"]),
            (&["fe80::1"], &["fe80::1"]),
        ] {
            assert_eq!(usable(&list(told)), list(expected), "{told:?}");
        }
    }

    #[test]
    fn resolver_errors_are_given_in_its_own_words() {
        let text = "failed to lookup address information: Name or service not known";
        assert_eq!(lookup_text(text), "Name or service not known");
    }
}
