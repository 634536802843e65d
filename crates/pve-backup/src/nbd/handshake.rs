//! The server's side of the handshake: which export a connection is about.
//!
//! ```text
//! greeting ─▶ client's flags ─▶ option ─▶ LIST, INFO, unknown: replies ─┐
//!                                 ▲ └─────────────────────────────────── ┘
//!                                 ├──▶ GO, EXPORT_NAME: the export
//!                                 └──▶ ABORT, nonsense: end of the connection
//! ```

use std::io::{self, Read, Write};

use super::server::Export;
use super::wire::{self, export, handshake, info, option, reply};

/// Options that a client may send: QEMU sends four or five.
const MAX_OPTIONS: usize = 64;
/// Most bytes of an option's data: a name, and what is around it.
const MAX_OPTION: usize = wire::MAX_NAME + 512;
/// Flags of all exports: written to once, never read.
const FLAGS: u16 = export::HAS_FLAGS | export::SEND_FLUSH | export::SEND_TRIM | export::SEND_WRITE_ZEROES;
/// Sizes of requests: smallest, preferred, largest.
const BLOCK_SIZES: [u32; 3] = [512, 65_536, 32 << 20];

/// Leads the handshake; the index of the export that the client chose, or `None` if it went away in order.
///
/// # Errors
/// The connection fails, or the client does not keep to the protocol.
pub fn negotiate(input: &mut impl Read, output: &mut impl Write, exports: &[Export]) -> io::Result<Option<usize>> {
    let mut greeting = Vec::with_capacity(18);
    greeting.extend(wire::GREETING.to_be_bytes());
    greeting.extend(wire::OPTION.to_be_bytes());
    greeting.extend((handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES).to_be_bytes());
    output.write_all(&greeting)?;
    let flags = u32::from_be_bytes(read(input)?);
    if flags & !u32::from(handshake::FIXED_NEWSTYLE | handshake::NO_ZEROES) != 0 {
        return Err(garbage("unknown flags"));
    }
    let no_zeroes = flags & u32::from(handshake::NO_ZEROES) != 0;
    for _ in 0..MAX_OPTIONS {
        if u64::from_be_bytes(read(input)?) != wire::OPTION {
            return Err(garbage("no option"));
        }
        let number = u32::from_be_bytes(read(input)?);
        let length = usize::try_from(u32::from_be_bytes(read(input)?)).unwrap_or(usize::MAX);
        if length > MAX_OPTION {
            return Err(garbage("option is too long"));
        }
        let mut data = vec![0; length];
        input.read_exact(&mut data)?;
        match number {
            option::EXPORT_NAME => return export_name(output, exports, &data, no_zeroes).map(Some),
            option::ABORT => {
                // The client need not wait for the answer.
                let _ = answer(output, number, reply::ACK, &[]);
                return Ok(None);
            }
            option::LIST => list(output, exports, &data)?,
            option::INFO | option::GO => {
                let chosen = inform(output, exports, number, &data)?;
                if number == option::GO && chosen.is_some() {
                    return Ok(chosen);
                }
            }
            _ => answer(output, number, reply::ERR_UNSUP, &[])?,
        }
    }
    Err(garbage("too many options"))
}

/// The old way to choose; an unknown name can only be answered by going away.
fn export_name(output: &mut impl Write, exports: &[Export], name: &[u8], no_zeroes: bool) -> io::Result<usize> {
    let (index, export) = find(exports, name).ok_or_else(|| garbage("unknown export"))?;
    let mut bytes = export.size.to_be_bytes().to_vec();
    bytes.extend(FLAGS.to_be_bytes());
    if !no_zeroes {
        bytes.resize(bytes.len() + wire::EXPORT_NAME_PADDING, 0);
    }
    output.write_all(&bytes)?;
    Ok(index)
}

fn list(output: &mut impl Write, exports: &[Export], data: &[u8]) -> io::Result<()> {
    if !data.is_empty() {
        return answer(output, option::LIST, reply::ERR_INVALID, &[]);
    }
    for export in exports {
        let length = u32::try_from(export.name.len()).unwrap_or(u32::MAX);
        let mut entry = length.to_be_bytes().to_vec();
        entry.extend(export.name.as_bytes());
        answer(output, option::LIST, reply::SERVER, &entry)?;
    }
    answer(output, option::LIST, reply::ACK, &[])
}

/// Answers `INFO` and `GO`: which export it was about, if there is one.
fn inform(output: &mut impl Write, exports: &[Export], number: u32, data: &[u8]) -> io::Result<Option<usize>> {
    let Some((name, asked)) = split_request(data) else {
        answer(output, number, reply::ERR_INVALID, &[])?;
        return Ok(None);
    };
    let Some((index, export)) = find(exports, name) else {
        answer(output, number, reply::ERR_UNKNOWN, &[])?;
        return Ok(None);
    };
    let mut about = info::EXPORT.to_be_bytes().to_vec();
    about.extend(export.size.to_be_bytes());
    about.extend(FLAGS.to_be_bytes());
    answer(output, number, reply::INFO, &about)?;
    if asked.contains(&info::NAME) {
        let mut own = info::NAME.to_be_bytes().to_vec();
        own.extend(export.name.as_bytes());
        answer(output, number, reply::INFO, &own)?;
    }
    // Told whether it was asked for or not: a client that keeps to it is served better.
    let mut sizes = info::BLOCK_SIZE.to_be_bytes().to_vec();
    sizes.extend(BLOCK_SIZES.iter().flat_map(|size| size.to_be_bytes()));
    answer(output, number, reply::INFO, &sizes)?;
    answer(output, number, reply::ACK, &[])?;
    Ok(Some(index))
}

/// The name and the kinds of information in the data of `INFO` and `GO`; `None` if they are not that.
fn split_request(data: &[u8]) -> Option<(&[u8], Vec<u16>)> {
    let (length, rest) = data.split_first_chunk::<4>()?;
    let (name, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    let (count, rest) = rest.split_first_chunk::<2>()?;
    let (kinds, odd) = rest.as_chunks::<2>();
    let fits = odd.is_empty() && kinds.len() == usize::from(u16::from_be_bytes(*count));
    fits.then(|| (name, kinds.iter().map(|kind| u16::from_be_bytes(*kind)).collect()))
}

fn find<'a>(exports: &'a [Export], name: &[u8]) -> Option<(usize, &'a Export)> {
    let mut numbered = exports.iter().enumerate();
    numbered.find(|(_, export)| export.name.as_bytes() == name)
}

/// One reply to an option.
fn answer(output: &mut impl Write, number: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut bytes = wire::OPTION_REPLY.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend(data);
    output.write_all(&bytes)
}

fn read<const N: usize>(input: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    input.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn garbage(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    fn exports() -> Vec<Export> {
        let export = |name: &str, size| Export {
            name: name.to_owned(),
            size,
        };
        vec![export("drive-scsi0", 1 << 20), export("drive-scsi1", 512)]
    }

    /// What a client sends: its flags, then options.
    fn client(flags: u32, options: &[(u32, &[u8])]) -> Vec<u8> {
        let mut bytes = flags.to_be_bytes().to_vec();
        for (number, data) in options {
            bytes.extend(b"IHAVEOPT");
            bytes.extend(number.to_be_bytes());
            bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
            bytes.extend(*data);
        }
        bytes
    }

    /// The data of `GO` and `INFO`.
    fn about(name: &str, kinds: &[u16]) -> Vec<u8> {
        let mut bytes = u32::try_from(name.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend(name.as_bytes());
        bytes.extend(u16::try_from(kinds.len()).unwrap().to_be_bytes());
        bytes.extend(kinds.iter().flat_map(|kind| kind.to_be_bytes()));
        bytes
    }

    /// A reply to an option: which, its kind, its data.
    type Reply = (u32, u32, Vec<u8>);

    /// What comes of it: the export, and the replies; the last "reply" is what follows them.
    fn serve(bytes: &[u8]) -> (io::Result<Option<usize>>, Vec<Reply>) {
        let mut output = Vec::new();
        let chosen = negotiate(&mut &*bytes, &mut output, &exports());
        assert_eq!(&output[..18], b"NBDMAGICIHAVEOPT\x00\x03");
        let mut rest = &output[18..];
        let mut replies = Vec::new();
        while rest.starts_with(&wire::OPTION_REPLY.to_be_bytes()) {
            let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
            let length = usize::try_from(number(16)).unwrap();
            replies.push((number(8), number(12), rest[20..20 + length].to_vec()));
            rest = &rest[20 + length..];
        }
        replies.push((0, 0, rest.to_vec()));
        (chosen, replies)
    }

    #[test]
    fn qemu_is_told_what_it_gets() {
        // As QEMU 10.0 asks.
        let go = about("drive-scsi1", &[1, 3]);
        let (chosen, replies) = serve(&client(3, &[(11, b""), (8, b""), (7, &go)]));
        assert_eq!(chosen.unwrap(), Some(1));
        let expected = [
            (11, 0x8000_0001, vec![]),
            (8, 0x8000_0001, vec![]),
            (7, 3, vec![0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0x65]),
            (7, 3, b"\x00\x01drive-scsi1".to_vec()),
            (7, 3, vec![0, 3, 0, 0, 2, 0, 0, 1, 0, 0, 2, 0, 0, 0]),
            (7, 1, vec![]),
            (0, 0, vec![]),
        ];
        assert_eq!(replies, expected);
    }

    #[test]
    fn old_clients_choose_by_name_alone() {
        for (flags, length) in [(1, 10 + 124), (3, 10)] {
            let (chosen, replies) = serve(&client(flags, &[(1, b"drive-scsi0")]));
            assert_eq!(chosen.unwrap(), Some(0));
            let (_, _, bytes) = &replies[0];
            assert_eq!(bytes.len(), length);
            assert_eq!(&bytes[..10], [0, 0, 0, 0, 0, 16, 0, 0, 0, 0x65]);
        }
        assert!(serve(&client(3, &[(1, b"drive-scsi9")])).0.is_err());
    }

    #[test]
    fn exports_are_listed_and_described() {
        let unknown = about("drive-scsi9", &[]);
        let (chosen, replies) = serve(&client(
            1,
            &[
                (3, b""),
                (3, b"x"),
                (6, &unknown),
                (6, b"\0\0\0\x09"),
                (5, b""),
                (2, b""),
            ],
        ));
        assert_eq!(chosen.unwrap(), None);
        let kinds: Vec<(u32, u32)> = replies.iter().map(|(option, kind, _)| (*option, *kind)).collect();
        let expected = [
            (3, reply::SERVER),
            (3, reply::SERVER),
            (3, reply::ACK),
            (3, reply::ERR_INVALID),
            (6, reply::ERR_UNKNOWN),
            (6, reply::ERR_INVALID),
            (5, reply::ERR_UNSUP),
            (2, reply::ACK),
            (0, 0),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(replies[0].2, b"\x00\x00\x00\x0bdrive-scsi0");
    }

    #[test]
    fn what_is_too_long_ends_the_connection() {
        let long = vec![0; MAX_OPTION + 1];
        assert!(serve(&client(3, &[(99, &long)])).0.is_err());
        let many: Vec<(u32, &[u8])> = vec![(99, b""); MAX_OPTIONS + 1];
        assert!(serve(&client(3, &many)).0.is_err());
        // Only the length is there: nothing may be waited for, or taken, because of it.
        let mut bytes = client(3, &[(99, b"")]);
        let length = bytes.len() - 4;
        bytes[length..].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(serve(&bytes).0.is_err());
    }

    proptest! {
        #[test]
        fn garbage_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = serve(&bytes);
        }

        #[test]
        fn garbage_in_options_is_survived(
            flags in 0_u32..4,
            options in prop::collection::vec((0_u32..12, prop::collection::vec(any::<u8>(), 0..60)), 0..8),
        ) {
            let options: Vec<(u32, &[u8])> = options.iter().map(|(number, data)| (*number, data.as_slice())).collect();
            let (chosen, replies) = serve(&client(flags, &options));
            // Only an export that exists is ever chosen, and no option goes without an answer before that.
            prop_assert!(chosen.is_err() || chosen.is_ok_and(|index| index.is_none_or(|index| index < 2)));
            prop_assert!(replies.len() <= options.len() * 4 + 1);
        }
    }
}
