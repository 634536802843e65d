//! What of a change can reach a guest that runs (reference 06a §5).
//!
//! [`plan`] only decides; whoever owns the monitor carries the steps out and commits each key that worked. A key without
//! a step stays pending, without an error.

use std::collections::BTreeSet;

use pve_guest::GuestConfig;

use crate::config::keys::{self, Live};
use crate::config::{Agent, Bus, Drive, DriveKey, Feature, Net, VmConfig};

/// One thing to do to a running guest, and the key that is committed when it is done.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Nothing: the guest does not know of the key.
    Commit(String),
    /// Another medium, or none, in a CD-ROM drive.
    Medium {
        /// What is in it.
        old: Drive,
        /// What comes in.
        new: Drive,
    },
    /// Other limits on a drive.
    Limits(Drive),
    /// The cable of a network card: in or out.
    Link {
        /// The card's number.
        number: u8,
        /// Whether the cable is in.
        up: bool,
        /// The card.
        net: Net,
    },
    /// Another bridge, VLAN, firewall or rate for a card, without the guest seeing another card.
    Replug {
        /// The card's number.
        number: u8,
        /// The card as it is.
        old: Net,
        /// The card as it will be.
        new: Net,
    },
    /// A card comes, or goes, or is another one.
    Card {
        /// The card's number.
        number: u8,
        /// The card as it is.
        old: Option<Net>,
        /// The card as it will be.
        new: Option<Net>,
    },
    /// A disk comes, or goes, or is another one.
    Disk {
        /// The disk as it is.
        old: Option<Drive>,
        /// The disk as it will be.
        new: Option<Drive>,
    },
    /// The memory that the balloon aims for, in MiB.
    Balloon(u64),
    /// The number of virtual CPUs.
    Cpus(u64),
    /// The memory in MiB.
    Memory(u64),
    /// The tablet comes or goes.
    Tablet(bool),
    /// A USB device comes, goes, or is another one.
    Usb(String),
    /// `cpuunits` or `cpulimit` of the control group; none for the default.
    Cgroup {
        /// The key.
        key: String,
        /// The value.
        value: Option<String>,
    },
}

/// A step that cannot be taken, with the reason that the caller gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The key.
    pub key: String,
    /// The reason.
    pub text: String,
}

/// What to do to a running guest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// In this order.
    pub steps: Vec<(String, Step)>,
    /// What cannot be done, and should have been possible.
    pub refused: Vec<Refusal>,
}

/// The options of a disk that can be changed while it is in use: all limits and what only the node knows.
const CHANGEABLE: [&str; 22] = [
    "backup",
    "bps_max_length",
    "bps_rd_max_length",
    "bps_wr_max_length",
    "iops",
    "iops_max",
    "iops_max_length",
    "iops_rd",
    "iops_rd_max",
    "iops_rd_max_length",
    "iops_wr",
    "iops_wr_max",
    "iops_wr_max_length",
    "mbps",
    "mbps_max",
    "mbps_rd",
    "mbps_rd_max",
    "mbps_wr",
    "mbps_wr_max",
    "replicate",
    "shared",
    "size",
];

/// Decides what of the pending changes among the touched keys can be done while the guest runs.
pub fn plan<'a>(config: &GuestConfig, touched: impl IntoIterator<Item = &'a str>) -> Plan {
    let touched: BTreeSet<&str> = touched.into_iter().collect();
    let features = VmConfig::new(&config.main).hotplug();
    let mut plan = Plan::default();
    let pending: BTreeSet<&str> = config
        .pending
        .names()
        .chain(config.pending_deletes.iter().map(|(key, _)| key))
        .collect();
    for key in pending.into_iter().filter(|key| touched.contains(key)) {
        let key_plan = Key {
            config,
            key,
            features: &features,
        }
        .plan();
        match key_plan {
            Ok(Some(step)) => plan.steps.push((key.to_owned(), step)),
            Ok(None) => {}
            Err(text) => plan.refused.push(Refusal {
                key: key.to_owned(),
                text,
            }),
        }
    }
    plan
}

struct Key<'a> {
    config: &'a GuestConfig,
    key: &'a str,
    features: &'a BTreeSet<Feature>,
}

impl Key<'_> {
    fn current(&self) -> Option<&str> {
        self.config.main.get(self.key)
    }

    fn pending(&self) -> Option<&str> {
        self.config.pending.get(self.key)
    }

    fn with(&self, feature: Feature, step: Step) -> Option<Step> {
        self.features.contains(&feature).then_some(step)
    }

    fn plan(&self) -> Result<Option<Step>, String> {
        let Some(info) = keys::info(self.key) else {
            return Ok(None);
        };
        let commit = || Step::Commit(self.key.to_owned());
        let target = VmConfig::new;
        let effective = self.config.effective();
        Ok(match (info.live, info.name) {
            (Live::Fast, _) => Some(commit()),
            (Live::Stop, _) => None,
            (Live::Cgroup, _) => Some(Step::Cgroup {
                key: self.key.to_owned(),
                value: self.pending().map(str::to_owned),
            }),
            (_, "hotplug") => self.changes_feature_words().then(commit),
            (_, "agent") => self.changes_trim_only().then(commit),
            (_, "balloon") => self.balloon(),
            (_, "vcpus") => self.with(Feature::Cpu, Step::Cpus(target(&effective).cpus())),
            (_, "memory") => self.with(Feature::Memory, Step::Memory(target(&effective).memory())),
            (_, "tablet") => self.with(Feature::Usb, Step::Tablet(target(&effective).flag("tablet", true))),
            (_, "usb") => self.with(Feature::Usb, Step::Usb(self.key.to_owned())),
            (_, "net") => self.card(),
            _ => match self.key.parse::<DriveKey>() {
                Ok(key) if key.is_bootable() => return self.drive(key),
                _ => None,
            },
        })
    }

    /// `cpu` and `memory` decide how the guest starts, so they are not switched while it runs.
    fn changes_feature_words(&self) -> bool {
        let structural = |text: &str| text.contains("cpu") || text.contains("memory");
        ![self.current(), self.pending()].into_iter().flatten().any(structural)
    }

    fn changes_trim_only(&self) -> bool {
        let parse = |text: Option<&str>| text.and_then(|text| Agent::parse(text).ok().flatten());
        match (parse(self.current()), parse(self.pending())) {
            (Some(old), Some(new)) => {
                Agent {
                    fstrim_cloned_disks: new.fstrim_cloned_disks,
                    ..old
                } == new
            }
            _ => false,
        }
    }

    /// The device itself never comes or goes; the target follows only where nobody else sets it.
    fn balloon(&self) -> Option<Step> {
        let off = |text: Option<&str>| text == Some("0");
        if off(self.current()) != off(self.pending()) {
            return None;
        }
        if self.config.effective_value("shares") != Some("0") {
            return Some(Step::Commit(self.key.to_owned()));
        }
        let effective = self.config.effective();
        let vm = VmConfig::new(&effective);
        Some(Step::Balloon(vm.balloon().unwrap_or_else(|| vm.memory())))
    }

    fn card(&self) -> Option<Step> {
        let number = self.key.strip_prefix("net")?.parse().ok()?;
        let parse = |text: Option<&str>| text.and_then(|text| Net::parse(text).ok());
        let (old, new) = (parse(self.current()), parse(self.pending()));
        if let (Some(old), Some(new)) = (&old, &new) {
            let same = |name: &str| old.options.get(name) == new.options.get(name);
            let same_card = old.model == new.model && old.mac == new.mac && same("queues") && same("mtu");
            let bridged = old.bridge().is_some() && new.bridge().is_some();
            let only_link = same_card
                && ["bridge", "firewall", "rate", "tag", "trunks", "host-tunnel"]
                    .iter()
                    .all(|name| same(name));
            if only_link {
                return Some(Step::Link {
                    number,
                    up: !new.is_link_down(),
                    net: new.clone(),
                });
            }
            if same_card && bridged {
                return Some(Step::Replug {
                    number,
                    old: old.clone(),
                    new: new.clone(),
                });
            }
        }
        self.with(Feature::Network, Step::Card { number, old, new })
    }

    fn drive(&self, key: DriveKey) -> Result<Option<Step>, String> {
        let parse = |text: Option<&str>| text.and_then(|text| Drive::parse(key, text).ok());
        let (old, new) = (parse(self.current()), parse(self.pending()));
        if let (Some(old), Some(new)) = (&old, &new) {
            if old.is_cdrom() != new.is_cdrom() {
                return Err("unable to change media type".to_owned());
            }
            if old.is_cdrom() {
                return Ok(Some(Step::Medium {
                    old: old.clone(),
                    new: new.clone(),
                }));
            }
            if old.file == new.file {
                return Ok(only_changeable(old, new).then(|| Step::Limits(new.clone())));
            }
        }
        if !matches!(key.bus, Bus::Scsi | Bus::Virtio) {
            return Ok(None);
        }
        if !self.features.contains(&Feature::Disk) {
            return Ok(None);
        }
        if new.is_none() && VmConfig::new(&self.config.main).get("bootdisk") == Some(self.key) {
            return Err(format!("can't unplug bootdisk '{}'", self.key));
        }
        Ok(Some(Step::Disk { old, new }))
    }
}

fn only_changeable(old: &Drive, new: &Drive) -> bool {
    let names: BTreeSet<&str> = old
        .options
        .iter()
        .chain(new.options.iter())
        .map(|(name, _)| name)
        .collect();
    names
        .into_iter()
        .filter(|name| old.options.get(name) != new.options.get(name))
        .all(|name| CHANGEABLE.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::VmRules;

    /// The plan for a main and a pending section, each step as a word.
    fn steps(main: &str, pending: &str) -> String {
        let text = format!("{main}\n[PENDING]\n{pending}");
        let config = GuestConfig::parse(&VmRules, 105.try_into().unwrap(), text.as_bytes()).config;
        let keys: Vec<String> = config.pending.names().map(str::to_owned).collect();
        let deletes = config.pending_deletes.iter().map(|(key, _)| key.to_owned());
        let keys: Vec<String> = keys.into_iter().chain(deletes).collect();
        let plan = plan(&config, keys.iter().map(String::as_str));
        let word = |step: &Step| {
            format!("{step:?}")
                .split([' ', '(', '{'])
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        let steps = plan.steps.iter().map(|(key, step)| format!("{key}:{}", word(step)));
        let refused = plan
            .refused
            .iter()
            .map(|refusal| format!("{}!{}", refusal.key, refusal.text));
        steps.chain(refused).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_key_reaches_the_guest_in_its_own_way() {
        let card = "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0";
        let cases = [
            ("", "name: x\n", "name:Commit"),
            ("", "cores: 2\n", ""),
            ("", "cpuunits: 200\n", "cpuunits:Cgroup"),
            ("", "vcpus: 2\n", ""),
            ("hotplug: cpu\n", "vcpus: 2\n", "vcpus:Cpus"),
            ("hotplug: disk\n", "hotplug: usb\n", "hotplug:Commit"),
            ("hotplug: disk\n", "hotplug: cpu\n", ""),
            ("agent: 1\n", "agent: 1,fstrim_cloned_disks=1\n", "agent:Commit"),
            ("agent: 1\n", "agent: 0\n", ""),
            ("balloon: 0\n", "balloon: 512\n", ""),
            ("balloon: 256\n", "balloon: 512\n", "balloon:Commit"),
            ("balloon: 256\nshares: 0\n", "balloon: 512\n", "balloon:Balloon"),
            (
                "ide2: none,media=cdrom\n",
                "ide2: local:iso/a.iso,media=cdrom\n",
                "ide2:Medium",
            ),
            (
                "ide2: none,media=cdrom\n",
                "ide2: l-x:d\n",
                "ide2!unable to change media type",
            ),
            ("ide2: none,media=cdrom\n", "delete: ide2\n", ""),
            ("", "scsi0: l-x:d\n", "scsi0:Disk"),
            ("hotplug: 0\n", "scsi0: l-x:d\n", ""),
            ("", "sata0: l-x:d\n", ""),
            ("scsi0: l-x:d\n", "scsi0: l-x:d,mbps=5\n", "scsi0:Limits"),
            ("scsi0: l-x:d\n", "scsi0: l-x:d,cache=none\n", ""),
            (
                "scsi0: l-x:d\nbootdisk: scsi0\n",
                "delete: scsi0\n",
                "scsi0!can't unplug bootdisk 'scsi0'",
            ),
            (&format!("{card}\n"), &format!("{card},link_down=1\n"), "net0:Link"),
            (&format!("{card}\n"), &format!("{card},tag=5\n"), "net0:Replug"),
            (
                &format!("{card}\n"),
                "net0: e1000=BC:24:11:00:00:01,bridge=vmbr0\n",
                "net0:Card",
            ),
            (&format!("{card}\nhotplug: 0\n"), "delete: net0\n", ""),
            ("efidisk0: l-x:e\n", "delete: efidisk0\n", ""),
        ];
        for (main, pending, expected) in cases {
            assert_eq!(steps(main, pending), expected, "{main}{pending}");
        }
    }

    #[test]
    fn only_touched_keys_are_looked_at() {
        let config = GuestConfig::parse(&VmRules, 105.try_into().unwrap(), b"[PENDING]\nname: x\nonboot: 1\n").config;
        assert_eq!(plan(&config, ["onboot"]).steps.len(), 1);
    }
}
