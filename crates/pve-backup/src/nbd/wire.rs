//! The numbers and the messages of the protocol. All integers are big-endian.

/// Opens the server's greeting: `NBDMAGIC`.
pub const GREETING: u64 = 0x4e42_444d_4147_4943;
/// Follows the greeting, and opens each option: `IHAVEOPT`.
pub const OPTION: u64 = 0x4948_4156_454f_5054;
/// Opens each reply to an option.
pub const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
/// Opens each request.
pub const REQUEST: u32 = 0x2560_9513;
/// Opens each simple reply.
pub const SIMPLE_REPLY: u32 = 0x6744_6698;

/// Most bytes of an export's name, and far more than any other option needs.
pub const MAX_NAME: usize = 4096;
/// Bytes of a request without its payload.
pub const REQUEST_LEN: usize = 28;
/// Bytes of a simple reply without its payload.
pub const SIMPLE_REPLY_LEN: usize = 16;
/// Zero bytes behind the answer to [`option::EXPORT_NAME`], unless the client said [`handshake::NO_ZEROES`].
pub const EXPORT_NAME_PADDING: usize = 124;

/// Flags of the handshake; the client repeats in 32 bits those that it understands.
pub mod handshake {
    /// Options have replies.
    pub const FIXED_NEWSTYLE: u16 = 1;
    /// The answer to `EXPORT_NAME` ends without padding.
    pub const NO_ZEROES: u16 = 2;
}

/// Options: what a client asks for during the handshake.
pub mod option {
    /// Use this export; the end of the handshake, without a reply in the usual shape.
    pub const EXPORT_NAME: u32 = 1;
    /// Give up.
    pub const ABORT: u32 = 2;
    /// Which exports are there?
    pub const LIST: u32 = 3;
    /// Tell about this export.
    pub const INFO: u32 = 6;
    /// Tell about this export and use it.
    pub const GO: u32 = 7;
}

/// Types of replies to options.
pub mod reply {
    /// Done.
    pub const ACK: u32 = 1;
    /// One export of a list.
    pub const SERVER: u32 = 2;
    /// A piece of information about the export.
    pub const INFO: u32 = 3;
    /// All errors have this bit.
    pub const ERROR: u32 = 1 << 31;
    /// The option is not known.
    pub const ERR_UNSUP: u32 = ERROR | 1;
    /// The option's data make no sense.
    pub const ERR_INVALID: u32 = ERROR | 3;
    /// There is no such export.
    pub const ERR_UNKNOWN: u32 = ERROR | 6;
}

/// Types of information about an export.
pub mod info {
    /// Size and flags: `u64`, `u16`.
    pub const EXPORT: u16 = 0;
    /// The export's own name.
    pub const NAME: u16 = 1;
    /// Smallest, preferred and largest size of a request: three `u32`.
    pub const BLOCK_SIZE: u16 = 3;
}

/// Flags of an export.
pub mod export {
    /// The flags mean something.
    pub const HAS_FLAGS: u16 = 1;
    /// `FLUSH` is understood.
    pub const SEND_FLUSH: u16 = 1 << 2;
    /// `TRIM` is understood.
    pub const SEND_TRIM: u16 = 1 << 5;
    /// `WRITE_ZEROES` is understood.
    pub const SEND_WRITE_ZEROES: u16 = 1 << 6;
}

/// Commands: what a client asks for once it has an export.
pub mod command {
    /// Read.
    pub const READ: u16 = 0;
    /// Write the payload.
    pub const WRITE: u16 = 1;
    /// Good bye; has no reply.
    pub const DISC: u16 = 2;
    /// What was answered must be durable.
    pub const FLUSH: u16 = 3;
    /// The content is not needed any more.
    pub const TRIM: u16 = 4;
    /// Write zeros.
    pub const WRITE_ZEROES: u16 = 6;
}

/// Errors of replies to commands.
pub mod error {
    /// The request makes no sense.
    pub const EINVAL: u32 = 22;
    /// There is no space left, or the request goes beyond the end.
    pub const ENOSPC: u32 = 28;
}

/// A request without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Flags of the command.
    pub flags: u16,
    /// What is asked for: [`command`].
    pub command: u16,
    /// Repeated in the reply.
    pub cookie: u64,
    /// Where, in bytes.
    pub offset: u64,
    /// How long, in bytes; the payload of a `WRITE`.
    pub length: u32,
}

impl Request {
    /// Takes a request apart; `None` if it does not begin like one.
    pub fn decode(bytes: &[u8; REQUEST_LEN]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (flags, rest) = rest.split_first_chunk::<2>()?;
        let (command, rest) = rest.split_first_chunk::<2>()?;
        let (cookie, rest) = rest.split_first_chunk::<8>()?;
        let (offset, rest) = rest.split_first_chunk::<8>()?;
        let length = rest.first_chunk::<4>()?;
        (u32::from_be_bytes(*magic) == REQUEST).then(|| Self {
            flags: u16::from_be_bytes(*flags),
            command: u16::from_be_bytes(*command),
            cookie: u64::from_be_bytes(*cookie),
            offset: u64::from_be_bytes(*offset),
            length: u32::from_be_bytes(*length),
        })
    }

    /// The request as it goes over the wire, without its payload.
    pub fn encode(&self) -> [u8; REQUEST_LEN] {
        let mut bytes = [0; REQUEST_LEN];
        let fields = (REQUEST.to_be_bytes().into_iter())
            .chain(self.flags.to_be_bytes())
            .chain(self.command.to_be_bytes())
            .chain(self.cookie.to_be_bytes())
            .chain(self.offset.to_be_bytes())
            .chain(self.length.to_be_bytes());
        for (place, byte) in bytes.iter_mut().zip(fields) {
            *place = byte;
        }
        bytes
    }
}

/// A simple reply without its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SimpleReply {
    /// 0, or one of [`error`].
    pub error: u32,
    /// The request's.
    pub cookie: u64,
}

impl SimpleReply {
    /// Takes a reply apart; `None` if it does not begin like one.
    pub fn decode(bytes: &[u8; SIMPLE_REPLY_LEN]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<4>()?;
        let (error, rest) = rest.split_first_chunk::<4>()?;
        let cookie = rest.first_chunk::<8>()?;
        (u32::from_be_bytes(*magic) == SIMPLE_REPLY).then(|| Self {
            error: u32::from_be_bytes(*error),
            cookie: u64::from_be_bytes(*cookie),
        })
    }

    /// The reply as it goes over the wire.
    pub fn encode(&self) -> [u8; SIMPLE_REPLY_LEN] {
        let mut bytes = [0; SIMPLE_REPLY_LEN];
        let fields = (SIMPLE_REPLY.to_be_bytes().into_iter())
            .chain(self.error.to_be_bytes())
            .chain(self.cookie.to_be_bytes());
        for (place, byte) in bytes.iter_mut().zip(fields) {
            *place = byte;
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of a real request, put down field by field.
    #[test]
    fn messages_have_their_places() {
        let request = Request {
            flags: 2,
            command: command::WRITE_ZEROES,
            cookie: 0x0102_0304_0506_0708,
            offset: 0x1_0000,
            length: 0x10_0000,
        };
        let bytes = [
            0x25, 0x60, 0x95, 0x13, 0, 2, 0, 6, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x10, 0, 0,
        ];
        assert_eq!(request.encode(), bytes);
        assert_eq!(Request::decode(&bytes), Some(request));
        assert_eq!(Request::decode(&[0; REQUEST_LEN]), None);

        let reply = SimpleReply { error: 22, cookie: 7 };
        let bytes = [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 22, 0, 0, 0, 0, 0, 0, 0, 7];
        assert_eq!(reply.encode(), bytes);
        assert_eq!(SimpleReply::decode(&bytes), Some(reply));
        assert_eq!(SimpleReply::decode(&[0; SIMPLE_REPLY_LEN]), None);
    }

    #[test]
    fn magic_numbers_are_texts() {
        assert_eq!(&GREETING.to_be_bytes(), b"NBDMAGIC");
        assert_eq!(&OPTION.to_be_bytes(), b"IHAVEOPT");
    }
}
