//! Waking another node by a magic packet (reference 09 §8).

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};

use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use pve_cfs::{Cfs, CfsError};
use pve_schema::ids::NodeName;
use pve_schema::{Failure, errno_text};

use crate::config::NodeConfig;

/// Where sleeping network cards are spoken to: the port does not matter to them, and this one discards what it gets.
const PORT: u16 = 9;
/// Bytes of a hardware address.
const MAC: usize = 6;
/// How often the address stands in the packet.
const REPEATS: usize = 16;
/// Bytes of the packet: six of 0xff, then the address.
const PACKET: usize = MAC + REPEATS * MAC;

/// Why a node could not be woken.
#[derive(Debug, thiserror::Error)]
pub enum WakeError {
    /// It is this one.
    #[error("'{0}' is local node, cannot wake my self!")]
    MySelf(NodeName),
    /// Nobody said which hardware address it has.
    #[error("No wake on LAN MAC address defined for '{0}'!")]
    NoAddress(NodeName),
    /// The node, or its options.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// The packet did not leave.
    #[error("failed to send wake on LAN packet to '{node}' - {reason}")]
    Send {
        /// Who was to be woken.
        node: NodeName,
        /// The system's word.
        reason: String,
    },
}

impl Failure for WakeError {}

/// Wakes another node of the cluster; its hardware address.
///
/// # Errors
/// [`WakeError`].
pub fn wake(cfs: &Cfs, node: &NodeName) -> Result<String, WakeError> {
    let own = &cfs.site().node;
    if node == own {
        return Err(WakeError::MySelf(own.clone()));
    }
    cfs.check_node_exists(node.as_str())?;
    wake_other(cfs, node)
}

/// Wakes a node that is known and another one.
fn wake_other(cfs: &Cfs, node: &NodeName) -> Result<String, WakeError> {
    let target = NodeConfig::read(cfs, node)?.properties("wakeonlan");
    let packet = target.get("mac").and_then(|mac| Some((mac, packet(mac)?)));
    let (mac, packet) = packet.ok_or_else(|| WakeError::NoAddress(node.clone()))?;
    // The way out is this node's affair, not that of the node that sleeps.
    let local = NodeConfig::read(cfs, &cfs.site().node)?.properties("wakeonlan");
    let broadcast = local.get("broadcast-address").and_then(|text| text.parse().ok());
    let to = SocketAddrV4::new(broadcast.unwrap_or(Ipv4Addr::BROADCAST), PORT);
    send(&packet, to, local.get("bind-interface")).map_err(|error| WakeError::Send {
        node: node.clone(),
        reason: errno_text(&error),
    })?;
    Ok(mac.to_owned())
}

/// The packet that wakes a hardware address; `None` if the text is none.
fn packet(mac: &str) -> Option<[u8; PACKET]> {
    let bytes = hex::decode(mac.replace(':', "")).ok()?;
    let address: [u8; MAC] = bytes.try_into().ok()?;
    let mut packet = [0xff; PACKET];
    let (_, body) = packet.split_at_mut(MAC);
    body.chunks_exact_mut(MAC)
        .for_each(|part| part.copy_from_slice(&address));
    Some(packet)
}

fn send(packet: &[u8], to: SocketAddrV4, interface: Option<&str>) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_broadcast(true)?;
    if let Some(interface) = interface {
        setsockopt(&socket, BindToDevice, &interface.to_owned().into())?;
    }
    socket.send_to(packet, to).map(drop)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

    use super::*;

    /// Reference 09, vector 68.
    #[test]
    fn the_packet_is_the_one_that_cards_know() {
        let packet = packet("02:00:00:5e:aa:bb").unwrap();
        assert_eq!(packet.len(), 102);
        let sum = hex::encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &packet));
        assert_eq!(sum, "879fa3ee86457fe011af8af088f7a9e6b805e2e1");
        for bad in ["", "02:00:00:AA:BB", "xx:00:00:00:00:00"] {
            assert!(super::packet(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_packet_is_broadcast() {
        let listener = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let packet = packet("02:00:00:5e:aa:bb").unwrap();
        let to = SocketAddrV4::new(Ipv4Addr::new(127, 255, 255, 255), port);
        send(&packet, to, Some("lo")).unwrap();
        let mut got = [0; 200];
        let size = listener.recv(&mut got).unwrap();
        assert_eq!(got[..size], packet);
        let error = send(&packet, to, Some("nonesuch0")).unwrap_err();
        assert_eq!(errno_text(&error), "No such device");
    }

    #[test]
    fn a_node_is_woken_by_its_own_address_and_from_here() {
        let root = tempfile::tempdir().unwrap();
        let cfs = Cfs::new(&pve_testing::context(root.path(), "n1"));
        cfs.ensure_tree().unwrap();
        let config = |node: &str, text: &str| {
            let directory = cfs.site().etc_pve().join("nodes").join(node);
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join("config"), text).unwrap();
        };
        let wake = || wake_other(&cfs, &"n2".parse().unwrap()).map_err(|error| error.to_string());
        config("n2", "");
        assert_eq!(wake(), Err("No wake on LAN MAC address defined for 'n2'!".to_owned()));
        // What the sleeping node says of the way is its own.
        config("n2", "wakeonlan: mac=02:00:00:5e:aa:02,bind-interface=nonesuch0\n");
        config(
            "n1",
            "wakeonlan: mac=02:00:00:5e:aa:01,bind-interface=lo,broadcast-address=127.255.255.255\n",
        );
        assert_eq!(wake(), Ok("02:00:00:5e:aa:02".to_owned()));
        config("n1", "wakeonlan: mac=02:00:00:5e:aa:01,bind-interface=nonesuch1\n");
        let refused = wake().unwrap_err();
        assert_eq!(refused, "failed to send wake on LAN packet to 'n2' - No such device");
    }
}
