//! The vectors of reference 06a for command lines (25 to 46), and its tables.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Guest, values};
use pve_qemu::accel::Accel;
use pve_qemu::command::{Backing, StartMode};
use pve_qemu::config::Version;

const KVM: Accel = Accel::Kvm;
const TCG: Accel = Accel::Tcg;

/// The one value of an option.
fn value(text: &str, accel: Accel, option: &str) -> String {
    let command = Guest::new(text).on("10.0.2", accel).build().unwrap();
    let found = values(&command, option);
    assert_eq!(found.len(), 1, "{option}: {found:?}");
    found[0].to_owned()
}

fn error(text: &str) -> String {
    Guest::new(text).build().unwrap_err().to_string()
}

#[track_caller]
fn assert_has(text: &str, option: &str, expected: &[&str]) {
    let command = Guest::new(text).build().unwrap();
    let found = values(&command, option);
    let mut from = 0;
    for wanted in expected {
        let place = found[from..].iter().position(|value| value == wanted);
        let place = place.unwrap_or_else(|| panic!("{wanted} is not among {:#?}", &found[from..]));
        from += place + 1;
    }
}

/// Vectors 27 to 30.
#[test]
fn cpu_flags_are_sorted_by_name() {
    let windows = "host,hv_ipi,hv_relaxed,hv_reset,hv_runtime,hv_spinlocks=0x1fff,hv_stimer,hv_synic,hv_time,hv_vapic,\
                   hv_vpindex,+kvm_pv_eoi,+kvm_pv_unhalt";
    let aes = "qemu64,+aes,enforce,+kvm_pv_eoi,+kvm_pv_unhalt,+pni,+popcnt,+sse4.1,+sse4.2,+ssse3";
    let cases = [
        (
            "ostype: l26\n",
            KVM,
            "kvm64,enforce,+kvm_pv_eoi,+kvm_pv_unhalt,+lahf_lm,+sep",
        ),
        ("ostype: l26\n", TCG, "qemu64"),
        ("cpu: host\n", TCG, "max"),
        ("cpu: kvm64\n", TCG, "qemu64"),
        ("cpu: x86-64-v2-AES\n", KVM, aes),
        (
            "cpu: x86-64-v2-AES\n",
            TCG,
            "qemu64,+aes,+pni,+popcnt,+sse4.1,+sse4.2,+ssse3",
        ),
        (
            "cpu: qemu64,hidden=1,phys-bits=host\n",
            KVM,
            "qemu64,enforce,kvm=off,+kvm_pv_eoi,+kvm_pv_unhalt,host-phys-bits=true",
        ),
        ("cpu: host\nostype: win11\nmachine: pc-i440fx-10.0\n", KVM, windows),
        ("cpu: host\nostype: win11\nmachine: pc-i440fx-10.0\n", TCG, "max"),
        ("cpu: Icelake-Client\n", TCG, "Icelake-Server,vendor=GenuineIntel"),
        (
            "cpu: EPYC,flags=+pcid;-ibpb\n",
            TCG,
            "EPYC,-ibpb,+pcid,vendor=AuthenticAMD",
        ),
        ("cpu: qemu64,flags=+nested-virt\n", TCG, "qemu64,+vmx"),
    ];
    for (text, accel, expected) in cases {
        assert_eq!(value(text, accel, "-cpu"), expected, "{text}");
    }
}

#[test]
fn unknown_cpus_and_flags_are_refused() {
    let cases = [
        ("cpu: host\nbios: ovmf\n", None),
        (
            "cpu: pentium\nbios: ovmf\n",
            Some("OVMF (UEFI) BIOS is not supported on 32-bit CPU types"),
        ),
        (
            "sockets: 4\ncores: 8\n",
            Some("MAX 16 vcpus allowed per VM on this node"),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            Guest::new(text).build().err().map(|error| error.to_string()).as_deref(),
            expected,
            "{text}"
        );
    }
}

/// Vector 31.
#[test]
fn plugged_in_cpus_are_devices() {
    let text = "sockets: 2\ncores: 2\nvcpus: 3\nhotplug: cpu\ncpu: qemu64\n";
    assert_eq!(value(text, KVM, "-smp"), "1,sockets=2,cores=2,maxcpus=4");
    let devices = [
        "qemu64-x86_64-cpu,id=cpu2,socket-id=0,core-id=1,thread-id=0",
        "qemu64-x86_64-cpu,id=cpu3,socket-id=1,core-id=0,thread-id=0",
    ];
    assert_has(text, "-device", &devices);
    assert_eq!(value("cores: 2\n", KVM, "-smp"), "2,sockets=1,cores=2,maxcpus=2");
}

/// Vector 32.
#[test]
fn memory_hotplug_starts_with_modules() {
    let text = "memory: 2048\nnuma: 1\nhotplug: memory\nsockets: 2\ncpu: qemu64\n";
    assert_eq!(value(text, KVM, "-m"), "size=1024,slots=255,maxmem=524288M");
    let host = text.replace("qemu64", "host");
    assert_eq!(value(&host, KVM, "-m"), "size=1024,slots=255,maxmem=4194304M");
    let objects = [
        "memory-backend-ram,id=ram-node0,size=512M",
        "memory-backend-ram,id=ram-node1,size=512M",
        "memory-backend-ram,id=mem-dimm0,size=512M",
        "memory-backend-ram,id=mem-dimm1,size=512M",
    ];
    assert_has(text, "-object", &objects);
    assert_has(
        text,
        "-numa",
        &[
            "node,nodeid=0,cpus=0,memdev=ram-node0",
            "node,nodeid=1,cpus=1,memdev=ram-node1",
        ],
    );
    let modules = [
        "pc-dimm,id=dimm0,memdev=mem-dimm0,node=0",
        "pc-dimm,id=dimm1,memdev=mem-dimm1,node=1",
    ];
    assert_has(text, "-device", &modules);
    let cases = [
        ("hotplug: memory\n", "NUMA needs to be enabled for memory hotplug"),
        (
            "hotplug: memory\nnuma: 1\nmemory: 512\n",
            "minimum memory must be 1024MB",
        ),
        (
            "hotplug: memory\nnuma: 1\nmemory: 1100\n",
            "memory size (1100) must be aligned to 512 for hotplugging",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text}");
    }
}

/// Vector 33.
#[test]
fn numa_nodes_may_be_set_by_hand() {
    let text = "memory: 2048\nnuma: 1\ncores: 4\nnuma0: cpus=0-1,memory=1024,hostnodes=0,policy=bind\n\
                numa1: cpus=2;3,memory=1024\n";
    let objects = [
        "memory-backend-ram,id=ram-node0,size=1024M,host-nodes=0,policy=bind",
        "memory-backend-ram,id=ram-node1,size=1024M",
    ];
    assert_has(text, "-object", &objects);
    let nodes = [
        "node,nodeid=0,cpus=0-1,memdev=ram-node0",
        "node,nodeid=1,cpus=2,cpus=3,memdev=ram-node1",
    ];
    assert_has(text, "-numa", &nodes);
    let cases = [
        (
            "memory=1000",
            "total memory for NUMA nodes must be equal to vm static memory",
        ),
        ("memory=1024,hostnodes=0", "you need to define a policy for hostnode 0"),
    ];
    for (node, expected) in cases {
        assert_eq!(
            error(&format!("memory: 1024\nnuma: 1\nnuma0: cpus=0,{node}\n")),
            expected
        );
    }
}

/// Vectors 35 to 39.
#[test]
fn drives_are_devices_on_their_controllers() {
    let cases: [(&str, &[&str]); 8] = [
        (
            "scsihw: virtio-scsi-single\nscsi0: l-x:d,iothread=1,ssd=1\nboot: order=scsi0\n",
            &[
                "virtio-scsi-pci,id=virtioscsi0,bus=pci.3,addr=0x1,iothread=iothread-virtioscsi0",
                "scsi-hd,bus=virtioscsi0.0,channel=0,scsi-id=0,lun=0,drive=drive-scsi0,id=scsi0,\
                 device_id=drive-scsi0,rotation_rate=1,bootindex=100,write-cache=on",
            ],
        ),
        (
            "scsi7: l-x:d\n",
            &[
                "lsi,id=scsihw1,bus=pci.0,addr=0x6",
                "scsi-hd,bus=scsihw1.0,scsi-id=0,drive=drive-scsi7,id=scsi7,device_id=drive-scsi7,write-cache=on",
            ],
        ),
        (
            "ide2: none,media=cdrom\nboot: order=net0\n",
            &["ide-cd,bus=ide.1,unit=0,id=ide2"],
        ),
        (
            "machine: q35\nide1: none,media=cdrom\nboot: a\n",
            &["ide-cd,bus=ide.2,unit=0,id=ide1"],
        ),
        (
            "machine: q35\nide3: l-x:d\nboot: a\n",
            &["ide-hd,bus=ide.3,unit=0,drive=drive-ide3,id=ide3,write-cache=on"],
        ),
        (
            "virtio0: l-x:d,cache=writeback,iothread=1,mbps_rd=50,iops_wr=300\nboot: order=virtio0\n",
            &[
                "virtio-blk-pci,drive=drive-virtio0,id=virtio0,bus=pci.0,addr=0xa,iothread=iothread-virtio0,\
                 bootindex=100,write-cache=on",
            ],
        ),
        (
            "sata0: l-x:d,serial=ab%2Ccd\n",
            &[
                "ahci,id=ahci0,multifunction=on,bus=pci.0,addr=0x7",
                "ide-hd,bus=ahci0.0,drive=drive-sata0,id=sata0,serial=ab,,cd,write-cache=on",
            ],
        ),
        (
            "scsihw: virtio-scsi-pci\nscsi9: l-x:d,cache=writethrough,vendor=a,product=b\nscsi10: l-x:i,media=cdrom\n",
            &[
                "virtio-scsi-pci,id=scsihw0,bus=pci.0,addr=0x5",
                "scsi-hd,bus=scsihw0.0,channel=0,scsi-id=0,lun=9,drive=drive-scsi9,id=scsi9,device_id=drive-scsi9,\
                 vendor=a,product=b,write-cache=off",
                "scsi-cd,bus=scsihw0.0,channel=0,scsi-id=0,lun=10,drive=drive-scsi10,id=scsi10,\
                 device_id=drive-scsi10,bootindex=200",
            ],
        ),
    ];
    for (text, devices) in cases {
        assert_has(text, "-device", devices);
    }
    let throttle = r#"{"id":"throttle-drive-virtio0","limits":{"bps-read":52428800,"iops-write":300},"qom-type":"throttle-group"}"#;
    assert_has(
        "virtio0: l-x:d,iothread=1,mbps_rd=50,iops_wr=300\n",
        "-object",
        &["iothread,id=iothread-virtio0", throttle],
    );
    assert_eq!(
        error("scsi0: l-x:d,snapshot=1\n"),
        "'snapshot' option is not yet supported for '-blockdev'"
    );
    let notes = Guest::new("scsi0: l-x:d,iothread=1\n").build().unwrap().notes;
    assert_eq!(
        notes,
        ["iothread is only valid with virtio disk or virtio-scsi-single controller, ignoring"]
    );
}

#[test]
fn passed_through_disks_have_no_throttle_node() {
    let mut guest = Guest::new("scsihw: virtio-scsi-pci\nscsi0: /dev/sdx,scsiblock=1\n");
    let mut backing = Backing::device("/dev/sdx");
    backing.scsi_type = Some(0);
    guest.backings.insert("scsi0".parse().unwrap(), backing);
    let command = guest.build().unwrap();
    let graph: serde_json::Value = serde_json::from_str(values(&command, "-blockdev")[0]).unwrap();
    assert_eq!(
        (graph["node-name"].as_str(), graph["driver"].as_str()),
        (Some("drive-scsi0"), Some("raw"))
    );
    assert_eq!(graph["file"]["driver"], "host_device");
    assert!(
        values(&command, "-device")
            .contains(&"scsi-block,bus=scsihw0.0,channel=0,scsi-id=0,lun=0,drive=drive-scsi0,id=scsi0")
    );
}

/// Vector 22.
#[test]
fn the_boot_order_becomes_boot_indices() {
    let disks = "scsi0: l-x:d\nide2: l-x:i,media=cdrom\nnet0: virtio=BC:24:11:00:00:01\n";
    let indices = |boot: &str| {
        let command = Guest::new(&format!("{disks}{boot}")).build().unwrap();
        let index = |id: &str| {
            let devices = values(&command, "-device");
            let device = devices.iter().find(|device| device.contains(&format!(",id={id}")))?;
            device
                .split(',')
                .find_map(|part| part.strip_prefix("bootindex="))
                .map(str::to_owned)
        };
        ["scsi0", "ide2", "net0"]
            .map(index)
            .map(|index| index.unwrap_or_default())
            .join(" ")
    };
    assert_eq!(indices("boot: order=scsi0;ide2;net0\n"), "100 101 102");
    assert_eq!(indices(""), " 200 300");
    assert_eq!(indices("bootdisk: scsi0\nboot: dcn\n"), "200 100 300");
    assert_eq!(indices("boot: order=net0\n"), "  100");
}

/// Vectors 40 and 41; taps are made before the start, so no script runs.
#[test]
fn cards_are_plugged_into_taps_or_user_networks() {
    let bridged = "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0,queues=4\nboot: a\n";
    let tap = "type=tap,id=net0,ifname=tap8006i0,script=no,downscript=no,vhost=on,queues=4";
    assert_eq!(value(bridged, KVM, "-netdev"), tap);
    let device = "virtio-net-pci,mac=BC:24:11:00:00:01,netdev=net0,bus=pci.0,addr=0x12,id=net0,vectors=10,mq=on,\
                  packed=on,rx_queue_size=1024,tx_queue_size=256,host_mtu=1500";
    assert_has(bridged, "-device", &[device]);
    let user = "name: old\nnet1: rtl8139=BC:24:11:00:00:01\nboot: a\n";
    assert_eq!(value(user, KVM, "-netdev"), "type=user,id=net1,hostname=old");
    assert_has(
        user,
        "-device",
        &["rtl8139,mac=BC:24:11:00:00:01,netdev=net1,bus=pci.0,addr=0x13,id=net1"],
    );
}

#[test]
fn labs_mark_their_taps() {
    let mut guest = Guest::new("net0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n");
    guest.site.instance = Some("a1".to_owned().try_into().unwrap());
    let netdev = "type=tap,id=net0,ifname=a1tap8006i0,script=no,downscript=no,vhost=on";
    assert_eq!(values(&guest.build().unwrap(), "-netdev"), [netdev]);
    guest.vmid = 123_456_789.try_into().unwrap();
    let error = guest.build().unwrap_err().to_string();
    assert_eq!(
        error,
        "interface name 'a1tap123456789i0' is too long (max 15 character)"
    );
}

#[test]
fn the_mtu_fits_ip_and_bridge() {
    let mtu = |option: &str| Guest::new(&format!("net0: virtio=BC:24:11:00:00:01,bridge=vmbr0{option}\n")).build();
    for (option, expected) in [
        ("", "host_mtu=1500"),
        (",mtu=1", "host_mtu=1500"),
        (",mtu=1400", "host_mtu=1400"),
    ] {
        let command = mtu(option).unwrap();
        assert!(
            values(&command, "-device")
                .iter()
                .any(|device| device.ends_with(expected)),
            "{option}"
        );
    }
    let small = mtu(",mtu=500").unwrap_err().to_string();
    assert_eq!(small, "netdev net0: MTU '500' is smaller than the IP minimum MTU '576'");
    let big = mtu(",mtu=9000").unwrap_err().to_string();
    assert!(
        big.starts_with("netdev net0: MTU '9000' is bigger than the bridge MTU '1500' - "),
        "{big}"
    );
    assert_eq!(
        error("net0: virtio=BC:24:11:00:00:01,bridge=vmbr7\n"),
        "bridge 'vmbr7' does not exist"
    );
}

/// Vector 42.
#[test]
fn a_serial_console_has_no_picture() {
    let command = Guest::new("serial0: socket\nvga: serial0\n").build().unwrap();
    assert!(command.arguments.contains(&"-nographic".to_owned()));
    assert!(
        !command
            .arguments
            .iter()
            .any(|word| word.starts_with("usb-tablet") || word == "-vnc")
    );
    assert_eq!(values(&command, "-machine"), ["smm=off,type=pc"]);
    assert_has(
        "serial0: socket\n",
        "-chardev",
        &["socket,id=serial0,path=/run/qemu-server/8006.serial0,server=on,wait=off"],
    );
}

/// Vector 43.
#[test]
fn smbios_values_are_decoded_and_their_commas_doubled() {
    let uuid = "0b0ad0f4-5f1b-4d94-9e4b-3a0f6a2b1c3d";
    let text = format!("smbios1: base64=1,manufacturer=QWNtZSwgSW5j,uuid={uuid}\n");
    assert_eq!(
        value(&text, KVM, "-smbios"),
        format!("type=1,manufacturer=Acme,, Inc,uuid={uuid}")
    );
}

/// Vector 44. Without a SPICE display nobody hears the sound.
#[test]
fn sound_is_a_device_with_two_codecs() {
    let text = "audio0: device=ich9-intel-hda,driver=spice\nvga: qxl\n";
    let devices = [
        "ich9-intel-hda,id=audiodev0,bus=pci.2,addr=0xc",
        "hda-micro,id=audiodev0-codec0,bus=audiodev0.0,cad=0,audiodev=spice-backend0",
        "hda-duplex,id=audiodev0-codec1,bus=audiodev0.0,cad=1,audiodev=spice-backend0",
    ];
    assert_has(text, "-device", &devices);
    assert_eq!(value(text, KVM, "-audiodev"), "spice,id=spice-backend0");
    assert_eq!(
        value("audio0: device=AC97\n", KVM, "-audiodev"),
        "none,id=none-backend0"
    );
}

/// Vector 45.
#[test]
fn usb_devices_sit_on_one_xhci_controller() {
    let devices = [
        "qemu-xhci,p2=15,p3=15,id=xhci,bus=pci.1,addr=0x1b",
        "usb-host,bus=xhci.0,port=1,vendorid=0x1234,productid=0x5678,id=usb0",
    ];
    assert_has("usb0: host=1234:5678,usb3=1\nostype: l26\n", "-device", &devices);
    let old = error("usb5: host=1-2\nostype: win7\nmachine: pc-i440fx-10.0\n");
    assert_eq!(
        old,
        "using usb5 is only possible with machine type >= 7.1 and ostype l26 or windows > 7"
    );
}

/// Vector 46; stock QEMU is not told revisions.
#[test]
fn machine_flags_stand_in_order() {
    let cases = [
        ("ostype: l26\n", TCG, "accel=tcg,type=pc"),
        (
            "acpi: 0\nserial0: socket\nvga: serial0\n",
            KVM,
            "acpi=off,smm=off,type=pc",
        ),
        (
            "bios: ovmf\nostype: win10\nmachine: pc-q35-10.0+pve1\nefidisk0: l-x:vars,efitype=4m,size=528K\n",
            KVM,
            "pflash0=pflash0,pflash1=drive-efidisk0,hpet=off,type=pc-q35-10.0",
        ),
        ("machine: q35,viommu=intel\n", KVM, "type=q35,kernel-irqchip=split"),
        ("allow-ksm: 0\n", KVM, "type=pc,mem-merge=off"),
    ];
    for (text, accel, expected) in cases {
        assert_eq!(value(text, accel, "-machine"), expected, "{text}");
    }
    let mut guest = Guest::new("ostype: l26\n");
    guest.host.program = "/usr/bin/qemu-system-x86_64".into();
    assert_eq!(values(&guest.build().unwrap(), "-machine"), ["accel=kvm,type=pc"]);
}

#[test]
fn the_revision_is_the_lowest_that_has_all_features() {
    let remembered = |text: &str| Guest::new(text).build().unwrap().machine.to_string();
    assert_eq!(remembered("ostype: l26\n"), "pc+pve0");
    assert_eq!(remembered("net0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n"), "pc+pve1");
    assert_eq!(remembered("machine: pc-q35-9.2+pve1\n"), "pc-q35-9.2+pve1");
    assert_eq!(
        remembered("machine: pc-q35-9.2+pve1,enable-s3=1,enable-s4=1\n"),
        "pc-q35-9.2+pve0"
    );
}

#[test]
fn machine_types_that_cannot_run_here_are_refused() {
    let cases = [
        (
            "machine: pc-i440fx-10.1\n",
            "Installed QEMU version '10.0.2' is too old to run machine type 'pc-i440fx-10.1+pve0', \
             please upgrade node 'n1'",
        ),
        (
            "machine: pc-i440fx-9.2+pve7\n",
            "Installed qemu-server (max feature level for 9.2 is pve1) is too old to run machine type \
             'pc-i440fx-9.2+pve7', please upgrade node 'n1'",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected);
    }
    let mut guest = Guest::new("machine: pc-i440fx-2.4\n");
    guest.host.machines.insert("pc-i440fx-10.0".to_owned());
    assert!(guest.build().is_err());
    guest.host.qemu = Version::parse("5.2").unwrap();
    let error = guest.build().unwrap_err().to_string();
    assert_eq!(error, "Detected old QEMU binary ('5.2', at least 6.0 is required)");
}

#[test]
fn keys_that_are_not_carried_out_are_named() {
    for key in [
        "hostpci0: 0000:01:00.0",
        "virtiofs0: dir1",
        "tpmstate0: l-x:t,version=v2.0",
        "arch: aarch64",
    ] {
        let name = key.split_once(':').unwrap().0;
        assert!(
            error(&format!("{key}\n")).starts_with(&format!("unable to use '{name}' - ")),
            "{key}"
        );
    }
    assert!(Guest::new("arch: x86_64\n").build().is_ok());
}

#[test]
fn without_spice_parts_the_picture_is_plain() {
    let mut guest = Guest::new("vga: qxl\nagent: 1\nusb0: spice\n");
    let with = guest.build().unwrap();
    assert_eq!(values(&with, "-spice").len(), 1);
    guest.host.spice = false;
    let without = guest.build().unwrap();
    let words = without.arguments.join(" ");
    assert!(words.contains("VGA,id=vga,bus=pci.0,addr=0x2"), "{words}");
    for gone in ["spice", "vdagent", "usbredir", "qxl"] {
        assert!(!words.contains(gone), "{gone}: {words}");
    }
}

#[test]
fn guests_come_to_life_in_several_ways() {
    let last = |mode: StartMode, qemu: &str| {
        let mut guest = Guest::new("ostype: l26\n").on(qemu, TCG);
        guest.mode = mode;
        let arguments = guest.build().unwrap().arguments;
        let machine = arguments.iter().position(|word| word == "-machine").unwrap();
        arguments[machine + 2..].join(" ")
    };
    let saved = |path: &str| StartMode::Saved(path.into());
    assert_eq!(last(StartMode::Cold, "10.0"), "");
    assert_eq!(last(StartMode::Paused, "10.0"), "-S");
    assert_eq!(
        last(StartMode::Incoming("defer".to_owned()), "10.0"),
        "-incoming defer -S"
    );
    assert_eq!(last(saved("/state.raw"), "10.0"), "-incoming file:/state.raw");
    assert_eq!(last(saved("/state.raw"), "7.2"), "-incoming exec:cat /state.raw");
    assert_eq!(last(saved("/dev/vg/state"), "10.0"), "-incoming exec:cat /dev/vg/state");
}

#[test]
fn extra_arguments_and_affinity_wrap_the_command() {
    let command = Guest::new("affinity: 0,2-3\nargs: -device 'edu,id=a b'\n")
        .build()
        .unwrap();
    assert_eq!(command.program.to_str(), Some("/usr/bin/taskset"));
    assert_eq!(
        command.arguments[..4],
        ["--cpu-list", "--all-tasks", "0,2-3", "/usr/bin/kvm"]
    );
    assert_eq!(command.arguments.last().map(String::as_str), Some("edu,id=a b"));
    assert!(command.for_shell().ends_with("-device 'edu,id=a b'"));
}
