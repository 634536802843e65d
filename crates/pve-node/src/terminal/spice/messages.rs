//! What a client says on a channel, read out of a stream that comes in any pieces: a type, a size, and that many bytes.

use super::Kind;
use super::input::Input;

/// Type and size of a message.
const HEAD: usize = 6;
/// Most bytes of a message, far more than any that a client has reason to send.
const MAX_MESSAGE: u32 = 1 << 20;
/// Most bytes of a message that are looked at.
const MAX_BODY: usize = 64;

/// Something that a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// It counts messages from now on: the answer to an order to do so, with its number.
    Sync(u32),
    /// It got as many messages as it was told to count.
    Ack,
    /// It wants to know which channels there are.
    Attach,
    /// It is ready for pictures.
    Ready,
    /// A key went down or up: the bytes of its code, as a PC's keyboard sends them.
    Key([u8; 4]),
    /// Which of the lock keys its keyboard has on.
    Locks(u16),
    /// The mouse is at this pixel, with these buttons down.
    Position {
        /// From the left.
        x: u32,
        /// From the top.
        y: u32,
        /// Left 1, middle 2, right 4.
        buttons: u16,
    },
    /// The mouse moved, but not where it is.
    Motion,
    /// A button went down or up (or a notch of the wheel): which, and the buttons that are down.
    Button {
        /// Left 1, middle 2, right 3, wheel up 4, wheel down 5.
        button: u8,
        /// As with a position.
        buttons: u16,
        /// It went down.
        is_down: bool,
    },
}

/// The client does not speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoSpice {
    /// A message is longer than any that makes sense.
    #[error("the client sends a SPICE message of {0} bytes")]
    Size(u32),
    /// A message has too few bytes for what it says.
    #[error("the client sends a SPICE message of type {0} that is too short")]
    Short(u16),
}

/// Takes messages out of a channel's stream. Those that mean nothing to a terminal are skipped.
#[derive(Debug)]
pub struct Decoder {
    kind: Kind,
    waiting: Vec<u8>,
    /// Bytes of a message that nobody wants.
    skipped: usize,
}

impl Decoder {
    /// For a channel.
    pub fn new(kind: Kind) -> Self {
        Self {
            kind,
            waiting: Vec::new(),
            skipped: 0,
        }
    }

    /// Takes a piece; the messages that are complete with it.
    ///
    /// # Errors
    /// [`NoSpice`]: nothing after it can be understood.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Vec<Message>, NoSpice> {
        let skipped = self.skipped.min(bytes.len());
        self.skipped -= skipped;
        self.waiting.extend_from_slice(bytes.get(skipped..).unwrap_or_default());
        let mut messages = Vec::new();
        let mut input = Input::new(&self.waiting);
        let mut taken = 0;
        while let Some(message) = next(self.kind, &mut input, &mut self.skipped)? {
            messages.extend(message.meaning);
            taken = self.waiting.len() - input.left();
        }
        self.waiting.drain(..taken);
        Ok(messages)
    }

    /// How many bytes it holds.
    pub fn held(&self) -> usize {
        self.waiting.len()
    }
}

/// A message that was taken.
struct Taken {
    meaning: Option<Message>,
}

/// Takes the next message, of whose end `skipped` bytes may be yet to come.
fn next(kind: Kind, input: &mut Input<'_>, skipped: &mut usize) -> Result<Option<Taken>, NoSpice> {
    let (Some(number), Some(size)) = (input.u16(), input.u32()) else {
        return Ok(None);
    };
    if size > MAX_MESSAGE {
        return Err(NoSpice::Size(size));
    }
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let wanted = size.min(MAX_BODY);
    let Some(body) = input.peek().get(..wanted) else {
        return Ok(None);
    };
    let here = size.min(input.left());
    let _ = input.take(here);
    *skipped = size - here;
    let meaning = meaning(kind, number, &mut Input::new(body)).map_err(|Short| NoSpice::Short(number))?;
    Ok(Some(Taken { meaning }))
}

/// A body that ends too early.
struct Short;

fn meaning(kind: Kind, number: u16, body: &mut Input<'_>) -> Result<Option<Message>, Short> {
    // The first three are every channel's own; a pong (3) is never asked for.
    let message = match (kind, number) {
        (_, 1) => Message::Sync(body.u32().ok_or(Short)?),
        (_, 2) => Message::Ack,
        (Kind::Main, 104) => Message::Attach,
        (Kind::Display, 101) => Message::Ready,
        (Kind::Inputs, 101 | 102) => Message::Key(*body.array().ok_or(Short)?),
        (Kind::Inputs, 103) => Message::Locks(body.u16().ok_or(Short)?),
        (Kind::Inputs, 111) => Message::Motion,
        (Kind::Inputs, 112) => position(body).ok_or(Short)?,
        (Kind::Inputs, 113 | 114) => button(body, number == 113).ok_or(Short)?,
        _ => return Ok(None),
    };
    Ok(Some(message))
}

fn position(body: &mut Input<'_>) -> Option<Message> {
    Some(Message::Position {
        x: body.u32()?,
        y: body.u32()?,
        buttons: body.u16()?,
    })
}

fn button(body: &mut Input<'_>, is_down: bool) -> Option<Message> {
    Some(Message::Button {
        button: body.u8()?,
        buttons: body.u16()?,
        is_down,
    })
}

/// What a message of that type begins with.
pub(super) fn head(number: u16, size: usize) -> [u8; HEAD] {
    let [n0, n1] = number.to_le_bytes();
    let [s0, s1, s2, s3] = u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
    [n0, n1, s0, s1, s2, s3]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(number: u16, body: &[u8]) -> Vec<u8> {
        [&head(number, body.len())[..], body].concat()
    }

    fn stream() -> (Vec<u8>, Vec<Message>) {
        let bytes = [
            message(1, &[7, 0, 0, 0]),
            message(101, &[0x1e, 0, 0, 0]),
            message(102, &[0xe0, 0xc8, 0, 0]),
            // An agent's data, which nobody wants, and an unknown type.
            message(107, &[9; 2000]),
            message(999, &[]),
            message(103, &[4, 0]),
            message(112, &[1, 1, 0, 0, 2, 0, 0, 0, 1, 0, 0]),
            message(113, &[4, 0, 0]),
            message(114, &[1, 2, 0]),
            message(111, &[0; 10]),
            message(2, &[]),
        ];
        let messages = vec![
            Message::Sync(7),
            Message::Key([0x1e, 0, 0, 0]),
            Message::Key([0xe0, 0xc8, 0, 0]),
            Message::Locks(4),
            Message::Position {
                x: 257,
                y: 2,
                buttons: 1,
            },
            Message::Button {
                button: 4,
                buttons: 0,
                is_down: true,
            },
            Message::Button {
                button: 1,
                buttons: 2,
                is_down: false,
            },
            Message::Motion,
            Message::Ack,
        ];
        (bytes.concat(), messages)
    }

    #[test]
    fn messages_are_read_as_the_protocol_says() {
        let (bytes, messages) = stream();
        assert_eq!(Decoder::new(Kind::Inputs).feed(&bytes), Ok(messages));
        for (kind, number, expected) in [
            (Kind::Main, 104, vec![Message::Attach]),
            (Kind::Display, 104, vec![]),
            (Kind::Display, 101, vec![Message::Ready]),
            (Kind::Main, 101, vec![]),
        ] {
            let read = Decoder::new(kind).feed(&message(number, &[0; 14]));
            assert_eq!(read, Ok(expected), "{kind:?} {number}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (bytes, error) in [
            (message(1, &[0; 3]), NoSpice::Short(1)),
            (message(112, &[0; 9]), NoSpice::Short(112)),
            (head(107, 2 << 20).to_vec(), NoSpice::Size(2 << 20)),
        ] {
            assert_eq!(Decoder::new(Kind::Inputs).feed(&bytes), Err(error));
        }
    }

    #[test]
    fn a_long_message_takes_no_room() {
        let mut decoder = Decoder::new(Kind::Main);
        decoder.feed(&head(107, 1 << 20)).unwrap();
        for _ in 0..16 {
            assert_eq!(decoder.feed(&[0; 1 << 16]), Ok(vec![]));
            assert!(decoder.held() < MAX_BODY + HEAD);
        }
        assert_eq!(decoder.feed(&head(104, 0)), Ok(vec![Message::Attach]));
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
            let (bytes, messages) = stream();
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let mut decoder = Decoder::new(Kind::Inputs);
            let read: Vec<Message> =
                places.windows(2).flat_map(|pair| decoder.feed(&bytes[pair[0]..pair[1]]).unwrap()).collect();
            prop_assert_eq!(read, messages);
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for kind in [Kind::Main, Kind::Display, Kind::Inputs] {
                let _ = Decoder::new(kind).feed(&bytes);
            }
        }
    }
}
