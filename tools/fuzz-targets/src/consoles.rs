//! Parsers of what clients of consoles say, and of what programs print on them.

use pve_node::terminal::frames::{Decoder, Message, NoFrame};
use pve_node::terminal::spice::link::{Hello, Link, Refusal, Step};
use pve_node::terminal::spice::{Kind, NoSpice};
use pve_node::terminal::{Size, rfb, spice};

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

/// Most bytes that a SPICE channel may hold of what is not complete: the longest link message, or the beginning of any
/// other.
const MAX_HELD: usize = 4096 + 16;

/// A channel of a SPICE viewer, from its first byte; how it is cut into packets changes nothing.
pub fn spice_client(data: &[u8]) {
    let Some((size, data)) = choice(data) else { return };
    let size = size.max(1);
    let (hello, rest) = link(data, data.len().max(1));
    let (again, left) = link(data, size);
    assert!(hello == again && rest == left);
    for kind in [Kind::Main, Kind::Display, Kind::Inputs] {
        let whole = messages(kind, &rest, rest.len().max(1));
        assert_eq!(whole, messages(kind, &rest, size), "{kind:?}");
    }
}

/// What a client says in the link stage, and what comes after it.
fn link(data: &[u8], size: usize) -> (Result<Option<Hello>, Refusal>, Vec<u8>) {
    let mut link = Link::default();
    let mut hello = None;
    let mut pieces = data.chunks(size);
    while let Some(piece) = pieces.next() {
        link.feed(piece);
        loop {
            match link.step() {
                Ok(Some(Step::Hello(said))) => hello = Some(said),
                Ok(Some(Step::Sealed(_))) => {
                    let mut rest = link.rest();
                    pieces.for_each(|piece| rest.extend(piece));
                    return (Ok(hello), rest);
                }
                Ok(None) => break,
                Err(refusal) => return (Err(refusal), Vec::new()),
            }
        }
    }
    assert!(link.rest().len() <= MAX_HELD);
    (Ok(hello), Vec::new())
}

/// What a client says afterwards, up to where it makes no sense.
fn messages(kind: Kind, data: &[u8], size: usize) -> (Vec<spice::messages::Message>, Option<NoSpice>) {
    let mut decoder = spice::messages::Decoder::new(kind);
    let mut said = Vec::new();
    for piece in data.chunks(size) {
        match decoder.feed(piece) {
            Ok(messages) => said.extend(messages),
            Err(error) => return (Vec::new(), Some(error)),
        }
        assert!(decoder.held() <= MAX_HELD);
    }
    (said, None)
}
