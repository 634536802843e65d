//! Whole command lines of typical VMs, one argument a line, on both QEMU versions of stock Debian.
//!
//! `UPDATE_SNAPSHOTS=1 cargo test -p pve-qemu --test snapshots` writes them anew; read the difference before it is kept.

#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use common::Guest;
use pve_qemu::accel::Accel;

/// A Linux server as the web interface makes it.
const LINUX: &str = "\
agent: 1
boot: order=scsi0;ide2;net0
cores: 2
cpu: x86-64-v2-AES
ide2: local:iso/debian.iso,media=cdrom,size=400M
memory: 2048
meta: creation-qemu=10.0.2,ctime=1700000000
name: web1
net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,firewall=1
numa: 0
ostype: l26
scsi0: local-lvm:vm-8006-disk-0,discard=on,iothread=1,size=32G,ssd=1
scsihw: virtio-scsi-single
smbios1: uuid=0b0ad0f4-5f1b-4d94-9e4b-3a0f6a2b1c3d
sockets: 1
vmgenid: 8f0b5c1e-2c44-4f0b-9a3c-2d1f8f6a5b4c
";

/// A Windows desktop with UEFI and sound.
const WINDOWS: &str = "\
agent: 1
audio0: device=ich9-intel-hda,driver=spice
bios: ovmf
boot: order=sata0;ide2
cores: 4
cpu: host
efidisk0: local-lvm:vm-8006-disk-0,efitype=4m,pre-enrolled-keys=1,size=528K
ide2: none,media=cdrom
machine: pc-q35-9.2+pve1
memory: 8192
name: desk
net0: e1000=BC:24:11:00:00:02,bridge=vmbr0
ostype: win11
sata0: local:8006/vm-8006-disk-1.qcow2,cache=writeback,size=64G
vga: qxl2
";

/// A tiny lab guest: user network, serial console.
const LAB: &str = "\
kvm: 0
memory: 128
name: tiny
net0: virtio=BC:24:11:00:00:03
rng0: source=/dev/urandom
serial0: socket
vga: serial0
virtio0: local:8006/vm-8006-disk-0.raw,size=1G
watchdog: model=i6300esb,action=reset
";

/// An old guest with many things.
const OLD: &str = "\
args: -no-user-config
balloon: 0
bootdisk: ide0
ide0: local:8006/vm-8006-disk-0.qcow2,bps_rd=10485760,size=8G
ide2: local:iso/tools.iso,media=cdrom
keyboard: de
localtime: 1
machine: pc-i440fx-7.2
net0: rtl8139=BC:24:11:00:00:04,bridge=vmbr0,link_down=1
ostype: wxp
parallel0: /dev/parport0
startdate: 2006-06-17
usb0: host=1234:5678
vga: cirrus
";

#[test]
fn whole_command_lines_stay_as_they_are() {
    let cases = [
        ("linux", LINUX, Accel::Kvm),
        ("windows", WINDOWS, Accel::Kvm),
        ("lab", LAB, Accel::Tcg),
        ("old", OLD, Accel::Tcg),
    ];
    for (name, text, accel) in cases {
        for qemu in ["7.2.17", "10.0.2"] {
            // A machine type of 9.2 does not exist on 7.2.
            let text = if qemu == "7.2.17" {
                text.replace("9.2+pve1", "7.2")
            } else {
                text.to_owned()
            };
            check(&format!("{name}-{qemu}"), &Guest::new(&text).on(qemu, accel));
        }
    }
}

fn check(name: &str, guest: &Guest) {
    let command = guest.build().unwrap();
    let mut shown = format!("{}\n", command.program.display());
    for word in &command.arguments {
        let option = word.starts_with('-') && !word.contains(' ');
        shown.push_str(&if option {
            format!("{word}\n")
        } else {
            format!("    {word}\n")
        });
    }
    for note in &command.notes {
        shown.push_str(&format!("note: {note}\n"));
    }
    shown.push_str(&format!("machine: {}\n", command.machine));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/snapshots/{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &shown).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert_eq!(shown, kept, "{name}");
}
