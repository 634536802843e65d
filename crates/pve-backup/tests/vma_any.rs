//! What goes in comes out, and nothing that comes in does harm.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{self, Read};

use common::{check, example, extract_all, seal_extent, seal_header};
use proptest::prelude::*;
use pve_backup::vma::{CLUSTER, Header, Limits, Reader, VmaError, Writer};

/// Hands out a few bytes at a time, as pipes do.
struct Trickle<'a>(&'a [u8], usize);

impl Read for Trickle<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1.wrapping_mul(31).wrapping_add(7);
        if self.1.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = buffer.len().min(self.1 % 9000 + 1);
        (&mut self.0).take(count as u64).read(buffer)
    }
}

/// A device: which of its blocks hold what, and bytes behind its last block.
fn device() -> impl Strategy<Value = Vec<u8>> {
    let block = prop_oneof![3 => Just(0_u8), 1 => any::<u8>()];
    (prop::collection::vec(block, 0..70), 1_usize..=4096).prop_map(|(blocks, tail)| {
        let mut content: Vec<u8> = blocks.iter().flat_map(|byte| [*byte; 4096]).collect();
        content.extend(vec![9; tail]);
        content.truncate(content.len() / 512 * 512);
        if content.is_empty() { vec![3; 512] } else { content }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn archives_round_trip(
        devices in prop::collection::vec(device(), 0..4),
        configs in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..4),
        order in any::<prop::sample::Index>(),
        uuid in any::<[u8; 16]>(),
        ctime in any::<i64>(),
    ) {
        let mut header = Header::new(uuid, ctime);
        for (number, config) in configs.iter().enumerate() {
            header.add_config(&format!("config {number}"), config).unwrap();
        }
        let mut clusters = Vec::new();
        for (number, content) in devices.iter().enumerate() {
            let id = header.add_device(&format!("drive-{number}"), content.len() as u64).unwrap();
            clusters.extend(content.chunks(CLUSTER).enumerate().map(|(at, data)| (at, id, data)));
        }
        // Interleaved, and from somewhere in the middle on.
        clusters.sort_by_key(|(at, id, _)| (*at, *id));
        if !clusters.is_empty() {
            let middle = order.index(clusters.len());
            clusters.rotate_left(middle);
        }
        let mut writer = Writer::new(Vec::new(), header.clone()).unwrap();
        for (at, id, data) in clusters {
            let at = u32::try_from(at).unwrap();
            match data.iter().all(|byte| *byte == 0) {
                true => writer.zero_cluster(id, at).unwrap(),
                false => writer.cluster(id, at, data).unwrap(),
            }
        }
        let (archive, written) = writer.finish().unwrap();

        let mut reader = Reader::open(Trickle(&archive, 1)).unwrap();
        prop_assert_eq!(reader.header(), &header);
        while reader.next_cluster().unwrap().is_some() {}
        prop_assert_eq!(reader.stats(), written);
        let (contents, _) = extract_all(&archive).unwrap();
        for (number, content) in devices.iter().enumerate() {
            prop_assert_eq!(&contents[&format!("drive-{number}")], content);
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..20_000)) {
        prop_assert!(check(&bytes).is_err());
    }
}

/// A change of some bytes at a place that matters, or anywhere.
fn change() -> impl Strategy<Value = (usize, Vec<u8>)> {
    let place = prop_oneof![
        0_usize..64,
        2044_usize..2052,
        3068_usize..3076,
        4128_usize..4160,
        12288_usize..12440,
        12800_usize..13312,
        0_usize..91136,
    ];
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..9),
        Just(vec![0xFF; 4]),
        Just(vec![0; 8]),
        Just(vec![0x80, 0, 0, 0]),
    ];
    (place, bytes)
}

/// What a target may be given: as many bytes as the device has, each place once.
fn walk(archive: &[u8]) -> Result<u64, VmaError> {
    let limits = Limits {
        device_bytes: 1 << 40,
        ..Limits::default()
    };
    let mut reader = Reader::with_limits(archive, &limits)?;
    let mut written = 0;
    while let Some(cluster) = reader.next_cluster()? {
        let size = cluster.device.size;
        let mut last = 0;
        for run in cluster.runs() {
            assert!(run.len > 0 && run.offset >= last && run.offset + run.len <= size);
            assert!(run.data.is_none_or(|data| data.len() as u64 == run.len));
            last = run.offset + run.len;
            written += run.len;
        }
    }
    let whole: u64 = reader
        .header()
        .devices()
        .iter()
        .map(|device| device.size / 512 * 512)
        .sum();
    assert_eq!(written, whole);
    Ok(written)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_archives_are_answered(
        changes in prop::collection::vec(change(), 1..4),
        sealed in any::<(bool, bool)>(),
        cut in prop::option::weighted(0.2, 0_usize..91136),
    ) {
        let mut archive = example();
        for (place, bytes) in changes {
            let end = (place + bytes.len()).min(archive.len());
            archive[place..end].copy_from_slice(&bytes[..end - place]);
        }
        archive.truncate(cut.unwrap_or(archive.len()));
        if sealed.0 {
            seal_header(&mut archive);
        }
        if sealed.1 {
            seal_extent(&mut archive, 12800);
        }
        let _ = walk(&archive);
    }
}
