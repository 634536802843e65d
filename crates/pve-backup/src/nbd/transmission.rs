//! The commands of one connection, once it has an export.

use std::io::{self, Read, Write};
use std::ops::Range;

use super::server::Export;
use super::wire::{REQUEST_LEN, Request, SimpleReply, command, error};

/// Most bytes of a write that are handed over in one piece: QEMU's backup jobs write no more at once. Longer writes come
/// in several pieces.
pub const MAX_PIECE: usize = 1 << 20;
/// Bytes to read at once when nobody wants them.
const SCRATCH: usize = 64 << 10;

/// Takes what clients write. Called by one thread per connection; a call that takes its time holds back the client.
pub trait Target: Send + Sync {
    /// A buffer of [`MAX_PIECE`] bytes for the next piece of a write; `None` if writes are to be acknowledged and dropped.
    fn buffer(&self) -> Option<Box<[u8]>>;

    /// A piece of a write: so many bytes at the beginning of the buffer, for an offset of an export. Within its size.
    fn write(&self, export: usize, offset: u64, length: usize, buffer: Box<[u8]>);

    /// Zeros for a range of an export. Not empty, and within its size.
    fn write_zeroes(&self, export: usize, range: Range<u64>);

    /// A request that cannot be: what is wrong with it. The answer is its error number; 0 to acknowledge it all the same.
    fn refuse(&self, export: usize, reason: &str) -> u32;
}

/// Serves a connection until the client says good bye.
///
/// # Errors
/// The connection fails or ends without a good bye, or the client does not keep to the protocol.
pub fn serve(
    input: &mut impl Read,
    output: &mut impl Write,
    index: usize,
    export: &Export,
    target: &dyn Target,
) -> io::Result<()> {
    let mut bytes = [0; REQUEST_LEN];
    loop {
        input.read_exact(&mut bytes)?;
        let request =
            Request::decode(&bytes).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no request"))?;
        if request.command == command::DISC {
            return Ok(());
        }
        let reply = SimpleReply {
            error: execute(input, index, export, target, &request)?,
            cookie: request.cookie,
        };
        output.write_all(&reply.encode())?;
    }
}

/// Does what is asked for; the error number of the reply.
fn execute(
    input: &mut impl Read,
    index: usize,
    export: &Export,
    target: &dyn Target,
    request: &Request,
) -> io::Result<u32> {
    let range = range_within(request, export.size);
    match (request.command, range) {
        (command::WRITE, Some(range)) => {
            receive(input, index, range, target)?;
            Ok(0)
        }
        (command::WRITE, None) => {
            discard(input, u64::from(request.length))?;
            Ok(target.refuse(index, &describe("write beyond end", request)))
        }
        (command::WRITE_ZEROES, Some(range)) => {
            if !range.is_empty() {
                target.write_zeroes(index, range);
            }
            Ok(0)
        }
        (command::WRITE_ZEROES, None) => Ok(target.refuse(index, &describe("zeros beyond end", request))),
        // Nothing is kept back here, and nothing is trimmed that was written once.
        (command::FLUSH, _) | (command::TRIM, Some(_)) => Ok(0),
        // Not a write: an error does not reach the guest.
        _ => Ok(error::EINVAL),
    }
}

/// What a request is about, if the export has all of it.
fn range_within(request: &Request, size: u64) -> Option<Range<u64>> {
    let end = request.offset.checked_add(u64::from(request.length))?;
    (end <= size).then_some(request.offset..end)
}

fn describe(what: &str, request: &Request) -> String {
    format!("{what} ({} bytes at {})", request.length, request.offset)
}

/// Takes the payload of a write, piece by piece.
fn receive(input: &mut impl Read, index: usize, range: Range<u64>, target: &dyn Target) -> io::Result<()> {
    let mut offset = range.start;
    while offset < range.end {
        let left = range.end - offset;
        let Some(mut buffer) = target.buffer() else {
            return discard(input, left);
        };
        let room = buffer.len().min(MAX_PIECE);
        let length = usize::try_from(left).map_or(room, |left| left.min(room));
        input.read_exact(buffer.get_mut(..length).unwrap_or_default())?;
        target.write(index, offset, length, buffer);
        offset += length as u64;
    }
    Ok(())
}

/// Reads what nobody wants.
fn discard(input: &mut impl Read, length: u64) -> io::Result<()> {
    let mut scratch = vec![0; SCRATCH];
    let mut left = length;
    while left > 0 {
        let part = usize::try_from(left).map_or(SCRATCH, |left| left.min(SCRATCH));
        input.read_exact(scratch.get_mut(..part).unwrap_or_default())?;
        left -= part as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    const SIZE: u64 = 3 << 20;

    /// Remembers what came; counts the buffers that are out.
    #[derive(Default)]
    struct Memory {
        calls: Mutex<Vec<String>>,
        out: AtomicUsize,
        most: AtomicUsize,
        drops: bool,
    }

    impl Memory {
        fn note(&self, call: String) {
            self.calls.lock().unwrap().push(call);
        }
    }

    impl Target for Memory {
        fn buffer(&self) -> Option<Box<[u8]>> {
            if self.drops {
                return None;
            }
            let out = self.out.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(out, Ordering::Relaxed);
            Some(vec![0; MAX_PIECE].into_boxed_slice())
        }

        fn write(&self, export: usize, offset: u64, length: usize, buffer: Box<[u8]>) {
            assert!(offset + length as u64 <= SIZE && length <= buffer.len() && length > 0);
            self.out.fetch_sub(1, Ordering::Relaxed);
            let sum: u64 = buffer[..length].iter().map(|byte| u64::from(*byte)).sum();
            self.note(format!("{export}: write {offset}+{length} sum {sum}"));
        }

        fn write_zeroes(&self, export: usize, range: Range<u64>) {
            assert!(range.end <= SIZE && range.start < range.end);
            self.note(format!("{export}: zeros {range:?}"));
        }

        fn refuse(&self, export: usize, reason: &str) -> u32 {
            self.note(format!("{export}: refuse {reason}"));
            error::EINVAL
        }
    }

    fn request(command: u16, offset: u64, length: u32) -> Vec<u8> {
        let request = Request {
            flags: 0,
            command,
            cookie: offset,
            offset,
            length,
        };
        request.encode().to_vec()
    }

    /// Serves these bytes: how it ended, and the error numbers of the replies.
    fn run(bytes: &[u8], target: &Memory) -> (io::Result<()>, Vec<u32>) {
        let export = Export {
            name: "drive-scsi0".to_owned(),
            size: SIZE,
        };
        let mut output = Vec::new();
        let end = serve(&mut &*bytes, &mut output, 0, &export, target);
        let (replies, rest) = output.as_chunks::<16>();
        assert!(rest.is_empty());
        let errors = replies.iter().map(|reply| SimpleReply::decode(reply).unwrap().error);
        (end, errors.collect())
    }

    #[test]
    fn commands_reach_the_target() {
        let target = Memory::default();
        let length = u32::try_from(MAX_PIECE).unwrap() + 512;
        let mut bytes = request(command::WRITE, 65_536, length);
        bytes.resize(bytes.len() + usize::try_from(length).unwrap(), 1);
        bytes.extend(request(command::WRITE_ZEROES, 0, 2 << 20));
        bytes.extend(request(command::FLUSH, 0, 0));
        bytes.extend(request(command::TRIM, 0, 512));
        bytes.extend(request(command::WRITE_ZEROES, 0, 0));
        bytes.extend(request(command::DISC, 0, 0));
        let (end, errors) = run(&bytes, &target);
        end.unwrap();
        assert_eq!(errors, [0; 5]);
        let expected = [
            "0: write 65536+1048576 sum 1048576",
            "0: write 1114112+512 sum 512",
            "0: zeros 0..2097152",
        ];
        assert_eq!(*target.calls.lock().unwrap(), expected);
        assert_eq!(target.most.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_dropped_is_acknowledged() {
        let target = Memory {
            drops: true,
            ..Memory::default()
        };
        let mut bytes = request(command::WRITE, 0, 200_000);
        bytes.resize(bytes.len() + 200_000, 1);
        bytes.extend(request(command::DISC, 0, 0));
        assert_eq!(run(&bytes, &target).1, [0]);
        assert!(target.calls.lock().unwrap().is_empty());
    }

    #[test]
    fn requests_that_cannot_be_are_refused() {
        let target = Memory::default();
        let mut bytes = request(command::WRITE, SIZE - 512, 1024);
        bytes.resize(bytes.len() + 1024, 1);
        bytes.extend(request(command::WRITE_ZEROES, u64::MAX, 512));
        bytes.extend(request(command::READ, 0, 512));
        bytes.extend(request(command::TRIM, SIZE, 512));
        bytes.extend(request(77, 0, 512));
        bytes.extend(request(command::DISC, 0, 0));
        let (end, errors) = run(&bytes, &target);
        end.unwrap();
        assert_eq!(errors, [error::EINVAL; 5]);
        let expected = [
            "0: refuse write beyond end (1024 bytes at 3145216)",
            "0: refuse zeros beyond end (512 bytes at 18446744073709551615)",
        ];
        assert_eq!(*target.calls.lock().unwrap(), expected);
    }

    #[test]
    fn a_connection_that_breaks_off_is_an_error() {
        let target = Memory::default();
        let mut bytes = request(command::WRITE, 0, 65_536);
        bytes.extend([1; 100]);
        assert!(run(&bytes, &target).0.is_err());
        assert!(run(&[], &target).0.is_err());
        assert!(run(&[0; 28], &target).0.is_err());
        assert!(target.calls.lock().unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn garbage_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = run(&bytes, &Memory::default());
        }

        #[test]
        fn any_requests_are_survived(
            requests in prop::collection::vec((0_u16..8, any::<u64>(), any::<u32>(), any::<bool>()), 0..8),
            tail in prop::collection::vec(any::<u8>(), 0..4000),
        ) {
            let mut bytes = Vec::new();
            for (number, offset, length, near) in requests {
                let (offset, length) = if near { (offset % SIZE, length % 9000) } else { (offset, length) };
                bytes.extend(request(number, offset, length));
            }
            bytes.extend(tail);
            let target = Memory::default();
            let _ = run(&bytes, &target);
            // Whatever is asked for: no more than one buffer per connection.
            prop_assert!(target.most.load(Ordering::Relaxed) <= 1);
        }
    }
}
