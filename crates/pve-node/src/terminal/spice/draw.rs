//! What the server says on a channel: the session, the screen, and pictures of its parts (SPICE protocol; types and
//! numbers as in its public headers).
//!
//! Pictures are plain bitmaps, which every client knows: most parts of a terminal have two colours, which take a bit for
//! each pixel.

use std::collections::VecDeque;

use super::messages::head;
use crate::terminal::screen::{Colour, Image};

/// Every channel's own message.
const SET_ACK: u16 = 3;
/// The main channel's.
const MAIN_INIT: u16 = 103;
const CHANNELS: u16 = 104;
/// The display's.
const MARK: u16 = 102;
const DRAW_COPY: u16 = 304;
const SURFACE_CREATE: u16 = 314;
/// The inputs'.
const INPUTS_INIT: u16 = 101;
const LOCKS: u16 = 102;
const MOTION_ACK: u16 = 111;

/// Pixels of 32 bits, of which the highest eight mean nothing.
const XRGB: u32 = 32;
/// The client says where the mouse is.
const MOUSE_OF_CLIENT: u32 = 2;
/// Bytes of a drawing before its image, which is told to be there.
const COPY_HEAD: u32 = 21 + 36;
/// Pixels are put as they are.
const PUT: u16 = 8;
/// The first line of a bitmap is its upper one.
const TOP_DOWN: u8 = 4;

/// Formats of bitmaps: indexes of one and of four bits, the leftmost highest; or 32 bits of colour.
const BITS_1: u8 = 2;
const BITS_4: u8 = 4;
const BITS_32: u8 = 8;

/// Messages that wait to be sent, each by itself: viewers do not look for a second one in a TLS record.
pub(super) type Outbox = VecDeque<Vec<u8>>;

/// Appends a message.
fn put(number: u16, body: &[u8], out: &mut Outbox) {
    out.push_back([&head(number, body.len()), body].concat());
}

/// A body of 32-bit numbers.
fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}

/// Tells the client its session, and that its mouse is wanted.
pub(super) fn main_init(session: u32, out: &mut Outbox) {
    // One display; no agent, and so no tokens for one; no time of sounds; no hint about memory.
    let numbers = [session, 1, MOUSE_OF_CLIENT, MOUSE_OF_CLIENT, 0, 0, 1, 0];
    put(MAIN_INIT, &words(&numbers), out);
}

/// Tells which channels there are.
pub(super) fn channels(kinds: &[u8], out: &mut Outbox) {
    let mut body = words(&[u32::try_from(kinds.len()).unwrap_or(0)]);
    kinds.iter().for_each(|kind| body.extend([*kind, 0]));
    put(CHANNELS, &body, out);
}

/// Asks the client to say so whenever it got `window` messages.
pub(super) fn set_ack(window: u32, out: &mut Outbox) {
    put(SET_ACK, &words(&[1, window]), out);
}

/// Makes the screen that all pictures go to.
pub(super) fn surface((width, height): (usize, usize), out: &mut Outbox) {
    let side = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    put(SURFACE_CREATE, &words(&[0, side(width), side(height), XRGB, 1]), out);
    put(MARK, &[], out);
}

/// Tells which lock keys are on: as the channel begins, and later.
pub(super) fn locks(locks: u16, is_first: bool, out: &mut Outbox) {
    let number = if is_first { INPUTS_INIT } else { LOCKS };
    put(number, &locks.to_le_bytes(), out);
}

/// Tells that a few movements of the mouse arrived.
pub(super) fn motion_ack(out: &mut Outbox) {
    put(MOTION_ACK, &[], out);
}

/// Draws an image at a pixel.
pub(super) fn copy((left, top): (usize, usize), image: &Image, id: u64, out: &mut Outbox) {
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let (width, height) = (number(image.width), number(image.height));
    let (left, top) = (number(left), number(top));
    // The surface, the rectangle (upper, left, lower, right), and that all of it is drawn.
    let mut body = words(&[0, top, left, top + height, left + width]);
    body.push(0);
    // Where the image is in this message, which part of it, how pixels are put and scaled, and no mask.
    body.extend(words(&[COPY_HEAD, 0, 0, height, width]));
    body.extend(PUT.to_le_bytes());
    body.push(0);
    body.push(0);
    body.extend(words(&[0, 0, 0]));
    // The image: a number of its own, a bitmap that is not to be kept, and its size.
    body.extend(id.to_le_bytes());
    body.extend([0, 0]);
    body.extend(words(&[width, height]));
    bitmap(image, (width, height), &mut body);
    put(DRAW_COPY, &body, out);
}

/// Appends a bitmap: its head, its pixels, and its colours if the pixels are indexes.
fn bitmap(image: &Image, (width, height): (u32, u32), body: &mut Vec<u8>) {
    let palette = image.palette(16);
    let (format, bits) = match &palette {
        Some(palette) if palette.len() <= 2 => (BITS_1, 1),
        Some(_) => (BITS_4, 4),
        None => (BITS_32, 32),
    };
    let stride = (width * bits).div_ceil(8);
    body.extend([format, TOP_DOWN]);
    body.extend(words(&[width, height, stride]));
    let Some(palette) = palette else {
        body.extend(words(&[0]));
        image.pixels.iter().for_each(|pixel| body.extend(pixel.to_le_bytes()));
        return;
    };
    let place = u32::try_from(body.len())
        .unwrap_or(u32::MAX)
        .saturating_add(4 + stride * height);
    body.extend(words(&[place]));
    image.pack(&palette, bits as usize, body);
    colours(&palette, 1 << bits, body);
}

/// Appends a palette of `count` colours, which is not to be kept; those that nobody uses are black.
fn colours(palette: &[Colour], count: u16, body: &mut Vec<u8>) {
    body.extend(0_u64.to_le_bytes());
    body.extend(count.to_le_bytes());
    let all = palette.iter().copied().chain(std::iter::repeat(0));
    all.take(count.into())
        .for_each(|colour| body.extend(colour.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(width: usize, pixels: &[Colour]) -> Image {
        Image {
            width,
            height: pixels.len() / width,
            pixels: pixels.to_vec(),
        }
    }

    fn drawn(image: &Image) -> Vec<u8> {
        let mut out = Outbox::new();
        copy((8, 16), image, 3, &mut out);
        let mut out = out.pop_front().unwrap();
        assert_eq!(out[..6], head(DRAW_COPY, out.len() - 6));
        out.split_off(6)
    }

    #[test]
    fn a_picture_is_where_its_message_says() {
        let body = drawn(&image(2, &[1, 2, 2, 1]));
        let place = [0, 16, 8, 18, 10].map(u32::to_le_bytes).concat();
        assert_eq!(body[..20], place);
        assert_eq!(body[20..25], [0, 57, 0, 0, 0]);
        // Its number, type, flags and size; then the bitmap of one bit.
        let head = [&3_u64.to_le_bytes()[..], &[0, 0], &words(&[2, 2])].concat();
        assert_eq!(body[57..75], head);
        let bitmap = [&[BITS_1, TOP_DOWN][..], &words(&[2, 2, 1, 57 + 36 + 2]), &[0x40, 0x80]].concat();
        assert_eq!(body[75..95], bitmap);
        let palette = [&[0; 8][..], &[2, 0], &words(&[1, 2])].concat();
        assert_eq!(body[95..], palette);
    }

    #[test]
    fn colours_take_as_many_bits_as_they_need() {
        for (count, format, size) in [
            (1, BITS_1, 4),
            (2, BITS_1, 4),
            (3, BITS_4, 16),
            (16, BITS_4, 16),
            (17, BITS_32, 128),
        ] {
            let pixels: Vec<Colour> = (0..32).map(|at| at % count).collect();
            let body = drawn(&image(32, &pixels));
            assert_eq!(body[75], format, "{count}");
            let palette = match format {
                BITS_1 => 10 + 2 * 4,
                BITS_4 => 10 + 16 * 4,
                _ => 0,
            };
            assert_eq!(body.len(), 75 + 18 + size + palette, "{count}");
        }
    }

    #[test]
    fn the_sessions_messages_are_as_the_protocol_says() {
        let said = |say: &dyn Fn(&mut Outbox)| {
            let mut out = Outbox::new();
            say(&mut out);
            Vec::from(out).concat()
        };
        let expected = [&[103, 0, 32, 0, 0, 0][..], &words(&[7, 1, 2, 2, 0, 0, 1, 0])].concat();
        assert_eq!(said(&|out| main_init(7, out)), expected);
        let expected = [104, 0, 8, 0, 0, 0, 2, 0, 0, 0, 2, 0, 3, 0];
        assert_eq!(said(&|out| channels(&[2, 3], out)), expected);
        let expected = [
            &[0x3a, 1, 20, 0, 0, 0][..],
            &words(&[0, 640, 400, 32, 1]),
            &[102, 0, 0, 0, 0, 0],
        ]
        .concat();
        assert_eq!(said(&|out| surface((640, 400), out)), expected);
        assert_eq!(said(&|out| locks(4, true, out)), [101, 0, 2, 0, 0, 0, 4, 0]);
        assert_eq!(said(&|out| locks(2, false, out)), [102, 0, 2, 0, 0, 0, 2, 0]);
        assert_eq!(said(&motion_ack), [111, 0, 0, 0, 0, 0]);
    }
}
