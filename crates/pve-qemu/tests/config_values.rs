//! Values of keys: canonical texts survive as they are, and no text makes a parser stumble.

#![allow(clippy::unwrap_used)]

use std::str::FromStr;

use proptest::prelude::*;
use pve_guest::{GuestConfig, KeyRules};
use pve_qemu::config::{Agent, Boot, Drive, DriveKey, Machine, MachineType, Net, Version, VmConfig, VmRules};

fn vmid() -> pve_schema::ids::VmId {
    105.try_into().unwrap()
}

/// Reference 06a, vectors 12, 16, 17, 18, 20: what is refused when a file is read.
#[test]
fn bad_values_are_warned_about() {
    let cases = [
        ("cores", "x", "type check ('integer') failed - got 'x'"),
        ("onboot", "maybe", "type check ('boolean') failed - got 'maybe'"),
        ("cpulimit", "1.", "type check ('number') failed - got '1.'"),
        (
            "net0",
            "virtio=AB:24:11:00:00:01",
            "value does not look like a valid unicast MAC address",
        ),
        ("net0", "virtio,tag=0", "value must have a minimum value of 1"),
        ("hotplug", "bogus", "invalid hotplug feature 'bogus'"),
        ("machine", "microvm", "value does not match the regex pattern"),
        ("startup", "order=x", "unable to parse startup options"),
        ("boot", "order=floppy", "invalid boot device 'floppy'"),
        ("scsi31", "l-x:d", "unknown setting 'scsi31'"),
        ("nosuch", "1", "unknown setting 'nosuch'"),
    ];
    for (key, value, expected) in cases {
        let error = VmRules.check(key, value).unwrap_err();
        assert!(error.contains(expected), "{key}: {error}");
    }
}

#[test]
fn limits_of_plain_keys_are_the_interfaces_affair() {
    for (key, value) in [
        ("cores", "0"),
        ("cpulimit", "999"),
        ("ostype", "beos"),
        ("balloon", "7"),
    ] {
        assert!(VmRules.check(key, value).is_ok(), "{key}");
    }
}

/// Every key of the contract is known here, and the other way round.
#[test]
fn the_table_of_keys_is_that_of_the_contract() {
    let update = pve_contract::method(pve_contract::id::PUT_NODES_NODE_QEMU_VMID_CONFIG);
    let not_config = [
        "background_delay",
        "cdrom",
        "delete",
        "digest",
        "force",
        "node",
        "revert",
        "skiplock",
        "vmid",
    ];
    for parameter in update
        .parameters
        .iter()
        .filter(|parameter| !not_config.contains(&parameter.name))
    {
        let key = match parameter.index_max {
            Some(last) => format!("{}{last}", parameter.name),
            None => parameter.name.to_owned(),
        };
        assert!(pve_qemu::config::keys::info(&key).is_some(), "{key}");
    }
    for info in pve_qemu::config::keys::KEYS {
        let key = match info.last {
            Some(last) => format!("{}{last}", info.name),
            None => info.name.to_owned(),
        };
        let internal = info.need == pve_qemu::config::Need::Internal;
        assert_eq!(update.parameter(&key).is_some(), !internal, "{key}");
    }
}

fn drive_text() -> impl Strategy<Value = String> {
    let options = prop::sample::subsequence(
        vec![
            "aio=threads",
            "backup=0",
            "cache=none",
            "detect_zeroes=1",
            "discard=on",
            "iops_rd=100",
            "iothread=1",
            "mbps_rd=5",
            "rerror=stop",
            "serial=a%2Cb",
            "size=32G",
            "ssd=1",
        ],
        0..12,
    );
    ("[a-z]{2,6}:vm-[1-9][0-9]{2}-disk-[0-9]", options).prop_map(|(volume, options)| {
        std::iter::once(volume.as_str())
            .chain(options)
            .collect::<Vec<_>>()
            .join(",")
    })
}

proptest! {
    #[test]
    fn canonical_drives_survive(text in drive_text(), index in 0u8..31) {
        let key = DriveKey::from_str(&format!("scsi{index}")).unwrap();
        prop_assert_eq!(Drive::parse(key, &text).unwrap().to_string(), text);
    }

    #[test]
    fn canonical_cards_survive(
        model in prop::sample::select(vec!["e1000", "virtio", "rtl8139", "vmxnet3"]),
        mac in prop::array::uniform5(0u8..),
        rest in prop::sample::subsequence(
            vec!["bridge=vmbr0", "firewall=1", "link_down=1", "mtu=1400", "queues=4", "rate=1.5", "tag=5", "trunks=1;5-9"],
            0..8,
        ),
    ) {
        let mac = mac.iter().map(|byte| format!(":{byte:02X}")).collect::<String>();
        let text = std::iter::once(format!("{model}=BC{mac}")).chain(rest.into_iter().map(str::to_owned));
        let text = text.collect::<Vec<_>>().join(",");
        prop_assert_eq!(Net::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn canonical_machines_survive(
        kind in prop::sample::select(vec!["pc-i440fx", "pc-q35"]), major in 1u32..20, minor in 0u32..10, revision in 0u32..5,
    ) {
        let text = format!("{kind}-{major}.{minor}+pve{revision}");
        prop_assert_eq!(MachineType::parse(&text).unwrap().to_string(), text);
    }

    #[test]
    fn no_text_makes_a_parser_stumble(text in "[ -~\\n\u{e9}]{0,60}", key in "[a-z]{0,10}[0-9]{0,3}") {
        let _ = VmRules.check(&key, &text);
        if let Ok(key) = key.parse::<DriveKey>() {
            let _ = Drive::parse(key, &text).map(|drive| (drive.is_cloudinit(), drive.source(), drive.size()));
        }
        let _ = (Net::parse(&text), Boot::parse(&text), Machine::parse(&text), Agent::parse(&text));
        let _ = (Version::parse(&text), MachineType::parse(&text));
    }

    #[test]
    fn no_file_makes_a_config_stumble(
        lines in prop::collection::vec(("[a-z]{2,8}[0-9]{0,2}|(scsi|net|ide|numa|unused)[0-9]|boot|memory|machine", "[ -~]{0,30}"), 0..20),
    ) {
        let text: String = lines.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        let mut config = GuestConfig::parse(&VmRules, vmid(), text.as_bytes()).config;
        let vm = VmConfig::new(&config.main);
        let _ = (vm.drives(), vm.nets(), vm.memory(), vm.cpus(), vm.machine(), vm.boot(), vm.agent(), vm.vga());
        let _ = pve_qemu::config::boot::boot_indices(vm);
        let _ = pve_qemu::config::json::pending(&config);
        VmRules.before_write(&mut config).unwrap();
        let once = config.print();
        let again = GuestConfig::parse(&VmRules, vmid(), once.as_bytes()).config.print();
        prop_assert_eq!(again, once);
    }
}
