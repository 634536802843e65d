//! Byte-exact vectors of the archive format: reference 05 §13.5, §13.6, §18.7.

#![allow(clippy::unwrap_used)]

mod common;

use common::{check, disk, diskless, example, extract_all, seal_extent, seal_header};
use pve_backup::vma::{CLUSTER, Device, Header, Plan, Reader, VmaError, Writer};
use sha2::{Digest, Sha256};

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Where the extent of the examples begins.
const EXTENT: usize = 12800;

#[test]
fn the_verified_example_is_written_byte_by_byte() {
    let archive = example();
    assert_eq!(
        hex::encode(&archive[..60]),
        "564d41000000000100112233445566778899aabbccddeeff000000006a8666add44c4e3ebfa0556c1e58091b3014cfbe\
         000030000000009100003200"
    );
    assert_eq!(
        hex::encode(&archive[12288..12312]),
        "00110071656d752d7365727665722e636f6e66006d006e61"
    );
    assert_eq!(hex::encode(&archive[EXTENT + 6..EXTENT + 8]), "0013");
    assert_eq!(
        hex::encode(&archive[EXTENT + 24..EXTENT + 40]),
        "b69c4e0c0c4473e7b9750c007500d5fd"
    );
    assert_eq!(
        hex::encode(&archive[EXTENT + 40..EXTENT + 80]),
        "00050001000000000000000100000001ffff00010000000200010001000000030000000000000000"
    );
    assert_eq!(archive.len(), 91136);
    assert_eq!(
        sha256(&archive),
        "1a1bd35619498492f26bbba1d9fb7f495725497c15516a707e12b8f5c3ffb406"
    );
}

#[test]
fn the_verified_example_is_read() {
    let archive = example();
    let reader = Reader::open(archive.as_slice()).unwrap();
    let header = reader.header();
    assert_eq!((header.uuid, header.ctime), (common::UUID, common::CTIME));
    assert_eq!(header.config("qemu-server.conf"), Some(common::CONFIG.as_bytes()));
    let devices: Vec<(u8, &str, u64)> = header
        .devices()
        .iter()
        .map(|device| (device.id.get(), device.name.as_str(), device.size))
        .collect();
    assert_eq!(devices, [(1, "drive-scsi0", 197_120)]);

    let (contents, stats) = extract_all(&archive).unwrap();
    assert_eq!(contents["drive-scsi0"], disk());
    assert_eq!(
        (stats.clusters, stats.zero_clusters, stats.zero_blocks),
        (4, 1, 14 + 15)
    );
}

#[test]
fn an_archive_without_disks_is_a_header_and_an_empty_extent() {
    let archive = diskless();
    assert_eq!(archive.len(), 13312);
    assert_eq!(hex::encode(&archive[32..48]), "e0013fa56644371db1c5e5da3212f4bf");
    assert_eq!(hex::encode(&archive[52..56]), "00000021");
    assert_eq!(
        hex::encode(&archive[EXTENT + 24..EXTENT + 40]),
        "cc95cee8c776919b2b53062342c76f4d"
    );
    assert_eq!(
        sha256(&archive),
        "1bddfed98ac0d626426a6c63aaef54630b38ccf823107cf3af79a8db74875760"
    );
    assert_eq!(check(&archive).unwrap().clusters, 0);
}

/// An archive of one device of so many full clusters.
fn full(clusters: u32) -> Vec<u8> {
    let mut header = Header::new(common::UUID, 0);
    let id = header.add_device("drive-virtio0", u64::from(clusters) * 65536).unwrap();
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    for cluster in 0..clusters {
        writer.cluster(id, cluster, &[7; CLUSTER]).unwrap();
    }
    writer.finish().unwrap().0
}

#[test]
fn sixty_clusters_are_two_extents() {
    let archive = full(60);
    let blocks = |at: usize| u16::from_be_bytes([archive[at + 6], archive[at + 7]]);
    let second = EXTENT + 512 + 58 * CLUSTER;
    assert_eq!((blocks(EXTENT), blocks(second)), (928, 32));
    assert_eq!(archive.len(), second + 512 + 2 * CLUSTER);
    assert_eq!(check(&archive).unwrap().clusters, 60);
}

#[test]
fn extents_of_59_clusters_are_read() {
    // The last slot, which the writer leaves empty, gets the cluster of an extent that is cut off.
    let mut archive = full(59);
    let second = EXTENT + 512 + 58 * CLUSTER;
    let info = archive[second + 40..second + 48].to_vec();
    archive[EXTENT + 40 + 58 * 8..EXTENT + 512].copy_from_slice(&info);
    archive[EXTENT + 6..EXTENT + 8].copy_from_slice(&944_u16.to_be_bytes());
    seal_extent(&mut archive, EXTENT);
    archive.drain(second..second + 512);
    assert_eq!(check(&archive).unwrap().clusters, 59);
}

/// What is done to an archive.
type Change<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn corruptions_are_told_as_upstream_tells_them() {
    let message = |change: Change| {
        let mut archive = example();
        change(&mut archive);
        match check(&archive) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let device = 4096 + 32;
    let cases: &[(&str, Change)] = &[
        // §18.7
        ("wrong vma header chechsum", &|a| a[100] ^= 1),
        ("wrong vma extent header chechsum", &|a| a[EXTENT + 8] ^= 1),
        ("short vma extent (78335 < 78336)", &|a| a.truncate(91135)),
        ("fine", &|a| a[EXTENT + 600] ^= 1),
        // §13.3
        ("can't read vma header - got EOF", &|a| a.truncate(12287)),
        ("can't read vma header - got EOF", &|a| a.truncate(12799)),
        ("not a vma file - wrong magic number", &|a| a[3] = b'1'),
        ("wrong vma header size 12287", &|a| {
            a[56..60].copy_from_slice(&12287_u32.to_be_bytes());
        }),
        ("wrong vma header size 4294967295", &|a| a[56..60].fill(0xFF)),
        ("wrong vma version 2", &|a| {
            a[7] = 2;
            seal_header(a);
        }),
        ("wrong vma blob buffer offset 12289", &|a| {
            a[51] = 1;
            seal_header(a);
        }),
        ("wrong vma blob buffer size 513/512", &|a| {
            a[52..56].copy_from_slice(&513_u32.to_be_bytes());
            seal_header(a);
        }),
        ("vma contains invalid data pointers", &|a| {
            a[2044..2048].copy_from_slice(&145_u32.to_be_bytes());
            seal_header(a);
        }),
        ("vma contains invalid data pointers", &|a| {
            // A name that leads out of the directory.
            a[12291] = b'/';
            seal_header(a);
        }),
        ("vma devices are too large (18446744073709551615 bytes)", &|a| {
            a[device + 8..device + 16].fill(0xFF);
            seal_header(a);
        }),
        ("got wrong dev id 1", &|a| {
            a[device + 8..device + 16].fill(0);
            seal_header(a);
        }),
        ("read short extent (511 bytes)", &|a| a.truncate(EXTENT + 511)),
        ("wrong vma extent uuid", &|a| {
            a[EXTENT + 8] ^= 1;
            seal_extent(a, EXTENT);
        }),
        ("wrong vma extent header magic", &|a| {
            a[EXTENT] = b'v';
            seal_extent(a, EXTENT);
        }),
        ("got wrong dev id 255", &|a| {
            a[EXTENT + 43] = 255;
            seal_extent(a, EXTENT);
        }),
        ("found duplicated cluster 0 for stream drive-scsi0", &|a| {
            a[EXTENT + 55] = 0;
            seal_extent(a, EXTENT);
        }),
        ("short vma extent - too many blocks", &|a| {
            a[EXTENT + 49] = 1;
            seal_extent(a, EXTENT);
        }),
        ("vma extent error - missing blocks", &|a| {
            a[EXTENT + 57] = 0xFE;
            seal_extent(a, EXTENT);
        }),
        ("vma extent error - missing blocks", &|a| {
            a[EXTENT + 6..EXTENT + 8].fill(0xFF);
            seal_extent(a, EXTENT);
        }),
        ("got wrong block address - write beyond end", &|a| {
            a[EXTENT + 71] = 4;
            seal_extent(a, EXTENT);
        }),
        ("got wrong block address - write beyond end", &|a| {
            // The second block of a cluster of 512 bytes.
            a[EXTENT + 65] = 2;
            seal_extent(a, EXTENT);
        }),
        ("detected missing cluster 0 for stream drive-scsi0", &|a| {
            a.truncate(EXTENT);
        }),
        ("detected missing cluster 1 for stream drive-scsi0", &|a| {
            // The slot of the zero cluster is not used.
            a[EXTENT + 51] = 0;
            seal_extent(a, EXTENT);
        }),
    ];
    for (expected, change) in cases {
        assert_eq!(message(*change), *expected);
    }
}

#[test]
fn after_an_error_there_is_only_that_error() {
    let mut archive = example();
    archive[EXTENT + 55] = 0;
    seal_extent(&mut archive, EXTENT);
    let mut reader = Reader::open(archive.as_slice()).unwrap();
    assert!(reader.next_cluster().is_ok());
    let error = reader.next_cluster().unwrap_err();
    for _ in 0..3 {
        assert_eq!(reader.next_cluster().unwrap_err(), error);
    }
}

#[test]
fn memory_of_a_vm_comes_in_order() {
    let mut header = Header::new(common::UUID, 0);
    let id = header.add_device("vmstate", 3 * 65536).unwrap();
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    for cluster in [0, 2, 1] {
        writer.zero_cluster(id, cluster).unwrap();
    }
    let archive = writer.finish().unwrap().0;
    assert_eq!(
        check(&archive).unwrap_err().to_string(),
        "got wrong cluster 2 for stream vmstate, expected 1"
    );
}

#[test]
fn the_writer_refuses_what_makes_no_archive() {
    let mut header = Header::new(common::UUID, 0);
    for name in ["", "..", "a/b", "a\0b", "a\nb"] {
        assert_eq!(header.add_config(name, b""), Err(VmaError::Name(name.to_owned())));
    }
    header.add_config("a", b"").unwrap();
    assert_eq!(
        header.add_config("a", b""),
        Err(VmaError::DuplicateName("a".to_owned()))
    );
    assert_eq!(
        header.add_config("b", &[0; 65536]),
        Err(VmaError::ConfigTooLarge("b".to_owned()))
    );
    assert!(matches!(header.add_device("x", 0), Err(VmaError::DeviceSize { .. })));
    assert!(matches!(
        header.add_device("x", (1 << 48) + 1),
        Err(VmaError::DeviceSize { .. })
    ));
    let id = header.add_device("x", 65537).unwrap();
    let mut writer = Writer::new(Vec::new(), header).unwrap();
    assert!(matches!(
        writer.cluster(id, 1, &[1; 2]),
        Err(VmaError::ClusterSize { expected: 1, .. })
    ));
    writer.cluster(id, 1, &[1]).unwrap();
    assert!(matches!(
        writer.zero_cluster(id, 1),
        Err(VmaError::DuplicateCluster { cluster: 1, .. })
    ));
    assert_eq!(writer.zero_cluster(id, 2), Err(VmaError::BeyondEnd));
    assert!(matches!(
        writer.finish(),
        Err(VmaError::MissingCluster { cluster: 0, .. })
    ));
}

#[test]
fn many_configurations_end_at_the_limit_of_the_header() {
    let mut header = Header::new(common::UUID, 0);
    for number in 0..8 {
        header.add_config(&format!("c{number}"), &[b'x'; 65535]).unwrap();
    }
    assert!(matches!(
        Writer::new(Vec::new(), header),
        Err(VmaError::ConfigTooLarge(name)) if name == "c7"
    ));
}

#[test]
fn a_failing_output_is_told() {
    let error = |archive: &mut [u8]| {
        let mut header = Header::new(common::UUID, 0);
        let id = header.add_device("x", 65536).unwrap();
        let mut writer = Writer::new(archive, header).unwrap();
        writer.cluster(id, 0, &[1; CLUSTER]).unwrap();
        writer.finish().map(|(_, stats)| stats.clusters)
    };
    assert_eq!(error(&mut vec![0; 1 << 20]), Ok(1));
    assert_eq!(
        error(&mut [0; 20000]).unwrap_err().to_string(),
        "vma write error - failed to write whole buffer"
    );
}

#[test]
fn targets_have_the_size_of_their_device() {
    const MIB: u64 = 1024 * 1024;
    let archive = example();
    let reader = Reader::open(archive.as_slice()).unwrap();
    let device: &Device = &reader.header().devices()[0];
    let offer = |size: u64| Plan::new().target(device, common::Memory::new(size), true);
    assert_eq!(offer(197_120), Ok(()));
    assert_eq!(offer(197_120 + 4 * MIB), Ok(()));
    assert_eq!(
        offer(197_119).unwrap_err().to_string(),
        "unexpected size 197119 != 197120"
    );
    assert!(offer(197_121 + 4 * MIB).is_err());
}
