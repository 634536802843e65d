//! What a client says (RFC 6143 §7.5), read out of a stream that comes in any pieces.

use super::pixels::Format;

/// Most bytes of a clipboard that are kept; what is longer is cut.
const MAX_CUT: usize = 64 << 10;
/// Most encodings that a client may name: about ten times what any does.
const MAX_ENCODINGS: u16 = 1024;

/// Something that a client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Message {
    /// It wants pixels like that from now on.
    Format(Format),
    /// It understands these encodings, the one that it likes best first.
    Encodings(Vec<i32>),
    /// It wants to know what changed, or with `is_all` everything.
    Update { is_all: bool },
    /// A key went down or up.
    Key { is_down: bool, keysym: u32 },
    /// The mouse is here, with these buttons down.
    Pointer { buttons: u8, x: u16, y: u16 },
    /// Its clipboard, in Latin-1.
    Cut(Vec<u8>),
    /// It wants a screen of this size in pixels.
    Resize { width: u16, height: u16 },
}

/// The client does not speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRfb {
    /// It begins with something else.
    #[error("the client does not speak RFB")]
    Version,
    /// It wants another way to log in than the one that is offered.
    #[error("the client does not know VNC authentication")]
    Security,
    /// A message has an unknown type.
    #[error("the client sends RFB messages of the unknown type {0}")]
    Type(u8),
    /// A pixel format makes no sense.
    #[error("the client wants pixels of an unknown format")]
    Format,
    /// It names more encodings than there are.
    #[error("the client names {0} encodings")]
    Encodings(u16),
}

/// Takes messages out of a stream.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    waiting: Vec<u8>,
    /// Bytes of a long message that nobody wants.
    skipped: usize,
}

impl Decoder {
    /// Takes a piece; the messages that are complete with it.
    ///
    /// # Errors
    /// [`NoRfb`]: nothing after it can be understood.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Message>, NoRfb> {
        let skipped = self.skipped.min(bytes.len());
        self.skipped -= skipped;
        self.waiting.extend_from_slice(bytes.get(skipped..).unwrap_or_default());
        let mut messages = Vec::new();
        while let Some(taken) = take(&self.waiting)? {
            messages.push(taken.message);
            let here = taken.length.min(self.waiting.len());
            self.skipped = taken.length - here;
            self.waiting.drain(..here);
        }
        Ok(messages)
    }
}

/// A message and how many bytes it has, of which the end may not be there yet.
struct Taken {
    message: Message,
    length: usize,
}

/// The first message, once all of it that counts is there.
fn take(bytes: &[u8]) -> Result<Option<Taken>, NoRfb> {
    let mut input = Input(bytes);
    let parsed = match bytes.first() {
        None => return Ok(None),
        Some(0) => format(&mut input).transpose()?,
        Some(2) => encodings(&mut input).transpose()?,
        Some(3) => update(&mut input),
        Some(4) => key(&mut input),
        Some(5) => pointer(&mut input),
        Some(6) => return Ok(cut(bytes)),
        Some(251) => resize(&mut input),
        Some(other) => return Err(NoRfb::Type(*other)),
    };
    let length = bytes.len() - input.0.len();
    Ok(parsed.map(|message| Taken { message, length }))
}

/// What is left of the bytes.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(first)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().copied().map(u16::from_be_bytes)
    }
}

fn format(input: &mut Input<'_>) -> Option<Result<Message, NoRfb>> {
    let [_, _, _, _] = input.array()?;
    let format = Format::parse(input.array()?);
    Some(format.map(Message::Format).ok_or(NoRfb::Format))
}

fn encodings(input: &mut Input<'_>) -> Option<Result<Message, NoRfb>> {
    let [_, _] = input.array()?;
    let count = input.u16()?;
    if count > MAX_ENCODINGS {
        return Some(Err(NoRfb::Encodings(count)));
    }
    let known = (0..count).map(|_| input.array().copied().map(i32::from_be_bytes));
    Some(Ok(Message::Encodings(known.collect::<Option<_>>()?)))
}

fn update(input: &mut Input<'_>) -> Option<Message> {
    let [_, is_incremental] = input.array()?;
    // The region is not looked at: whatever changed anywhere is sent, and a client must take that.
    let [_, _, _, _, _, _, _, _] = input.array()?;
    Some(Message::Update {
        is_all: *is_incremental == 0,
    })
}

fn key(input: &mut Input<'_>) -> Option<Message> {
    let [_, is_down, _, _] = input.array()?;
    Some(Message::Key {
        is_down: *is_down != 0,
        keysym: u32::from_be_bytes(*input.array()?),
    })
}

fn pointer(input: &mut Input<'_>) -> Option<Message> {
    let [_, buttons] = input.array()?;
    Some(Message::Pointer {
        buttons: *buttons,
        x: input.u16()?,
        y: input.u16()?,
    })
}

/// Only its beginning must be there: a clipboard may be longer than anybody wants to keep.
fn cut(bytes: &[u8]) -> Option<Taken> {
    let mut input = Input(bytes);
    let [_, _, _, _] = input.array()?;
    // A negative length announces an extended format, which is not ours.
    let length = i32::from_be_bytes(*input.array()?);
    let size = usize::try_from(length.unsigned_abs()).ok()?;
    let wanted = if length < 0 { 0 } else { size.min(MAX_CUT) };
    Some(Taken {
        message: Message::Cut(input.0.get(..wanted)?.to_vec()),
        length: size.saturating_add(8),
    })
}

fn resize(input: &mut Input<'_>) -> Option<Message> {
    let [_, _] = input.array()?;
    let (width, height) = (input.u16()?, input.u16()?);
    let [screens, _] = input.array()?;
    for _ in 0..*screens {
        let _: &[u8; 16] = input.array()?;
    }
    Some(Message::Resize { width, height })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pixels::OFFERED;
    use super::*;

    fn stream() -> (Vec<u8>, Vec<Message>) {
        let mut bytes = vec![0, 0, 0, 0];
        bytes.extend(OFFERED.bytes());
        bytes.extend([2, 0, 0, 2, 0, 0, 0, 16, 0xff, 0xff, 0xff, 0x21]);
        bytes.extend([3, 1, 0, 0, 0, 0, 2, 0x80, 1, 0x90, 3, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
        bytes.extend([4, 1, 0, 0, 0, 0, 0xff, 0x0d, 5, 4, 0, 9, 0, 7]);
        bytes.extend([
            6, 0, 0, 0, 0, 0, 0, 2, b'h', b'i', 6, 0, 0, 0, 0xff, 0xff, 0xff, 0xfc, 1, 2, 3, 4,
        ]);
        bytes.extend([251, 0, 3, 0x20, 2, 0x58, 1, 0]);
        bytes.extend([0; 16]);
        let messages = vec![
            Message::Format(OFFERED),
            Message::Encodings(vec![16, -223]),
            Message::Update { is_all: false },
            Message::Update { is_all: true },
            Message::Key {
                is_down: true,
                keysym: 0xff0d,
            },
            Message::Pointer { buttons: 4, x: 9, y: 7 },
            Message::Cut(b"hi".to_vec()),
            Message::Cut(Vec::new()),
            Message::Resize {
                width: 800,
                height: 600,
            },
        ];
        (bytes, messages)
    }

    #[test]
    fn messages_are_read_as_the_rfc_says() {
        let (bytes, messages) = stream();
        assert_eq!(Decoder::default().feed(&bytes), Ok(messages));
    }

    #[test]
    fn anything_else_is_refused() {
        let mut format = vec![0, 0, 0, 0];
        format.extend([24; 16]);
        for (bytes, error) in [
            (vec![1], NoRfb::Type(1)),
            (b"GET / HTTP/1.1".to_vec(), NoRfb::Type(b'G')),
            (format, NoRfb::Format),
            (vec![2, 0, 0xff, 0xff], NoRfb::Encodings(0xffff)),
        ] {
            assert_eq!(Decoder::default().feed(&bytes), Err(error));
        }
    }

    #[test]
    fn a_long_clipboard_is_cut_and_takes_no_room() {
        let length = 50 << 20;
        let mut decoder = Decoder::default();
        let mut bytes = vec![6, 0, 0, 0];
        bytes.extend(u32::to_be_bytes(length));
        assert_eq!(decoder.feed(&bytes), Ok(vec![]));
        let piece = vec![b'x'; 1 << 20];
        let mut messages = Vec::new();
        for _ in 0..50 {
            messages.extend(decoder.feed(&piece).unwrap());
            assert!(decoder.waiting.len() < 2 << 20);
        }
        assert_eq!(messages, [Message::Cut(vec![b'x'; MAX_CUT])]);
        let key = [4, 0, 0, 0, 0, 0, 0, b'a'];
        assert_eq!(decoder.feed(&key).unwrap().len(), 1);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            let (bytes, messages) = stream();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let mut decoder = Decoder::default();
            let read: Vec<Message> =
                places.windows(2).flat_map(|pair| decoder.feed(&bytes[pair[0]..pair[1]]).unwrap()).collect();
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Decoder::default().feed(&bytes);
        }
    }
}
