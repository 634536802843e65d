//! One client that looks at a terminal: its wishes, its keys, and pictures for it.

use std::io;
use std::net::TcpStream;
use std::time::Duration;

use nix::poll::PollFlags;

use super::encode::{Encoder, Encoding};
use super::messages::{Decoder, Message};
use super::pixels::{Format, OFFERED};
use super::{SIDES, Size};
use crate::terminal::screen::font::{HEIGHT, WIDTH};
use crate::terminal::screen::{Hands, Pace, Screen, printed, show, size_of};
use crate::terminal::sides::{BUFFER, WAKE, interest, read_some, ready, write_some};
use crate::terminal::{Backend, TerminalError, session::Watch};

/// Pseudo-encodings by which a client says what it can do.
const CURSOR: i32 = -239;
const EXTENDED_DESKTOP_SIZE: i32 = -308;
/// Who asked for a size, and what became of it (the extension's "reason" and "status").
const BY_SERVER: u16 = 0;
const BY_CLIENT: u16 = 1;
const DONE: u16 = 0;
const REFUSED: u16 = 3;

/// The mouse's picture: an I-beam, as over text anywhere, and what of it is not transparent.
const BEAM: [u8; 11] = [0xee, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0xee];
const BEAM_WIDTH: usize = 8;

/// A client, and the screen that it looks at.
pub(super) struct Viewer {
    screen: Screen,
    format: Format,
    encoding: Encoding,
    encoder: Encoder,
    /// It waits for a picture.
    is_waiting: bool,
    owes_cursor: bool,
    can_resize: bool,
    /// A size that it is to be told: who asked, and what became of it.
    owed_size: Option<(u16, u16)>,
    hands: Hands,
    /// For the program, and for the client.
    typed: Vec<u8>,
    out: Vec<u8>,
    pace: Pace,
}

impl Viewer {
    pub(super) fn new(screen: Screen) -> Self {
        Self {
            screen,
            format: OFFERED,
            encoding: Encoding::Raw,
            encoder: Encoder::new(),
            is_waiting: false,
            owes_cursor: false,
            can_resize: false,
            owed_size: None,
            hands: Hands::default(),
            typed: Vec::new(),
            out: Vec::new(),
            pace: Pace::default(),
        }
    }

    /// Carries what the program prints to the screen, pictures to the client and its keys to the program, until either
    /// side ends.
    pub(super) fn run<B: Backend>(
        &mut self,
        client: &mut TcpStream,
        backend: &mut B,
        watch: &dyn Watch,
    ) -> Result<(), TerminalError> {
        let mut decoder = Decoder::default();
        let mut has_ended = false;
        loop {
            if watch.is_interrupted() {
                return Ok(());
            }
            self.paint(has_ended);
            if has_ended && self.out.is_empty() {
                return Ok(());
            }
            let of_client = interest(self.typed.len() < BUFFER && !has_ended, !self.out.is_empty());
            let of_backend = interest(!has_ended, !self.typed.is_empty() && !has_ended);
            let (from_client, from_backend) = ready((client, of_client), (backend, of_backend), self.limit())?;
            if from_client.contains(PollFlags::POLLIN) {
                match read_some(client)? {
                    Some(bytes) if bytes.is_empty() => return Ok(()),
                    Some(bytes) => {
                        for message in decoder.feed(&bytes)? {
                            self.hear(message, &mut |size| backend.resize(size));
                        }
                    }
                    None => {}
                }
            } else if from_client.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
                return Ok(());
            }
            if from_backend.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                has_ended |= !self.read(backend);
            }
            self.screen.tick();
            write_some(client, &mut self.out)?;
            has_ended |= write_some(backend, &mut self.typed).is_err();
        }
    }

    /// Reads what the program prints; whether there may be more.
    fn read(&mut self, backend: &mut impl io::Read) -> bool {
        let bytes = printed(backend);
        if let Some(bytes) = &bytes {
            self.show(bytes);
        }
        bytes.is_some()
    }

    /// Shows what the program prints, and takes what the terminal answers to it.
    pub(super) fn show(&mut self, bytes: &[u8]) {
        show(bytes, &mut self.screen, &mut self.typed);
        if self.screen.rang() && self.out.len() < BUFFER {
            self.out.push(2);
        }
    }

    /// Makes a picture now, if the client waits for one; all that the client would be sent since the last time.
    pub(super) fn picture(&mut self) -> Vec<u8> {
        let mut sent = std::mem::take(&mut self.out);
        self.paint(true);
        sent.append(&mut self.out);
        self.typed.clear();
        sent
    }

    /// How long nothing needs to be done unless something happens.
    fn limit(&self) -> Duration {
        let is_due = self.is_waiting && self.out.is_empty();
        self.pace.wait().filter(|_| is_due).unwrap_or(WAKE)
    }

    /// Does what a message says.
    pub(super) fn hear(&mut self, message: Message, resized: &mut dyn FnMut(Size)) {
        match message {
            Message::Format(format) => {
                self.format = format;
                if format.is_mapped {
                    self.out.extend(format.colour_map());
                }
            }
            Message::Encodings(numbers) => self.take_encodings(&numbers),
            Message::Update { is_all } => {
                self.is_waiting = true;
                if is_all {
                    self.screen.show_all();
                }
            }
            Message::Key { is_down, keysym } => {
                let typed = self.hands.key(keysym, is_down, &mut self.screen);
                self.take(typed);
            }
            Message::Pointer { buttons, x, y } => {
                let outcome = self.hands.mouse(buttons, (x, y), &mut self.screen);
                self.take(outcome.typed);
                if let Some(text) = outcome.copied {
                    self.offer(&text);
                }
            }
            // Viewers send it whenever it changes; that alone must not type into a root shell.
            Message::Cut(latin1) => self.hands.clipboard = latin1.into_iter().map(char::from).collect(),
            Message::Resize { width, height } => self.resize(width, height, resized),
        }
    }

    /// Takes what was typed or pasted. While the program has not read what came before, nothing more is kept: one
    /// message may paste a whole clipboard.
    fn take(&mut self, typed: Vec<u8>) {
        if self.typed.len() < BUFFER {
            self.typed.extend(typed);
        }
    }

    fn take_encodings(&mut self, numbers: &[i32]) {
        self.encoding = numbers
            .iter()
            .find_map(|number| Encoding::of(*number))
            .unwrap_or(Encoding::Raw);
        self.owes_cursor = numbers.contains(&CURSOR);
        let could_resize = std::mem::replace(&mut self.can_resize, numbers.contains(&EXTENDED_DESKTOP_SIZE));
        if self.can_resize && !could_resize {
            self.owed_size = Some((BY_SERVER, DONE));
        }
    }

    /// Sends text for the client's clipboard, which knows Latin-1 only.
    fn offer(&mut self, text: &str) {
        let latin1: Vec<u8> = text
            .chars()
            .map(|c| u8::try_from(u32::from(c)).unwrap_or(b'?'))
            .collect();
        let Ok(length) = u32::try_from(latin1.len()) else {
            return;
        };
        if self.out.len() + latin1.len() < BUFFER {
            self.out.extend([3, 0, 0, 0]);
            self.out.extend(length.to_be_bytes());
            self.out.extend(latin1);
        }
    }

    /// Makes the screen another size, in whole characters.
    fn resize(&mut self, width: u16, height: u16, resized: &mut dyn FnMut(Size)) {
        let is_sane = SIDES.0.contains(&width) && SIDES.1.contains(&height);
        if is_sane {
            let size = size_of(width, height);
            self.screen.resize(size);
            resized(size);
        }
        self.owed_size = Some((BY_CLIENT, if is_sane { DONE } else { REFUSED }));
    }

    /// Makes the next picture, if the client waits for one and there is something new.
    fn paint(&mut self, has_ended: bool) {
        if !self.is_waiting || !self.out.is_empty() || (self.pace.is_early() && !has_ended) {
            return;
        }
        let areas = self.screen.changes();
        let size = self.owed_size.take().filter(|_| self.can_resize);
        let count = areas.len() + usize::from(size.is_some()) + usize::from(self.owes_cursor);
        if count == 0 {
            return;
        }
        self.out.extend([0, 0]);
        self.out.extend((count as u16).to_be_bytes());
        if let Some((reason, status)) = size {
            self.put_size(reason, status);
        }
        if std::mem::take(&mut self.owes_cursor) {
            self.put_cursor();
        }
        for area in areas {
            let image = self.screen.image(area);
            let place = [area.left * WIDTH, area.top * HEIGHT, image.width, image.height];
            self.put_head(place, self.encoding.number());
            self.encoder.put(self.encoding, &image, self.format, &mut self.out);
        }
        self.is_waiting = false;
        self.pace.made();
    }

    /// The head of a rectangle.
    fn put_head(&mut self, place: [usize; 4], encoding: i32) {
        for number in place {
            self.out.extend(u16::try_from(number).unwrap_or(u16::MAX).to_be_bytes());
        }
        self.out.extend(encoding.to_be_bytes());
    }

    /// Tells the screen's size: one screen that covers all.
    fn put_size(&mut self, reason: u16, status: u16) {
        let (width, height) = self.screen.pixels();
        self.put_head([reason.into(), status.into(), width, height], EXTENDED_DESKTOP_SIZE);
        self.out.extend([1, 0, 0, 0]);
        self.out.extend([0; 8]);
        for side in [width, height] {
            self.out.extend(u16::try_from(side).unwrap_or(u16::MAX).to_be_bytes());
        }
        self.out.extend([0; 4]);
    }

    /// Sends what the mouse is to look like.
    fn put_cursor(&mut self) {
        self.put_head([3, BEAM.len() / 2, BEAM_WIDTH, BEAM.len()], CURSOR);
        for _ in 0..BEAM_WIDTH * BEAM.len() {
            self.format.put(0x00ff_ffff, &mut self.out);
        }
        self.out.extend(BEAM);
    }
}
