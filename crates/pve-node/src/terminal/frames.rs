//! What the client sends (reference 01 §4.5): a stream of frames whose borders are nobody else's.
//!
//! ```text
//! 0:LEN:DATA      keystrokes, LEN decimal bytes of them
//! 1:COLS:ROWS:    the size changed
//! 2               still there
//! ```

use pve_sys::pty::Size;

/// Most digits of a number: a length of 999,999 bytes, more than a paste that anybody means.
const MAX_DIGITS: usize = 6;

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Typed, or a part of what was typed: keystrokes go on as they come.
    Input(Vec<u8>),
    /// The terminal has another size now.
    Resize(Size),
}

/// The client does not speak the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client does not send terminal frames")]
pub struct NoFrame;

/// Where in a frame the stream is.
#[derive(Debug, Default)]
enum State {
    /// Before a frame.
    #[default]
    Start,
    /// After `0`, or within its length.
    Length(Number),
    /// Within data: bytes left.
    Data(usize),
    /// After `1`, or within the columns.
    Columns(Number),
    /// Within the rows: the columns.
    Rows(u16, Number),
}

/// A decimal number that is being read; its colon comes first in the frame.
#[derive(Debug, Default, Clone)]
struct Number {
    is_begun: bool,
    digits: usize,
    value: usize,
}

impl Number {
    fn begun() -> Self {
        Self {
            is_begun: true,
            ..Self::default()
        }
    }

    /// Takes a byte; the number once its end is there.
    fn take(&mut self, byte: u8) -> Result<Option<usize>, NoFrame> {
        match byte {
            b':' if !self.is_begun => {
                self.is_begun = true;
                Ok(None)
            }
            b':' if self.digits > 0 => Ok(Some(self.value)),
            b'0'..=b'9' if self.is_begun && self.digits < MAX_DIGITS => {
                self.digits += 1;
                self.value = self.value * 10 + usize::from(byte - b'0');
                Ok(None)
            }
            _ => Err(NoFrame),
        }
    }
}

/// Reads frames out of a stream that comes in any pieces.
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
}

impl Decoder {
    /// Takes a piece; what was complete in it.
    ///
    /// # Errors
    /// [`NoFrame`]: nothing after it can be understood.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<Vec<Message>, NoFrame> {
        let mut messages = Vec::new();
        while let Some((&byte, rest)) = bytes.split_first() {
            if let State::Data(left) = self.state {
                let (data, rest) = bytes.split_at(left.min(bytes.len()));
                messages.push(Message::Input(data.to_vec()));
                self.state = match left - data.len() {
                    0 => State::Start,
                    left => State::Data(left),
                };
                bytes = rest;
                continue;
            }
            if let Some(size) = self.step(byte)? {
                messages.push(Message::Resize(size));
            }
            bytes = rest;
        }
        Ok(messages)
    }

    /// Takes a byte outside of data; a size if it completes one.
    fn step(&mut self, byte: u8) -> Result<Option<Size>, NoFrame> {
        let mut size = None;
        self.state = match std::mem::take(&mut self.state) {
            State::Start => match byte {
                b'0' => State::Length(Number::default()),
                b'1' => State::Columns(Number::default()),
                b'2' => State::Start,
                _ => return Err(NoFrame),
            },
            State::Length(mut number) => match number.take(byte)? {
                Some(0) => State::Start,
                Some(length) => State::Data(length),
                None => State::Length(number),
            },
            State::Columns(mut number) => match number.take(byte)? {
                Some(columns) => State::Rows(limited(columns)?, Number::begun()),
                None => State::Columns(number),
            },
            State::Rows(columns, mut number) => match number.take(byte)? {
                Some(rows) => {
                    size = Some(Size {
                        columns,
                        rows: limited(rows)?,
                    });
                    State::Start
                }
                None => State::Rows(columns, number),
            },
            State::Data(left) => State::Data(left),
        };
        Ok(size)
    }
}

fn limited(number: usize) -> Result<u16, NoFrame> {
    u16::try_from(number).map_err(|_| NoFrame)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn input(text: &str) -> Message {
        Message::Input(text.as_bytes().to_vec())
    }

    fn resize(columns: u16, rows: u16) -> Message {
        Message::Resize(Size { columns, rows })
    }

    #[test]
    fn frames_are_read_as_the_protocol_says() {
        for (stream, expected) in [
            ("0:2:ls", vec![input("ls")]),
            ("0:3:ä\n", vec![input("ä\n")]),
            ("1:132:50:", vec![resize(132, 50)]),
            ("2220:1:x2", vec![input("x")]),
            ("0:0:1:80:24:0:5:0:1:x", vec![resize(80, 24), input("0:1:x")]),
            ("0:3:a", vec![input("a")]),
            ("1:80", vec![]),
        ] {
            assert_eq!(Decoder::default().feed(stream.as_bytes()), Ok(expected), "{stream}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for stream in [
            "3",
            "x",
            "0x",
            "0::",
            "0:-1:",
            "0:1234567:",
            "1:80::",
            "1:70000:20:",
            "1:80:24x",
            "\n",
        ] {
            assert_eq!(Decoder::default().feed(stream.as_bytes()), Err(NoFrame), "{stream}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            typed in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut stream = Vec::new();
            for data in &typed {
                stream.extend(format!("0:{}:", data.len()).bytes());
                stream.extend(data);
                stream.extend(b"21:10:20:");
            }
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            places.extend([0, stream.len()]);
            places.sort_unstable();
            let mut decoder = Decoder::default();
            let (mut read, mut sizes) = (Vec::new(), 0);
            for pair in places.windows(2) {
                for message in decoder.feed(&stream[pair[0]..pair[1]]).unwrap() {
                    match message {
                        Message::Input(data) => read.extend(data),
                        Message::Resize(_) => sizes += 1,
                    }
                }
            }
            prop_assert_eq!(read, typed.concat());
            prop_assert_eq!(sizes, typed.len());
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Decoder::default().feed(&bytes);
        }
    }
}
