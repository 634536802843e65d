//! The host: what belongs to a node rather than to its guests.
//!
//! | module | holds |
//! |---|---|
//! | [`certificates`] | keys and certificates that must be there before the web side can serve: [`updatecerts`] |
//! | [`console`] | what every console of the node needs: ports, one client, a relay |
//! | [`terminal`] | terminals: a shell of the node, and what xterm.js speaks |
//! | [`status`] | what the host is doing: CPU, memory, file system, network, kernel |
//!
//! Not here yet: network configuration, time, services and disks.

pub mod certificates;
pub mod console;
pub mod status;
pub mod terminal;

pub use certificates::{NodeError, Report, fingerprint, full_name, subject, updatecerts};

/// A site below a directory, for tests.
#[cfg(test)]
pub(crate) fn test_site(root: &std::path::Path) -> pve_schema::Site {
    pve_schema::Site {
        root: root.to_path_buf(),
        instance: None,
        address: std::net::IpAddr::from([127, 0, 0, 1]),
        node: "n1".parse().expect("a node name"),
        root_user: pve_schema::site::Ids { uid: 0, gid: 0 },
        web_user: pve_schema::site::Ids { uid: 33, gid: 33 },
    }
}
