//! The way to another node as root, by ssh with the keys that a cluster's nodes share (reference 09 §19.1).

use std::net::IpAddr;
use std::path::PathBuf;

use pve_schema::ids::NodeName;

use crate::{Cfs, CfsError};

/// How long another node may take to answer, in seconds: it is beside this one, or it is not there.
const CONNECT: &str = "ConnectTimeout=10";
/// A connection on which a node has not moved for three times this, in seconds, is given up.
const ALIVE: &str = "ServerAliveInterval=15";

/// Another node, as it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: NodeName,
    /// Its address.
    pub address: IpAddr,
    /// The file of its host keys, if it has one of its own.
    pub known_hosts: Option<PathBuf>,
}

impl Cfs {
    /// How a node is reached.
    ///
    /// # Errors
    /// As [`Cfs::node_address`].
    pub fn peer(&self, node: &NodeName) -> Result<Peer, CfsError> {
        let keys = format!("nodes/{node}/ssh_known_hosts");
        let has_keys = self.read(&keys)?.is_some();
        Ok(Peer {
            address: self.node_address(node.as_str())?,
            known_hosts: has_keys.then(|| self.site().etc_pve().join(keys)),
            node: node.clone(),
        })
    }
}

impl Peer {
    /// The words before a command that gets a terminal there; without a command it is a shell.
    pub fn with_terminal(&self) -> Vec<String> {
        self.words(&["-t"])
    }

    /// The words before a command whose input and output are ours. `variables` of our environment go along.
    pub fn with_pipes(&self, variables: &[&str]) -> Vec<String> {
        let mut options = vec!["-T".to_owned(), "-o".to_owned(), CONNECT.to_owned()];
        options.extend(["-o", ALIVE].map(str::to_owned));
        for variable in variables {
            options.extend(["-o".to_owned(), format!("SendEnv={variable}")]);
        }
        self.words(&options)
    }

    fn words<S: AsRef<str>>(&self, options: &[S]) -> Vec<String> {
        let mut words = ["/usr/bin/ssh", "-e", "none", "-o", "BatchMode=yes", "-o"]
            .map(str::to_owned)
            .to_vec();
        words.push(format!("HostKeyAlias={}", self.node));
        if let Some(file) = &self.known_hosts {
            words.extend(["-o".to_owned(), format!("UserKnownHostsFile={}", file.display())]);
            words.extend(["-o", "GlobalKnownHostsFile=none"].map(str::to_owned));
        }
        words.extend(options.iter().map(|option| option.as_ref().to_owned()));
        words.extend([format!("root@{}", self.address), "--".to_owned()]);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_known_by_its_name_and_its_own_keys() {
        let mut peer = Peer {
            node: "n2".parse().unwrap(),
            address: [192, 0, 2, 2].into(),
            known_hosts: None,
        };
        let start = "/usr/bin/ssh -e none -o BatchMode=yes -o HostKeyAlias=n2";
        assert_eq!(peer.with_terminal().join(" "), format!("{start} -t root@192.0.2.2 --"));
        peer.known_hosts = Some("/etc/pve/nodes/n2/ssh_known_hosts".into());
        assert_eq!(
            peer.with_pipes(&["LC_PVE_TICKET"]).join(" "),
            format!(
                "{start} -o UserKnownHostsFile=/etc/pve/nodes/n2/ssh_known_hosts -o GlobalKnownHostsFile=none \
                 -T -o ConnectTimeout=10 -o ServerAliveInterval=15 -o SendEnv=LC_PVE_TICKET root@192.0.2.2 --"
            )
        );
    }
}
