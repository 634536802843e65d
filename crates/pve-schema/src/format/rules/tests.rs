//! Rules by example: what `formats.json` and the vectors of reference 03 §8.5 say.

use super::*;
use crate::format::Rule;

/// What a rule says of a value, with `no: {v}` as the format's own text.
fn says(rule: Rule, value: &str) -> Result<(), String> {
    static FORMAT: NamedFormat = NamedFormat {
        words: &["echo-request", "ftp", "iso"],
        ..NamedFormat::new("test", "no: {v}")
    };
    rule(&FORMAT, value)
}

#[track_caller]
fn check(rule: Rule, good: &[&str], bad: &[&str]) {
    for value in good {
        assert_eq!(says(rule, value), Ok(()), "{value}");
    }
    for value in bad {
        assert!(says(rule, value).is_err(), "{value}");
    }
}

#[track_caller]
fn refuses(rule: Rule, value: &str, text: &str) {
    assert_eq!(says(rule, value), Err(text.to_owned()));
}

#[test]
fn addresses() {
    // Vector 57.
    check(
        ipv6,
        &["1:2:3:4:5:6:7::", "::10.0.0.1", "::"],
        &["fe80::1%eth0", "[::1]", "::/64", "1.2.3.4"],
    );
    check(ip, &["1.2.3.4", "::1"], &["01.2.3.4", "1.2.3", ""]);
    check(
        cidrv4,
        &["10.0.0.0/8", "10.1.2.3/32"],
        &["10.0.0.0/7", "10.0.0.0/33", "10.0.0.0", "10.0.0.0/+8"],
    );
    check(cidrv6, &["fd00::/8", "::1/128"], &["fd00::/7", "fd00::/129"]);
    check(fullrangecidr, &["0.0.0.0/0", "::/0"], &["0.0.0.0/33"]);
    check(
        ipv4mask,
        &["0.0.0.0", "255.255.255.0", "255.255.255.255"],
        &["255.0.255.0", "1.0.0.0"],
    );
    check(iporcidr, &["10.0.0.1/24", "10.0.0.1"], &["10.0.0.1/33", "x"]);
    check(
        iporcidroralias,
        &["dc/web", "guest/web", "web", "10.0.0.1"],
        &["w", "dc/1"],
    );
    check(address, &["pve1.lab", "10.0.0.1", "::1"], &["pve1.", "a_b", ""]);
    check(
        lxc_ip_with_ll_iface,
        &["fe80::1%eth0", "::1"],
        &["fd00::1%eth0", "fe80::1%"],
    );
    check(
        pve_ipv4_config,
        &["dhcp", "manual", "10.0.0.1/24"],
        &["auto", "10.0.0.1"],
    );
    check(pve_ipv6_config, &["auto", "dhcp", "fd00::1/64"], &["10.0.0.1/24"]);
    let portals = [
        "nas",
        "nas:3260",
        "10.0.0.1:3260",
        "[::1]:3260",
        "[nas]",
        "::1",
        "fd00::1.3260",
    ];
    check(pve_storage_portal_dns, &portals, &["nas:x", "", "[::1", "a b"]);
}

#[test]
fn names() {
    check(pve_poolid, &["a", "a/b/c"], &["", "a//b", "a b"]);
    refuses(
        pve_poolid,
        "a/b/c/d",
        "pool name 'a/b/c/d' nested too deeply (max levels = 3)",
    );
    refuses(pve_userid, "a@", "user name 'a@' is too short");
    check(
        pve_volume_id_or_qm_path,
        &["none", "cdrom", "/dev/sda", "local:x"],
        &["x", "l:x"],
    );
    refuses(
        storage_pair,
        "local:x",
        "entry 'local:x' contains invalid ID - storage ID 'x' cannot be shorter than 2 characters",
    );
    check(storage_pair, &["0", "1", "local", "local:nas"], &["local:-x"]);
    check(bridge_pair, &["vmbr0:vmbr1", "vnet.1"], &["a b"]);
    check(pve_replication_job_id, &["100-0"], &["100", "a-0", "100-", "-1"]);
    refuses(
        pve_replication_job_id,
        "99-0",
        "no: 99-0 (guest IDs < 100 are reserved)",
    );
    check(
        pve_dir_override,
        &["iso=a/b.c", "iso=/x"],
        &["iso=a/../b", "foo=a", "iso=a.", "iso="],
    );
}

#[test]
fn firewall_addresses() {
    let good = [
        "+set",
        "+dc/set",
        "web",
        "dc/web",
        "10.0.0.1,10.0.0.0/8",
        "10.0.0.1-10.0.0.9",
        "10",
        "10.1",
        "fd00::/64",
    ];
    check(
        pve_fw_addr_spec,
        &good,
        &["10.0.0.1/8", "10.0.0.9-10.0.0.1", "+", "+a b", "x y"],
    );
    for (value, text) in [
        ("10.0.0.1,", "extraneous commas in list"),
        (
            "10.0.0.1,fd00::1",
            "detected mixed ipv4/ipv6 addresses in address list '10.0.0.1,fd00::1'",
        ),
        ("10.0.0.1,10.0.0.2-10.0.0.3", "you can't use a range in a list"),
    ] {
        refuses(pve_fw_addr_spec, value, text);
    }
    refuses(pve_fw_addr_spec, &format!("+{}", "x".repeat(65)), "ipset name too long");
    refuses(pve_fw_addr_spec, &"x".repeat(65), "alias name too long");
}

#[test]
fn firewall_ports() {
    check(
        pve_fw_sport_spec,
        &["80", "80:90", "0,65535"],
        &["65536", "", "80,", "echo-request"],
    );
    check(pve_fw_dport_spec, &["echo-request"], &["nope"]);
    for (value, text) in [
        ("70000", "invalid port '70000'"),
        ("90:80", "backwards range '90:80' not allowed, did you mean '80:90'?"),
        (
            "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16",
            "too many entries in port list (> 15 numbers)",
        ),
        ("80,,81", "extraneous commas in list"),
        ("echo-request,80", "ICMP ports not allowed in port range"),
    ] {
        refuses(pve_fw_dport_spec, value, text);
    }
    check(pve_fw_protocol_spec, &["tcp", "6", "", "0", "icmpv6"], &["nope", "999"]);
    refuses(pve_fw_conntrack_helper, "ftp,x", "unknown helper x");
}

#[test]
fn networks_in_software() {
    check(pve_sdn_bgp_rt, &["65000:1"], &["65000", "4294967296:1", "a:1"]);
    check(
        pve_sdn_subnet_id,
        &["10.0.0.0/24", "labz-10.9.0.0-24", "labz-fd09::-64"],
        &["x", "labz-10.9.0.0"],
    );
    check(pve_sdn_vlanrange, &["1-10,4096", "what,ever"], &["4097", "1,"]);
    refuses(
        pve_sdn_vlanrange,
        "9-3",
        "backwards range '9:3' not allowed, did you mean '3:9'?",
    );
    refuses(pve_sdn_vxlanrange, "16777217", "invalid port '16777217'");
    check(pve_vlan_id_or_range, &["2", "4094", "2-10", "5-0"], &["1", "5-5"]);
    refuses(pve_vlan_id_or_range, "2-x", "invalid VLAN configuration '2-x'");
    refuses(pve_vlan_id_or_range, "2-9999", "invalid VLAN tag '9999'");
    check(
        pve_sdn_fabric_wireguard_interface,
        &["wg0"],
        &["", "a/b", "sixteencharacter"],
    );
}

#[test]
fn guests() {
    check(
        pve_qm_bootdev,
        &["scsi30", "net31", "hostpci15", "ide3"],
        &["scsi31", "efidisk0", "ide03", "ide", "unused0"],
    );
    check(pve_qm_bootdisk, &["scsi0", "efidisk0"], &["net0", "efidisk1"]);
    check(pve_hotplug_features, &["", "1", "disk,usb"], &["disk,x"]);
    check(pve_phys_bits, &["host", "8", "64"], &["7", "65", "x"]);
    check(pve_cpuset, &["", "0,2-5", "0, 3"], &["5-2", "a", "1,,2"]);
    check(pve_startup_order, &["order=3,up=10", "3"], &["", "0", "x=1"]);
    check(pve_lxc_dev_string, &["/dev/kvm"], &["/dev/../x", "/etc", "/dev/./x"]);
    check(pve_lxc_mp_string, &["/mnt/x"], &["/a/../b", "../x", "/x/.."]);
    check(
        pve_storage_zfs_blocksize,
        &["", "512", "4k", "16m", "1M"],
        &["0", "08k", "3k", "32m", "x"],
    );
    refuses(
        pve_calendar_event,
        "8..5",
        "invalid calendar event '8..5' - unable to parse calendar event at '8..5' - unexpected text",
    );
}

#[test]
fn command_batches() {
    check(
        pve_command_batch,
        &[
            "[]",
            r#"[{"path":"version","method":"GET"}]"#,
            r#"[{"path":"x","method":"POST","args":{"a":1}}]"#,
        ],
        &[
            "{}",
            "[1]",
            r#"[{"path":"x","method":"PATCH"}]"#,
            r#"[{"method":"GET"}]"#,
            "x",
        ],
    );
}

#[test]
fn pem_texts() {
    let block = |label: &str| format!("-----BEGIN {label}-----\nTUlJQg==\n-----END {label}-----\n");
    let (certificate, key) = (block("CERTIFICATE"), block("PRIVATE KEY"));
    let chain = format!("subject=x\n{certificate}\n{certificate}");
    check(pem_certificate, &[&certificate], &[&chain, &key, "", "x"]);
    check(
        pem_certificate_chain,
        &[&certificate, &chain],
        &[&key, "", &format!("{certificate}x")],
    );
    check(
        pem_string,
        &[&certificate, &key],
        &[&chain, "-----BEGIN X-----\n!\n-----END X-----"],
    );
}

#[test]
fn time_zones_come_from_the_host() {
    check(timezone, &["UTC"], &["Nowhere/Never", ""]);
    check(pve_ct_timezone, &["host", "UTC"], &["x"]);
}
