//! Between the connections, which take what QEMU writes, and the thread that writes the archive.
//!
//! The buffers are few and go round: a connection that gets none does not read its socket, and QEMU waits. Once the queue
//! discards, nobody waits here any more, whatever the output does.

use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::CopyError;
use super::progress::Counts;
use crate::nbd::{MAX_PIECE, Target};
use crate::vma::{CLUSTER, Device, DeviceId, Writer};

/// Buffers of [`MAX_PIECE`] bytes: enough for several requests of QEMU to be on their way while an extent is written.
const BUFFERS: usize = 8;
/// Most pieces that wait; those of zeros have no buffer.
const MAX_WAITING: usize = 256;

/// What an error number says to QEMU before the jobs are started.
const EINVAL: u32 = crate::nbd::wire::error::EINVAL;

/// A piece of a device.
#[derive(Debug)]
struct Piece {
    device: DeviceId,
    offset: u64,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Data { buffer: Box<[u8]>, length: usize },
    Zeros(u64),
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Piece>,
    /// Buffers that are not in use.
    free: Vec<Box<[u8]>>,
    /// Buffers that were made.
    made: usize,
    /// Bytes that came of each device, in the order of devices.
    arrived: Vec<u64>,
    counts: Counts,
    /// The jobs are active: see the rule in the module above.
    is_armed: bool,
    /// Nothing is wanted any more.
    is_discarding: bool,
    /// Nothing comes any more.
    is_closed: bool,
    failure: Option<CopyError>,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue {
    devices: Vec<Device>,
    state: Mutex<State>,
    /// Something is to be written, or nothing comes any more.
    filled: Condvar,
    /// A buffer or a place is free, or nothing is wanted any more.
    emptied: Condvar,
    /// A device is complete, or something failed.
    noted: Condvar,
}

impl Queue {
    /// A queue for these devices.
    pub(super) fn new(devices: &[Device]) -> Self {
        let state = State {
            arrived: vec![0; devices.len()],
            ..State::default()
        };
        Self {
            devices: devices.to_vec(),
            state: Mutex::new(state),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            noted: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The jobs are about to start: from now on no write is answered with an error.
    pub(super) fn arm(&self) {
        self.lock().is_armed = true;
    }

    /// From now on everything is acknowledged and dropped.
    pub(super) fn discard(&self) {
        let mut state = self.lock();
        state.is_discarding = true;
        state.waiting.clear();
        self.wake_all();
    }

    /// Something went wrong: the first such thing is kept, and everything is dropped from now on.
    pub(super) fn fail(&self, error: CopyError) {
        self.lock().failure.get_or_insert(error);
        self.discard();
    }

    /// Nothing comes any more: the writer ends once it has written what waits.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wake_all();
    }

    fn wake_all(&self) {
        self.filled.notify_all();
        self.emptied.notify_all();
        self.noted.notify_all();
    }

    /// What went wrong, once.
    pub(super) fn take_failure(&self) -> Option<CopyError> {
        self.lock().failure.take()
    }

    /// What was written so far.
    pub(super) fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Whether as many bytes came of a device as it has.
    pub(super) fn has_all(&self, index: usize) -> bool {
        let size = self.devices.get(index).map_or(0, |device| device.size);
        self.lock().arrived.get(index).is_some_and(|bytes| *bytes >= size)
    }

    /// Waits until a device is complete or something failed, but not for long.
    pub(super) fn wait(&self, limit: Duration) {
        let state = self.lock();
        if state.failure.is_none() {
            drop(self.noted.wait_timeout(state, limit));
        }
    }

    /// Writes what comes, until nothing comes any more. The writer is given back if all of that could be written.
    pub(super) fn drain<W: Write>(&self, mut writer: Writer<W>) -> Option<Writer<W>> {
        while let Some(piece) = self.next() {
            match write(&mut writer, &self.devices, &piece) {
                Ok(counts) => {
                    let mut state = self.lock();
                    state.counts.bytes += counts.bytes;
                    state.counts.zero += counts.zero;
                }
                Err(error) => {
                    self.fail(error);
                    return None;
                }
            }
            if let Content::Data { buffer, .. } = piece.content {
                self.lock().free.push(buffer);
            }
            self.emptied.notify_all();
        }
        (!self.lock().is_discarding).then_some(writer)
    }

    /// The next piece; `None` if none comes any more.
    fn next(&self) -> Option<Piece> {
        let mut state = self.lock();
        loop {
            if state.is_discarding {
                return None;
            }
            if let Some(piece) = state.waiting.pop_front() {
                return Some(piece);
            }
            if state.is_closed {
                return None;
            }
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Adds a piece, waiting for a place.
    fn push(&self, index: usize, offset: u64, content: Content) {
        let Some(device) = self.devices.get(index) else {
            return;
        };
        let length = match &content {
            Content::Data { length, .. } => *length as u64,
            Content::Zeros(length) => *length,
        };
        let end = offset.saturating_add(length);
        let whole = |place: u64| place.is_multiple_of(CLUSTER as u64);
        if !whole(offset) || !(whole(end) || end == device.size) {
            self.refuse(index, &format!("no whole clusters ({length} bytes at {offset})"));
            return;
        }
        let mut state = self.lock();
        while state.waiting.len() >= MAX_WAITING && !state.is_discarding {
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_discarding {
            return;
        }
        let mut is_complete = false;
        if let Some(arrived) = state.arrived.get_mut(index) {
            *arrived = arrived.saturating_add(length);
            is_complete = *arrived >= device.size;
        }
        state.waiting.push_back(Piece {
            device: device.id,
            offset,
            content,
        });
        drop(state);
        self.filled.notify_one();
        if is_complete {
            self.noted.notify_all();
        }
    }
}

impl Target for Queue {
    fn buffer(&self) -> Option<Box<[u8]>> {
        let mut state = self.lock();
        loop {
            if state.is_discarding {
                return None;
            }
            if let Some(buffer) = state.free.pop() {
                return Some(buffer);
            }
            if state.made < BUFFERS {
                state.made += 1;
                return Some(vec![0; MAX_PIECE].into_boxed_slice());
            }
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&self, export: usize, offset: u64, length: usize, buffer: Box<[u8]>) {
        self.push(export, offset, Content::Data { buffer, length });
    }

    fn write_zeroes(&self, export: usize, range: Range<u64>) {
        self.push(export, range.start, Content::Zeros(range.end - range.start));
    }

    fn refuse(&self, export: usize, reason: &str) -> u32 {
        if !self.lock().is_armed {
            return EINVAL;
        }
        let device = self.devices.get(export).map(|device| device.name.clone());
        self.fail(CopyError::Request {
            device: device.unwrap_or_default(),
            reason: reason.to_owned(),
        });
        0
    }
}

/// Writes a piece, cluster by cluster.
fn write<W: Write>(writer: &mut Writer<W>, devices: &[Device], piece: &Piece) -> Result<Counts, CopyError> {
    let length = match &piece.content {
        Content::Data { length, .. } => *length as u64,
        Content::Zeros(length) => *length,
    };
    let device = devices.iter().find(|device| device.id == piece.device);
    let mut counts = Counts::default();
    while counts.bytes < length {
        let place = piece.offset + counts.bytes;
        // Devices in an archive have at most 2^32 clusters.
        let number = u32::try_from(place / CLUSTER as u64).unwrap_or(u32::MAX);
        let size = device.map_or(0, |device| device.cluster_len(number)) as u64;
        let before = writer.stats();
        match &piece.content {
            Content::Data { buffer, .. } => {
                let data = cluster_of(buffer, counts.bytes, size);
                writer.cluster(piece.device, number, data)?;
            }
            Content::Zeros(_) => writer.zero_cluster(piece.device, number)?,
        }
        let after = writer.stats();
        let stored = CLUSTER as u64
            - (after.sparse_bytes() - before.sparse_bytes())
            - (after.zero_blocks - before.zero_blocks) * crate::vma::BLOCK as u64;
        counts.bytes += size;
        counts.zero += size - size.min(stored);
    }
    Ok(counts)
}

fn cluster_of(buffer: &[u8], start: u64, size: u64) -> &[u8] {
    // A buffer's length is a usize, and so are places within it.
    let (start, size) = (usize::try_from(start).unwrap_or(0), usize::try_from(size).unwrap_or(0));
    buffer.get(start..start + size).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::io;
    use std::sync::Arc;
    use std::time::Instant;

    use crate::vma::{Header, Reader};

    fn header(sizes: &[u64]) -> Header {
        let mut header = Header::new([7; 16], 0);
        for (number, size) in sizes.iter().enumerate() {
            header.add_device(&format!("drive-scsi{number}"), *size).unwrap();
        }
        header
    }

    fn data(queue: &Queue, index: usize, offset: u64, bytes: &[u8]) {
        let mut buffer = queue.buffer().unwrap();
        buffer[..bytes.len()].copy_from_slice(bytes);
        queue.write(index, offset, bytes.len(), buffer);
    }

    #[test]
    fn what_comes_is_written_and_counted() {
        let header = header(&[3 * 65_536 + 512, 65_536]);
        let queue = Queue::new(header.devices());
        let writer = Writer::new(Vec::new(), header).unwrap();
        queue.arm();
        let mut first = vec![1; 2 * 65_536];
        first[4096..3 * 4096].fill(0);
        data(&queue, 0, 65_536, &first);
        assert!(!queue.has_all(0));
        queue.write_zeroes(0, 0..65_536);
        data(&queue, 0, 3 * 65_536, &[9; 512]);
        queue.write_zeroes(1, 0..65_536);
        assert!(queue.has_all(0) && queue.has_all(1));
        queue.close();
        let (archive, _) = queue.drain(writer).unwrap().finish().unwrap();
        let expected = Counts {
            bytes: 4 * 65_536 + 512,
            zero: 2 * 65_536 + 2 * 4096,
        };
        assert_eq!(queue.counts(), expected);
        let mut reader = Reader::open(archive.as_slice()).unwrap();
        let mut clusters = 0;
        while reader.next_cluster().unwrap().is_some() {
            clusters += 1;
        }
        assert_eq!(clusters, 5);
    }

    #[test]
    fn halves_of_clusters_are_refused() {
        let header = header(&[65_536 + 512]);
        let queue = Queue::new(header.devices());
        assert_eq!(queue.refuse(0, "early"), EINVAL);
        queue.write_zeroes(0, 0..512);
        assert!(queue.take_failure().is_none(), "before the jobs it is only refused");
        queue.arm();
        queue.write_zeroes(0, 65_536..65_536 + 512);
        assert!(queue.take_failure().is_none());
        queue.write_zeroes(0, 512..65_536);
        assert_eq!(
            queue.take_failure().unwrap().to_string(),
            "backup of 'drive-scsi0' failed - unexpected request: no whole clusters (65024 bytes at 512)"
        );
        assert!(queue.buffer().is_none());
    }

    /// An output that never comes back until it is told to.
    struct Hung(Arc<(Mutex<bool>, Condvar)>);

    impl Write for Hung {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            let mut released = self.0.0.lock().unwrap();
            while !*released {
                released = self.0.1.wait(released).unwrap();
            }
            Err(io::Error::other("released"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_queue_holds_back_and_a_discarded_one_lets_go() {
        let header = header(&[1 << 30]);
        let queue = Queue::new(header.devices());
        let released = Arc::new((Mutex::new(false), Condvar::new()));
        let writer = Writer::new(Hung(Arc::clone(&released)), header).unwrap();
        queue.arm();
        std::thread::scope(|scope| {
            let draining = scope.spawn(|| queue.drain(writer).is_none());
            let filling = scope.spawn(|| {
                let mut pieces = 0_u64;
                while let Some(buffer) = queue.buffer() {
                    queue.write(0, pieces << 20, MAX_PIECE, buffer);
                    pieces += 1;
                }
                pieces
            });
            let deadline = Instant::now() + Duration::from_secs(60);
            let is_full = || {
                let state = queue.lock();
                state.made == BUFFERS && state.free.is_empty() && !state.waiting.is_empty()
            };
            while !is_full() {
                assert!(Instant::now() < deadline);
                std::thread::yield_now();
            }
            queue.discard();
            // The output hangs still, but the connection does not.
            assert!(filling.join().unwrap() < 64);
            *released.0.lock().unwrap() = true;
            released.1.notify_all();
            assert!(draining.join().unwrap());
        });
    }

    #[test]
    fn a_duplicate_cluster_fails_the_copy() {
        let header = header(&[1 << 20]);
        let queue = Queue::new(header.devices());
        let writer = Writer::new(Vec::new(), header).unwrap();
        queue.arm();
        queue.write_zeroes(0, 0..65_536);
        queue.write_zeroes(0, 0..65_536);
        queue.close();
        assert!(queue.drain(writer).is_none());
        assert_eq!(
            queue.take_failure().unwrap().to_string(),
            "found duplicated cluster 0 for stream drive-scsi0"
        );
    }
}
