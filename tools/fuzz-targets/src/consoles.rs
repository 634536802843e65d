//! Parsers of what clients of consoles say, and of what programs print on them.

use pve_node::terminal::frames::{Decoder, Message, NoFrame};
use pve_node::terminal::{Size, rfb};

use crate::choice;

/// What xterm.js sends: the first byte says in which pieces it arrives.
pub fn console_frames(data: &[u8]) {
    let Some((piece, stream)) = choice(data) else { return };
    let whole = heard(stream, stream.len().max(1));
    let pieces = heard(stream, piece + 1);
    assert_eq!(whole.1, pieces.1, "pieces of {}", piece + 1);
    // After something that is no frame the session ends, wherever its pieces ended.
    if whole.1.is_none() {
        assert_eq!(whole.0, pieces.0, "pieces of {}", piece + 1);
    }
}

/// What is typed, with a mark and the size where that changes.
fn heard(stream: &[u8], piece: usize) -> (Vec<u16>, Option<NoFrame>) {
    let mut decoder = Decoder::default();
    let mut heard: Vec<u16> = Vec::new();
    for chunk in stream.chunks(piece) {
        match decoder.feed(chunk) {
            Ok(messages) => messages.into_iter().for_each(|message| match message {
                Message::Input(bytes) => heard.extend(bytes.into_iter().map(u16::from)),
                Message::Resize(size) => heard.extend([u16::MAX, size.columns, size.rows]),
            }),
            Err(error) => return (heard, Some(error)),
        }
    }
    (heard, None)
}

/// A VNC viewer, and a program that prints: the first byte divides the two, the second says in which pieces they arrive.
pub fn rfb_viewer(data: &[u8]) {
    let Some((part, rest)) = choice(data) else { return };
    let Some((piece, rest)) = choice(rest) else { return };
    let (said, printed) = rest.split_at(rest.len() * part / 255);
    let screen = Size { columns: 12, rows: 3 };
    let piece = piece + 1;
    // Each picture costs far more than what led to it.
    let count = said.len().max(printed.len()).div_ceil(piece).min(16);
    let nth = |bytes, at| <[u8]>::chunks(bytes, piece).nth(at).unwrap_or_default();
    let turns = (0..count).map(|at| (nth(said, at), nth(printed, at)));
    if let Ok(sent) = rfb::rehearse(screen, turns) {
        // No message begins with anything else: pictures, colours, a bell, the clipboard.
        assert!(sent.iter().filter_map(|bytes| bytes.first()).all(|kind| *kind <= 3));
    }
}
