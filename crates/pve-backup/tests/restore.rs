//! Restoring VMs: real storages, real `qemu-img` and `qemu-nbd`, archives as the writer makes them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

mod common;
mod node;

use std::fs;
use std::process::Command;

use node::{Archive, Node, pattern};
use pve_cfs::Cfs;

/// A disk that ends within a cluster, and one that ends within a block.
fn two_disks() -> (Vec<u8>, Vec<u8>) {
    let mut scsi = pattern(3 * 65536 + 4096 * 3, 1);
    scsi[65536..2 * 65536].fill(0);
    (scsi, pattern(1_049_600, 2))
}

fn two_disk_archive(scsi: &[u8], virtio: &[u8]) -> Archive {
    let config = "#a note\nboot: order=scsi0\nmemory: 64\nname: old\nnet0: virtio=BC:24:11:00:00:01\n\
        scsi0: local:100/vm-100-disk-0.raw,format=raw,size=2G\nide2: none,media=cdrom\n\
        virtio3: local:100/vm-100-disk-1.qcow2,size=1G\nscsi5: local:100/vm-100-disk-9.raw,backup=0\n\
        vmgenid: 11111111-2222-4333-8444-555555555555\nlock: backup\nunused0: local:100/vm-100-disk-7.raw\nparent: x\n\
        #qmdump#map:scsi0:drive-scsi0:local:raw:\n#qmdump#map:virtio3:drive-virtio3:local:qcow2:\n";
    Archive::new(config)
        .device("drive-scsi0", scsi)
        .device("drive-virtio3", virtio)
}

#[test]
fn disks_come_back_byte_by_byte_as_raw_and_qcow2() {
    let node = Node::new();
    let (scsi, virtio) = two_disks();
    let archive = node.store(
        "vzdump-qemu-100-2026_01_02-03_04_05.vma",
        &two_disk_archive(&scsi, &virtio).bytes(),
    );
    let log = node.restore(&archive, |_| ()).unwrap();
    let raw = node.path("images/105/vm-105-disk-0.raw");
    assert_eq!(fs::read(&raw).unwrap(), scsi);
    let qcow2 = node.path("images/105/vm-105-disk-1.qcow2");
    let reference = node.path("reference.raw");
    fs::write(&reference, &virtio).unwrap();
    let compared = Command::new("qemu-img")
        .args(["compare", "-f", "raw", "-F", "qcow2"])
        .args([&reference, &qcow2])
        .output()
        .unwrap();
    assert!(compared.status.success(), "{compared:?}");
    // The zero cluster stays a hole.
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&raw).unwrap());
    assert!(blocks * 512 <= 2 * 65536 + 4 * 4096, "{blocks}");

    let config = node.config();
    let line = |text: &str| assert!(config.lines().any(|line| line == text), "{text}\n{config}");
    line("scsi0: local:105/vm-105-disk-0.raw,size=204K");
    line("virtio3: local:105/vm-105-disk-1.qcow2,size=1025K");
    line("ide2: none,media=cdrom");
    line("net0: virtio=BC:24:11:00:00:01");
    line("#scsi5%3A local%3A100/vm-100-disk-9.raw,backup=0");
    assert!(
        !config.contains("lock") && !config.contains("unused") && !config.contains("parent"),
        "{config}"
    );
    assert!(config.contains("vmgenid: ") && !config.contains("11111111"), "{config}");

    let pid = std::process::id();
    let shown = archive_path(&node, "vzdump-qemu-100-2026_01_02-03_04_05.vma");
    let expected = [
        format!("restore vma archive: vma extract -v -r /var/tmp/vzdumptmp{pid}.fifo {shown} /var/tmp/vzdumptmp{pid}"),
        format!(
            "CFG: size: {} name: qemu-server.conf",
            two_disk_archive(&scsi, &virtio).config.len()
        ),
        "DEV: dev_id=1 size: 208896 devname: drive-scsi0".to_owned(),
        "DEV: dev_id=2 size: 1049600 devname: drive-virtio3".to_owned(),
        "new volume ID is 'local:105/vm-105-disk-0.raw'".to_owned(),
        "new volume ID is 'local:105/vm-105-disk-1.qcow2'".to_owned(),
        format!("map 'drive-scsi0' to '{}' (write zeros = 0)", raw.display()),
        format!("map 'drive-virtio3' to '{}' (write zeros = 0)", qcow2.display()),
        "rescan volumes...".to_owned(),
    ];
    let mut rest = log.iter();
    for line in &expected {
        assert!(rest.any(|told| told == line), "{line}\n{log:#?}");
    }
    assert!(
        log.iter().any(|line| line.starts_with("progress 100% (read ")),
        "{log:#?}"
    );
    assert!(
        log.iter()
            .any(|line| line.starts_with("total bytes read 1376256, sparse bytes 65536 (4.76%)")),
        "{log:#?}"
    );
    assert!(node.leftovers().is_empty(), "{:?}", node.leftovers());
}

fn archive_path(node: &Node, name: &str) -> String {
    node.path(&format!("dump/{name}")).display().to_string()
}

#[test]
fn compressed_archives_are_decompressed() {
    let node = Node::new();
    for (program, extension) in [("zstd", "zst"), ("gzip", "gz"), ("bzip2", "bz2"), ("lzop", "lzo")] {
        let disk = pattern(70_000 / 512 * 512, 3);
        let name = format!("vzdump-qemu-100-2026_01_02-03_04_05.vma.{extension}");
        let archive = node.store_compressed(&name, &Archive::one_disk(&disk).bytes(), program);
        let log = node.restore(&archive, |_| ()).unwrap();
        assert!(
            log.iter()
                .any(|line| line.contains(&format!("{name} | vma extract -v -r "))),
            "{log:#?}"
        );
        assert_eq!(
            fs::read(node.path("images/105/vm-105-disk-0.raw")).unwrap()[..disk.len()],
            disk
        );
        node.forget();
    }
}

#[test]
fn a_decompressor_is_held_to_the_limit_and_the_end_is_the_same() {
    let node = Node::new();
    let disk = pattern(300 * 1024, 4);
    let name = "vzdump-qemu-100-2026_01_02-03_04_05.vma.gz";
    let archive = node.store_compressed(name, &Archive::one_disk(&disk).bytes(), "gzip");
    let started = std::time::Instant::now();
    let log = node.restore(&archive, |order| order.bwlimit = Some(200.0)).unwrap();
    assert!(started.elapsed().as_millis() >= 900, "{:?}", started.elapsed());
    assert!(log.contains(&"applying read rate limit: 200".to_owned()), "{log:#?}");
    assert!(
        log.contains(&"rate limit for storage local: 200 KiB/s".to_owned()),
        "{log:#?}"
    );
    assert_eq!(fs::read(node.path("images/105/vm-105-disk-0.raw")).unwrap(), disk);
}

#[test]
fn damaged_archives_leave_no_volumes_and_no_lock() {
    let node = Node::new();
    let disk = pattern(5 * 65536, 5);
    let good = Archive::one_disk(&disk).bytes();
    let mut flipped_header = good.clone();
    flipped_header[100] ^= 1;
    let mut flipped_extent = good.clone();
    let extent = good.windows(4).position(|bytes| bytes == b"VMAE").unwrap();
    flipped_extent[extent + 9] ^= 1;
    let short = good[..good.len() - 1].to_vec();
    let missing = good[..extent].to_vec();
    let cases: [(&str, &[u8], &str); 6] = [
        ("header", &flipped_header, "wrong vma header chechsum"),
        ("extent", &flipped_extent, "wrong vma extent header chechsum"),
        ("short", &short, "short vma extent (328191 < 328192)"),
        ("missing", &missing, "detected missing cluster 0 for stream drive-scsi0"),
        ("empty", b"", "can't read vma header - got EOF"),
        ("other", &[b'x'; 20_000], "not a vma file - wrong magic number"),
    ];
    for (what, bytes, expected) in cases {
        let archive = node.store("vzdump-qemu-100-2026_01_02-03_04_05.vma", bytes);
        let (error, log) = node.restore(&archive, |_| ()).unwrap_err();
        assert_eq!(error, expected, "{what}");
        let told = "error before or during data restore, some or all disks were not completely restored. \
            VM 105 state is NOT cleaned up.";
        assert!(log.contains(&told.to_owned()), "{log:#?}");
        if ["extent", "short", "missing"].contains(&what) {
            let freed = "temporary volume 'local:105/vm-105-disk-0.raw' successfully removed";
            assert!(log.contains(&freed.to_owned()), "{log:#?}");
        }
        assert!(node.images().is_empty(), "{:?}", node.images());
        assert!(!node.config().contains("lock"), "{}", node.config());
        node.forget();
    }
}

#[test]
fn what_a_decompressor_says_is_the_reason() {
    let node = Node::new();
    let name = "vzdump-qemu-100-2026_01_02-03_04_05.vma.zst";
    let archive = node.store(name, b"this is not compressed at all");
    let (error, _) = node.restore(&archive, |_| ()).unwrap_err();
    assert!(
        error.starts_with("command 'zstd -q -d -c /") && error.contains("unsupported format"),
        "{error}"
    );
    node.forget();
    let whole = Archive::one_disk(&pattern(1 << 20, 6)).bytes();
    node.store_compressed(name, &whole, "zstd");
    let path = node.path(&format!("dump/{name}"));
    let compressed = fs::read(&path).unwrap();
    fs::write(&path, &compressed[..compressed.len() / 2]).unwrap();
    let (error, _) = node.restore(&archive, |_| ()).unwrap_err();
    assert!(error.starts_with("command 'zstd -q -d -c /"), "{error}");
    assert!(node.images().is_empty(), "{:?}", node.images());
}

#[test]
fn a_full_storage_ends_the_restore_and_is_empty_again() {
    let node = Node::new();
    let small = node.small_storage(256 * 1024);
    let archive = node.store(
        "vzdump-qemu-100-2026_01_02-03_04_05.vma",
        &Archive::one_disk(&pattern(1 << 20, 7)).bytes(),
    );
    let (error, log) = node
        .restore(&archive, |order| order.storage = Some("small".parse().unwrap()))
        .unwrap_err();
    assert_eq!(error, "unable to write device 'drive-scsi0' - No space left on device");
    let freed = "temporary volume 'small:105/vm-105-disk-0.raw' successfully removed";
    assert!(log.contains(&freed.to_owned()), "{log:#?}");
    assert!(!small.path().join("images/105/vm-105-disk-0.raw").exists());
}

#[test]
fn an_interrupt_ends_the_restore_and_cleans_up() {
    let node = Node::new();
    for at in ["CTIME", "new volume", "map", "progress 40%", "progress 100%"] {
        let archive = node.store(
            "vzdump-qemu-100-2026_01_02-03_04_05.vma",
            &Archive::one_disk(&pattern(10 * 65536, 8)).bytes(),
        );
        let (error, log) = node.restore_interrupted(&archive, at).unwrap_err();
        assert_eq!(error, "interrupted by signal", "{at}\n{log:#?}");
        assert!(node.images().is_empty(), "{at}: {:?}", node.images());
        assert!(!node.config().contains("lock"), "{}", node.config());
        node.forget();
    }
}

#[test]
fn a_vm_that_is_overwritten_keeps_the_disks_that_the_archive_does_not_have() {
    let node = Node::new();
    node.image("vm-105-disk-0.raw", b"old scsi0");
    node.image("vm-105-disk-1.raw", b"old scsi7");
    node.image("vm-105-disk-2.raw", b"old unused");
    node.image("vm-105-disk-3.raw", b"nobody's");
    node.image("vm-105-cloudinit.qcow2", b"x");
    node.image("vm-105-state-s1.raw", b"x");
    node.write_config(
        "args: -old\ncores: 9\nide2: local:105/vm-105-cloudinit.qcow2,media=cdrom\n\
         scsi0: local:105/vm-105-disk-0.raw\nscsi7: local:105/vm-105-disk-1.raw\n\
         unused4: local:105/vm-105-disk-2.raw\n\n[s1]\nscsi7: local:105/vm-105-disk-1.raw\n\
         vmstate: local:105/vm-105-state-s1.raw\n",
    );
    let disk = pattern(65536, 9);
    let config = "ide0: local:100/vm-100-cloudinit.qcow2,media=cdrom\nscsi0: local:100/vm-100-disk-0.raw\n\
        #qmdump#map:scsi0:drive-scsi0:local:raw:\n";
    let bytes = Archive::new(config)
        .device("drive-scsi0", &disk)
        .firewall("[OPTIONS]\nenable: 1\n")
        .bytes();
    let archive = node.store("vzdump-qemu-100-2026_01_02-03_04_05.vma", &bytes);
    let log = node.restore_over(&archive, |_| ()).unwrap();
    let config = node.config();
    let volume = config.lines().find_map(|line| line.strip_prefix("scsi0: ")).unwrap();
    let file = volume.split([':', ',']).nth(1).unwrap();
    assert_eq!(fs::read(node.path(&format!("images/{file}"))).unwrap(), disk);
    assert!(
        config.contains("ide0: local:105/vm-105-cloudinit.qcow2,media=cdrom"),
        "{config}"
    );
    assert!(
        !config.contains("args") && !config.contains("cores") && !config.contains("[s1]"),
        "{config}"
    );
    let kept: Vec<&str> = config.lines().filter(|line| line.starts_with("unused")).collect();
    assert_eq!(
        kept,
        [
            "unused0: local:105/vm-105-disk-1.raw",
            "unused1: local:105/vm-105-disk-2.raw",
            "unused2: local:105/vm-105-disk-3.raw"
        ],
        "{log:#?}"
    );
    assert!(log.contains(&"add unreferenced volume 'local:105/vm-105-disk-3.raw' as 'unused2' to config".to_owned()));
    assert_eq!(
        fs::read(node.path("images/105/vm-105-disk-1.raw")).unwrap(),
        b"old scsi7"
    );
    assert!(!node.path("images/105/vm-105-state-s1.raw").exists());
    let firewall = Cfs::new(&node.context).read_text("firewall/105.fw").unwrap();
    assert_eq!(firewall.as_deref(), Some("[OPTIONS]\nenable: 1\n"));
}

/// A drive of the archived config may have no data there: the small disk of a firmware that the VM does not use.
#[test]
fn a_drive_without_data_in_the_archive_keeps_its_volume_for_itself() {
    let node = Node::new();
    for (name, content) in [
        ("vm-105-disk-0.raw", b"scsi"),
        ("vm-105-disk-1.raw", b"vars"),
        ("vm-105-disk-2.raw", b"none"),
    ] {
        node.image(name, content);
    }
    // Here the number of the volume that the archive calls the firmware's is a drive's that is restored.
    node.write_config(
        "scsi0: local:105/vm-105-disk-0.raw\nscsi1: local:105/vm-105-disk-1.raw\n\
         scsi2: local:105/vm-105-disk-2.raw,backup=0\n",
    );
    let disk = pattern(65536, 9);
    let config = "efidisk0: local:105/vm-105-disk-1.raw,size=4M\nscsi0: local:105/vm-105-disk-0.raw\n\
        scsi1: local:105/vm-105-disk-5.raw\nscsi2: local:105/vm-105-disk-2.raw,backup=0\n\
        #qmdump#map:scsi0:drive-scsi0:local:raw:\n#qmdump#map:scsi1:drive-scsi1:local:raw:\n";
    let bytes = Archive::new(config)
        .device("drive-scsi0", &disk)
        .device("drive-scsi1", &disk)
        .bytes();
    let archive = node.store("vzdump-qemu-105-2026_01_02-03_04_05.vma", &bytes);
    node.restore_over(&archive, |_| ()).unwrap();
    for _ in 0..2 {
        let config = node.config();
        let naming = |name: &str| {
            let lines = config
                .lines()
                .filter(|line| line.contains(name) && !line.starts_with('#'));
            lines.map(|line| line.split(':').next().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(naming("vm-105-disk-1.raw"), ["efidisk0"], "{config}");
        let unused = naming("vm-105-disk-2.raw");
        assert!(unused.len() == 1 && unused[0].starts_with("unused"), "{config}");
        for (name, content) in [("vm-105-disk-1.raw", b"vars"), ("vm-105-disk-2.raw", b"none")] {
            assert_eq!(fs::read(node.path(&format!("images/105/{name}"))).unwrap(), content);
        }
        assert_eq!(node.images().len(), 4, "{:?}", node.images());
        // Once more, over what is there now.
        node.restore_over(&archive, |_| ()).unwrap();
    }
}

#[test]
fn a_new_volume_is_not_also_that_of_a_drive_without_data() {
    let node = Node::new();
    let disk = pattern(65536, 9);
    let config = "efidisk0: local:105/vm-105-disk-0.raw,size=4M\nscsi0: local:105/vm-105-disk-1.raw\n\
        #qmdump#map:scsi0:drive-scsi0:local:raw:\n";
    let bytes = Archive::new(config).device("drive-scsi0", &disk).bytes();
    node.restore(&node.store("vzdump-qemu-105-2026_01_02-03_04_05.vma", &bytes), |_| ())
        .unwrap();
    let config = node.config();
    assert!(
        config.contains("scsi0: local:105/vm-105-disk-0.raw,size=64K"),
        "{config}"
    );
    assert!(!config.lines().any(|line| line.starts_with("efidisk0")), "{config}");
}

#[test]
fn a_bad_archive_does_not_touch_the_vm_that_it_should_overwrite() {
    let node = Node::new();
    node.image("vm-105-disk-0.raw", b"precious");
    let config = "cores: 9\nscsi0: local:105/vm-105-disk-0.raw\n";
    let disk = [1; 65536];
    let no_map = Archive::new("scsi0: local:100/vm-100-disk-0.raw\n").device("drive-scsi0", &disk);
    let no_data = Archive::new("scsi0: x:y\n#qmdump#map:scsi0:drive-scsi0:local:raw:\n");
    let twice = Archive::new("#qmdump#map:scsi0:drive-scsi0:local:raw:\n#qmdump#map:scsi1:drive-scsi0:local:raw:\n")
        .device("drive-scsi0", &disk);
    let odd = Archive::new("#qmdump#map:unused0:drive-scsi0:local:raw:\n").device("drive-scsi0", &disk);
    let no_images = Archive::new("#qmdump#map:scsi0:drive-scsi0:backups:raw:\n").device("drive-scsi0", &disk);
    let nowhere = Archive::new("#qmdump#map:scsi0:drive-scsi0:gone:raw:\n").device("drive-scsi0", &disk);
    let hidden = Archive::new("name: a\rargs: -S\n");
    let cases = [
        (no_map, "found no device mapping information for device 'drive-scsi0'"),
        (no_data, "archive does not contain data for drive 'scsi0'"),
        (twice, "archive maps 'scsi1' more than once"),
        (odd, "archive contains data for unknown drive 'unused0'"),
        (no_images, "Content type 'images' is not available on storage 'backups'"),
        (nowhere, "storage 'gone' does not exist"),
        (
            hidden,
            "configuration in archive contains a control character in line 1",
        ),
    ];
    for (archive, expected) in cases {
        node.write_config(config);
        let archive = node.store("vzdump-qemu-100-2026_01_02-03_04_05.vma", &archive.bytes());
        let (error, log) = node.restore_over(&archive, |_| ()).unwrap_err();
        assert_eq!(error, expected, "{log:#?}");
        assert_eq!(node.config(), config);
        assert_eq!(
            fs::read(node.path("images/105/vm-105-disk-0.raw")).unwrap(),
            b"precious"
        );
    }
}

#[test]
fn an_archive_hands_out_nothing_that_its_caller_may_not_set() {
    let node = Node::new();
    node.image("vm-105-disk-0.raw", b"precious");
    let allowed = "cores: 4\nmeta: creation-qemu=10.0.2,ctime=1\nname: a\nnet0: virtio=BC:24:11:00:00:01\nonboot: 1\n\
        startup: order=1\nvmgenid: 11111111-2222-4333-8444-555555555555\n";
    let refused = [
        ("args: -S\n", "only root can set 'args' config"),
        (
            "hookscript: local:snippets/x\n",
            "only root can set 'hookscript' config",
        ),
        (
            "hostpci0: 0000:01:00.0\n",
            "only root can set 'hostpci0' config for real devices",
        ),
        (
            "serial0: /dev/ttyS0\n",
            "only root can set 'serial0' config for real devices",
        ),
        (
            "usb0: host=1234:5678\n",
            "only root can set 'usb0' config for real devices",
        ),
        ("scsi1: /dev/sda\n", "Only root can pass arbitrary filesystem paths."),
        ("cdrom: cdrom\n", "Permission check failed (/, Sys.Console)"),
        (
            "scsi1: local:101/vm-101-disk-0.raw\n",
            "Permission check failed (/storage/local, Datastore.Audit)",
        ),
        (
            "net0: virtio=BC:24:11:00:00:01,bridge=vmbr0\n",
            "Permission check failed (/sdn/zones/localnetwork/vmbr0, SDN.Use)",
        ),
        (
            "usb0: mapping=m1\n",
            "Permission check failed (/mapping/usb/m1, Mapping.Use)",
        ),
        (
            "scsi0: local:100/x.raw\n#qmdump#map:scsi0:drive-scsi0:local:raw:\n",
            "Permission check failed (/storage/local, Datastore.AllocateSpace)",
        ),
    ];
    for (line, expected) in refused {
        node.write_config("cores: 9\n");
        let mut archive = Archive::new(&format!("{allowed}{line}"));
        if line.contains("#qmdump#") {
            archive = archive.device("drive-scsi0", &[1; 4096]);
        }
        let archive = node.store("vzdump-qemu-100-2026_01_02-03_04_05.vma", &archive.bytes());
        let (error, _) = node.restore_over_as("joe@pve", &archive).unwrap_err();
        assert_eq!(error, expected, "{line}");
        assert_eq!(node.config(), "cores: 9\n");
    }
    // What the VM has already is nothing new, and what needs only privileges on the VM comes with its restore.
    node.write_config("args: -S\n");
    let archive = node.store(
        "vzdump-qemu-100-2026_01_02-03_04_05.vma",
        &Archive::new(&format!("args: -S\n{allowed}")).bytes(),
    );
    node.restore_over_as("joe@pve", &archive).unwrap();
    assert!(node.config().starts_with("args: -S\ncores: 4\n"), "{}", node.config());
    // Root may all of that.
    let archive = node.store(
        "vzdump-qemu-100-2026_01_02-03_04_05.vma",
        &Archive::new("args: -S\nserial0: /dev/ttyS0\n").bytes(),
    );
    node.restore_over(&archive, |_| ()).unwrap();
    assert!(node.config().contains("serial0: /dev/ttyS0"));
}

#[test]
fn own_values_go_over_the_archive_and_a_copy_is_somebody_else() {
    let node = Node::new();
    let config =
        "cores: 4\nname: old\nnet0: virtio=BC:24:11:00:00:01\nsmbios1: uuid=11111111-2222-4333-8444-555555555555\n";
    let archive = node.store("vzdump-qemu-100-2026_01_02-03_04_05.vma", &Archive::new(config).bytes());
    let log = node
        .restore(&archive, |order| {
            order.unique = true;
            order.own.set.insert("name".to_owned(), "new".to_owned());
            order.own.set.insert("tags".to_owned(), "B;a".to_owned());
            order.own.pool = Some("p1".to_owned());
        })
        .unwrap();
    let config = node.config();
    assert!(
        config.contains("cores: 4\nname: new\n") && config.contains("tags: a;b\n"),
        "{config}"
    );
    assert!(!config.contains("00:00:01") && !config.contains("11111111"), "{config}");
    assert!(
        log.contains(&"vma archive contains no image data".to_owned()),
        "{log:#?}"
    );
    let users = Cfs::new(&node.context).read_text("user.cfg").unwrap().unwrap();
    assert!(users.contains("pool:p1::105:"), "{users}");
}

#[test]
fn values_that_do_not_fit_leave_the_disks_where_they_can_be_found() {
    let node = Node::new();
    let archive = node.store(
        "vzdump-qemu-100-2026_01_02-03_04_05.vma",
        &Archive::one_disk(&pattern(65536, 3)).bytes(),
    );
    let (error, log) = node
        .restore(&archive, |order| {
            order.own.set.insert("boot".to_owned(), "order=scsi9".to_owned());
        })
        .unwrap_err();
    assert_eq!(error, "invalid bootorder: device 'scsi9' does not exist'");
    let told = "error after data was restored, VM disks should be OK but config may require adaptions. \
        VM 105 state is NOT cleaned up.";
    assert!(log.contains(&told.to_owned()), "{log:#?}");
    assert!(
        node.config().contains("unused0: local:105/vm-105-disk-0.raw"),
        "{}",
        node.config()
    );
    assert!(!node.config().contains("lock"));
}

#[test]
fn only_backups_of_vms_are_taken() {
    let node = Node::new();
    for (name, expected) in [
        (
            "vzdump-lxc-100-2026_01_02-03_04_05.tar",
            "unable to restore a VM from 'local:backup/vzdump-lxc-100-2026_01_02-03_04_05.tar' - not a backup of a VM",
        ),
        ("foo.vma", "ERROR: couldn't determine archive info from 'foo.vma'"),
        (
            "vzdump-qemu-100-2026_01_02-03_04_05.tar",
            "restoring a VM from a '.tar' archive is not supported by this build yet",
        ),
    ] {
        let archive = node.store(name, b"x");
        let (error, _) = node.restore(&archive, |_| ()).unwrap_err();
        assert_eq!(error, expected);
        node.forget();
    }
    let (error, _) = node
        .restore("local:backup/vzdump-qemu-100-2026_01_02-03_04_06.vma", |_| ())
        .unwrap_err();
    assert!(
        error.starts_with("unable to open archive '/") && error.ends_with("No such file or directory"),
        "{error}"
    );
}
