//! Websocket frames as far as a console needs them (RFC 6455 §5, reference 01 §4.4).
//!
//! Clients send whole, masked frames of limited size; fragments and extensions are refused. Nothing here does I/O.

use bytes::{Buf as _, Bytes, BytesMut};

/// Largest payload of one frame, both ways.
pub const MAX_PAYLOAD: usize = 131_072;
/// Largest payload of a control frame (RFC 6455 §5.5).
const MAX_CONTROL: usize = 125;
/// Longest header of a frame to the client: two bytes and a 64-bit length.
pub const MAX_HEADER: usize = 10;

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// Bytes for the backend, sent as text or binary.
    Data(Bytes),
    /// To be answered by a pong with the same payload.
    Ping(Bytes),
    /// To be ignored.
    Pong,
    /// The client wants to end; status code and reason, if any.
    Close(Bytes),
}

/// A frame that breaks the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fragments are not put together.
    #[error("received fragmented websocket frame")]
    Fragmented,
    /// No extension was agreed on.
    #[error("received websocket frame with RSV flags")]
    Reserved,
    /// Clients must mask.
    #[error("received unmasked websocket frame from client")]
    Unmasked,
    /// An opcode without a meaning here.
    #[error("received unhandled websocket opcode {0}")]
    Opcode(u8),
    /// More than the limit.
    #[error("received too large websocket frame (len = {0})")]
    TooLarge(u64),
}

impl FrameError {
    /// The status code that the close frame tells the client.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::TooLarge(_) => 1009,
            _ => 1002,
        }
    }
}

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// Bytes of the backend.
    Binary = 2,
    /// Good bye.
    Close = 8,
    /// The answer to a ping.
    Pong = 10,
}

/// Takes frames out of a client's bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What was received and not taken yet.
    pub buffer: BytesMut,
}

impl Decoder {
    /// The next frame; `None` when more bytes are needed first.
    ///
    /// # Errors
    /// The frame breaks the rules; nothing behind it means anything.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(&[first, second]) = self.buffer.first_chunk::<2>() else {
            return Ok(None);
        };
        let opcode = first & 0x0f;
        if first & 0x70 != 0 {
            return Err(FrameError::Reserved);
        }
        if first & 0x80 == 0 {
            return Err(FrameError::Fragmented);
        }
        if !matches!(opcode, 1 | 2 | 8 | 9 | 10) {
            return Err(FrameError::Opcode(opcode));
        }
        if second & 0x80 == 0 {
            return Err(FrameError::Unmasked);
        }
        let Some((length, header)) = self.length(second & 0x7f) else {
            return Ok(None);
        };
        let limit = if opcode >= 8 { MAX_CONTROL } else { MAX_PAYLOAD };
        let length = match usize::try_from(length) {
            Ok(length) if length <= limit => length,
            _ => return Err(FrameError::TooLarge(length)),
        };
        let Some(mask) = self
            .buffer
            .get(header..)
            .and_then(|rest| rest.first_chunk::<4>())
            .copied()
        else {
            return Ok(None);
        };
        if self.buffer.len() < header + 4 + length {
            return Ok(None);
        }
        self.buffer.advance(header + 4);
        let mut payload = self.buffer.split_to(length);
        for (byte, key) in payload.iter_mut().zip(mask.iter().cycle()) {
            *byte ^= key;
        }
        let payload = payload.freeze();
        Ok(Some(match opcode {
            8 => Frame::Close(payload),
            9 => Frame::Ping(payload),
            10 => Frame::Pong,
            _ => Frame::Data(payload),
        }))
    }

    /// The payload's length and where the length field ends.
    fn length(&self, short: u8) -> Option<(u64, usize)> {
        let rest = self.buffer.get(2..)?;
        match short {
            126 => Some((u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4)),
            127 => Some((u64::from_be_bytes(*rest.first_chunk()?), 10)),
            short => Some((u64::from(short), 2)),
        }
    }
}

/// The header of an unmasked, whole frame.
pub fn header(opcode: Opcode, length: usize) -> Vec<u8> {
    let mut header = vec![0x80 | opcode as u8];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => header.push(short),
        (_, Ok(medium)) => {
            header.push(126);
            header.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            header.push(127);
            header.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    header
}

/// A whole, unmasked frame with a short payload.
pub fn control(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(opcode, payload.len());
    frame.extend_from_slice(payload);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A masked frame as a client sends it.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = header(Opcode::Binary, payload.len());
        frame[0] = first;
        frame[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        frame
    }

    fn decode(bytes: &[u8]) -> Result<Option<Frame>, FrameError> {
        let mut decoder = Decoder::default();
        decoder.buffer.extend_from_slice(bytes);
        decoder.next_frame()
    }

    #[test]
    fn whole_frames_of_every_length_form_come_out_unmasked() {
        for length in [0, 1, 125, 126, 65_535, 65_536, MAX_PAYLOAD] {
            let payload = vec![7_u8; length];
            let frame = masked(0x82, &payload);
            assert_eq!(decode(&frame), Ok(Some(Frame::Data(payload.into()))), "{length}");
            assert_eq!(decode(&frame[..frame.len() - 1]), Ok(None));
        }
        assert_eq!(
            decode(&masked(0x81, b"hi")),
            Ok(Some(Frame::Data(Bytes::from_static(b"hi"))))
        );
        assert_eq!(
            decode(&masked(0x89, b"pp")),
            Ok(Some(Frame::Ping(Bytes::from_static(b"pp"))))
        );
        assert_eq!(decode(&masked(0x8a, b"")), Ok(Some(Frame::Pong)));
        assert_eq!(
            decode(&masked(0x88, b"\x03\xe8")),
            Ok(Some(Frame::Close(Bytes::from_static(b"\x03\xe8"))))
        );
    }

    #[test]
    fn frames_against_the_rules_are_named() {
        let huge = [&[0x82_u8, 0xff][..], &(1_u64 << 40).to_be_bytes()].concat();
        for (bytes, error, code) in [
            (masked(0x02, b"x"), FrameError::Fragmented, 1002),
            (masked(0xc2, b"x"), FrameError::Reserved, 1002),
            (vec![0x82, 0x01, b'x'], FrameError::Unmasked, 1002),
            (masked(0x83, b"x"), FrameError::Opcode(3), 1002),
            (masked(0x80, b"x"), FrameError::Opcode(0), 1002),
            (
                masked(0x82, &vec![0; MAX_PAYLOAD + 1]),
                FrameError::TooLarge(131_073),
                1009,
            ),
            (masked(0x89, &[0; 126]), FrameError::TooLarge(126), 1009),
            (huge, FrameError::TooLarge(1 << 40), 1009),
        ] {
            assert_eq!(decode(&bytes).unwrap_err(), error);
            assert_eq!(error.close_code(), code);
        }
    }

    #[test]
    fn pieces_of_a_frame_wait_for_the_rest() {
        let frame = masked(0x82, &[9; 300]);
        let mut decoder = Decoder::default();
        for byte in &frame[..frame.len() - 1] {
            decoder.buffer.extend_from_slice(&[*byte]);
            assert_eq!(decoder.next_frame(), Ok(None));
        }
        decoder.buffer.extend_from_slice(&frame[frame.len() - 1..]);
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Data(vec![9; 300].into()))));
        assert!(decoder.buffer.is_empty());
    }
}
