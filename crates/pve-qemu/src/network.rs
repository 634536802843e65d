//! Taps: the host's ends of a VM's network cards (reference 06a §7.7).
//!
//! A tap is made before QEMU starts and removed after it ended. A bridge is only ever joined: it belongs to the host's
//! network configuration, so it is never made or removed for a guest. Commands are values ([`plug_commands`]); only
//! [`plug`] and [`unplug`] execute.
//!
//! Not here yet: rate limits, the firewall's extra bridge, Open vSwitch; [`plug`] says so in its notes.

use std::fs;
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use pve_daemon::command::{Command, CommandError};
use pve_schema::ids::VmId;
use pve_schema::{Failure, Site};

use crate::config::Net;

/// How long the kernel may take for a change of a network device.
const LIMIT: Duration = Duration::from_secs(10);
/// Ethernet's MTU, for a bridge that does not tell its own.
const DEFAULT_MTU: u32 = 1500;

/// The kernel's name of a card's tap; an instance mark stands in front of it.
pub(crate) fn tap_name(site: &Site, vmid: VmId, number: u8) -> String {
    format!("{}{number}", tap_prefix(site, vmid))
}

/// What the names of a VM's network devices on the host begin with; a number follows.
pub(crate) fn tap_prefix(site: &Site, vmid: VmId) -> String {
    let mark = site.instance.as_ref().map_or("", |instance| instance.as_str());
    format!("{mark}tap{vmid}i")
}

/// Why a card cannot be plugged in.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// There is no such bridge.
    #[error("bridge '{0}' does not exist")]
    NoBridge(String),
    /// A VLAN needs a bridge that knows of VLANs: making one per VLAN would make bridges for guests.
    #[error("bridge '{0}' is not VLAN aware, unable to use VLAN tags")]
    NotVlanAware(String),
    /// A command failed.
    #[error("unable to plug '{tap}' into bridge '{bridge}' - {detail}")]
    Plug {
        /// The tap.
        tap: String,
        /// The bridge.
        bridge: String,
        /// What the command said.
        detail: String,
    },
}

impl Failure for NetworkError {}

/// What is known of a bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bridge {
    /// Its name.
    pub name: String,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it tells VLANs apart.
    pub vlan_aware: bool,
}

impl Bridge {
    /// Looks at a bridge of the host.
    ///
    /// # Errors
    /// [`NetworkError::NoBridge`].
    pub(crate) fn find(name: &str) -> Result<Self, NetworkError> {
        if if_nametoindex(name).is_err() {
            return Err(NetworkError::NoBridge(name.to_owned()));
        }
        let attribute = |file: &str| fs::read_to_string(format!("/sys/class/net/{name}/{file}")).ok();
        let mtu = attribute("mtu").and_then(|text| text.trim().parse().ok());
        Ok(Self {
            name: name.to_owned(),
            mtu: mtu.unwrap_or(DEFAULT_MTU),
            vlan_aware: attribute("bridge/vlan_filtering").is_some_and(|text| text.trim() == "1"),
        })
    }
}

/// The commands that make a tap and plug it in.
///
/// # Errors
/// [`NetworkError::NotVlanAware`].
pub(crate) fn plug_commands(tap: &str, net: &Net, bridge: &Bridge) -> Result<Vec<Command>, NetworkError> {
    let tag = net.options.get("tag");
    let trunks = net.options.get("trunks");
    if !bridge.vlan_aware && (tag.is_some() || trunks.is_some()) {
        return Err(NetworkError::NotVlanAware(bridge.name.clone()));
    }
    let mut create = vec!["tuntap", "add", "dev", tap, "mode", "tap"];
    if net.queues() > 1 {
        create.push("multi_queue");
    }
    let mtu = bridge.mtu.to_string();
    let mut commands = vec![
        ip(&create),
        ip(&["link", "set", "dev", tap, "mtu", &mtu, "promisc", "on", "up"]),
        ip(&["link", "set", "dev", tap, "master", &bridge.name]),
    ];
    if bridge.vlan_aware {
        commands.push(vlan(&["del", "dev", tap, "vid", "1-4094"]));
        match tag {
            Some(tag) => commands.push(vlan(&["add", "dev", tap, "vid", tag, "pvid", "untagged"])),
            None => commands.push(vlan(&["add", "dev", tap, "vid", "1", "pvid", "untagged"])),
        }
        let all = if tag.is_none() { "2-4094" } else { "" };
        for range in trunks.unwrap_or(all).split(';').filter(|range| !range.is_empty()) {
            commands.push(vlan(&["add", "dev", tap, "vid", range]));
        }
    }
    Ok(commands)
}

/// Makes a tap and plugs it into its bridge; a tap of that name left over from before is replaced. The notes say what of
/// the card's options is not carried out.
///
/// # Errors
/// [`NetworkError`]; nothing is left behind then.
pub(crate) fn plug(tap: &str, net: &Net, bridge_name: &str) -> Result<Vec<String>, NetworkError> {
    let bridge = Bridge::find(bridge_name)?;
    let commands = plug_commands(tap, net, &bridge)?;
    unplug(tap);
    for (number, command) in commands.iter().enumerate() {
        if let Err(error) = command.run() {
            unplug(tap);
            return Err(failed(tap, bridge_name, &error));
        }
        if number == 0 {
            silence_ipv6(tap);
        }
    }
    Ok(notes(tap, net))
}

/// Moves a tap that is in use to another bridge or VLAN. The notes are as with [`plug`].
///
/// # Errors
/// [`NetworkError`].
pub(crate) fn replug(tap: &str, net: &Net, bridge_name: &str) -> Result<Vec<String>, NetworkError> {
    let bridge = Bridge::find(bridge_name)?;
    // The first command makes the tap: it is there.
    for command in plug_commands(tap, net, &bridge)?.iter().skip(1) {
        command.run().map_err(|error| failed(tap, bridge_name, &error))?;
    }
    Ok(notes(tap, net))
}

/// Removes a tap, if it exists.
pub(crate) fn unplug(tap: &str) {
    if if_nametoindex(tap).is_err() {
        return;
    }
    if let Err(error) = ip(&["link", "del", "dev", tap]).run() {
        log::warn!("unable to remove '{tap}' - {}", error.detail());
    }
}

/// The host must not answer on the guest's side of the bridge.
fn silence_ipv6(tap: &str) {
    let path = format!("/proc/sys/net/ipv6/conf/{tap}/disable_ipv6");
    if let Err(error) = fs::write(&path, "1") {
        log::debug!("unable to write '{path}' - {error}");
    }
}

fn notes(tap: &str, net: &Net) -> Vec<String> {
    let mut notes = Vec::new();
    if net.rate().is_some() {
        notes.push(format!("{tap}: the rate limit is not applied"));
    }
    if net.is_firewalled() {
        notes.push(format!("{tap}: the firewall does not filter this interface"));
    }
    notes
}

fn failed(tap: &str, bridge: &str, error: &CommandError) -> NetworkError {
    NetworkError::Plug {
        tap: tap.to_owned(),
        bridge: bridge.to_owned(),
        detail: error.detail(),
    }
}

fn ip(arguments: &[&str]) -> Command {
    Command::new("/sbin/ip", LIMIT).args(arguments.iter().copied())
}

fn vlan(arguments: &[&str]) -> Command {
    Command::new("/sbin/bridge", LIMIT)
        .arg("vlan")
        .args(arguments.iter().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(net: &str, vlan_aware: bool) -> Result<Vec<String>, String> {
        let bridge = Bridge {
            name: "vmbr0".to_owned(),
            mtu: 9000,
            vlan_aware,
        };
        let commands = plug_commands("tap105i0", &Net::parse(net).unwrap(), &bridge).map_err(|e| e.to_string())?;
        let words = |command: &Command| {
            let arguments = command
                .arguments()
                .iter()
                .map(|word| word.to_string_lossy().into_owned());
            let program = command.program().file_name().unwrap().to_string_lossy().into_owned();
            std::iter::once(program).chain(arguments).collect::<Vec<_>>().join(" ")
        };
        Ok(commands.iter().map(words).collect())
    }

    #[test]
    fn taps_are_made_before_they_are_plugged_in() {
        let expected = [
            "ip tuntap add dev tap105i0 mode tap",
            "ip link set dev tap105i0 mtu 9000 promisc on up",
            "ip link set dev tap105i0 master vmbr0",
        ];
        assert_eq!(lines("virtio,bridge=vmbr0", false).unwrap(), expected);
        let queues = lines("virtio,bridge=vmbr0,queues=4", false).unwrap();
        assert_eq!(queues[0], "ip tuntap add dev tap105i0 mode tap multi_queue");
    }

    #[test]
    fn vlans_need_a_bridge_that_knows_them() {
        let tagged = lines("virtio,bridge=vmbr0,tag=5,trunks=7;9-11", true).unwrap();
        let expected = [
            "bridge vlan del dev tap105i0 vid 1-4094",
            "bridge vlan add dev tap105i0 vid 5 pvid untagged",
            "bridge vlan add dev tap105i0 vid 7",
            "bridge vlan add dev tap105i0 vid 9-11",
        ];
        assert_eq!(tagged[3..], expected);
        let open = lines("virtio,bridge=vmbr0", true).unwrap();
        assert_eq!(open.last().unwrap(), "bridge vlan add dev tap105i0 vid 2-4094");
        let error = lines("virtio,bridge=vmbr0,tag=5", false).unwrap_err();
        assert_eq!(error, "bridge 'vmbr0' is not VLAN aware, unable to use VLAN tags");
    }

    #[test]
    fn a_missing_bridge_is_named() {
        let net = Net::parse("virtio,bridge=nobr9").unwrap();
        let error = plug("tap105i0", &net, "nobr9").unwrap_err();
        assert_eq!(error.to_string(), "bridge 'nobr9' does not exist");
    }
}
