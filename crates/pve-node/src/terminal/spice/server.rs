//! One session: who may come in, and then keys to the program and pictures to the client.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::poll::PollFlags;
use openssl::ssl::SslAcceptor;
use subtle::ConstantTimeEq as _;

use super::channel::{Channel, Stage};
use super::draw::Outbox;
use super::key::{SEALED, SessionKey};
use super::keyboard::Keyboard;
use super::link::{self, Hello, Link, Refusal, Step};
use super::messages::{Decoder, Message};
use super::{Kind, draw};
use crate::terminal::screen::font::{HEIGHT, WIDTH};
use crate::terminal::screen::{Display, Hands, Pace, Screen, printed, show};
use crate::terminal::session::{Backend, TerminalError, Watch};
use crate::terminal::sides::{BUFFER, WAKE, interest, ready_of, write_some};

/// How long the client may take to come (reference 01 §4.5: it has to find spiceproxy first).
const WAIT: Duration = Duration::from_secs(40);
/// How long a client may take for the last picture after the program has ended.
const GOODBYE: Duration = Duration::from_secs(3);
/// Most connections at once: a few times what a viewer makes.
const MAX_CONNECTIONS: usize = 12;
/// Most refusals that are logged: somebody on this host may try for as long as the session lasts.
const MAX_LOGGED: usize = 20;
/// After how many messages the display says that it got them.
const WINDOW: u32 = 20;
/// With how many under way nothing more is drawn.
const MAX_UNREAD: u32 = 2 * WINDOW;
/// How many movements of the mouse are acknowledged at once, as the protocol has it.
const MOTIONS: u32 = 4;
/// The mouse's wheel in messages about buttons, and as the screen has it.
const WHEEL_UP: (u8, u8) = (4, 8);
const WHEEL_DOWN: (u8, u8) = (5, 16);

/// A session, and the screen that its client looks at.
pub(super) struct Server<'a> {
    /// Gone once all channels are there.
    listener: Option<TcpListener>,
    tls: SslAcceptor,
    key: SessionKey,
    display: &'a Display,
    /// The session's number, by which channels say that they belong to it. Not 0.
    session: u32,
    channels: Vec<Channel>,
    /// Somebody was let in: nobody else will be.
    is_taken: bool,
    refusals: usize,
    screen: Screen,
    keyboard: Keyboard,
    hands: Hands,
    mouse: (u16, u16),
    motions: u32,
    /// For the program.
    typed: Vec<u8>,
    /// The display is ready for pictures, and so many messages were not said to have arrived.
    unread: Option<u32>,
    pictures: u64,
    pace: Pace,
}

impl<'a> Server<'a> {
    pub(super) fn new(
        listener: TcpListener,
        tls: SslAcceptor,
        key: SessionKey,
        display: &'a Display,
        keyboard: Keyboard,
    ) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let mut number = [0; 4];
        getrandom::fill(&mut number).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(Self {
            listener: Some(listener),
            tls,
            key,
            display,
            session: u32::from_le_bytes(number).max(1),
            channels: Vec::new(),
            is_taken: false,
            refusals: 0,
            screen: Screen::new(display.size()),
            keyboard,
            hands: Hands::default(),
            mouse: (0, 0),
            motions: 0,
            typed: Vec::new(),
            unread: None,
            pictures: 0,
            pace: Pace::default(),
        })
    }

    /// Serves the session until either side ends; `check` has the last word on who comes in, and `open` opens what is
    /// behind the terminal for the first.
    pub(super) fn run<B: Backend>(
        &mut self,
        watch: &mut dyn Watch,
        check: &dyn Fn() -> Result<(), TerminalError>,
        open: impl FnOnce() -> Result<B, TerminalError>,
    ) -> Result<(), TerminalError> {
        let deadline = Instant::now() + WAIT;
        while !self.is_taken {
            if watch.is_interrupted() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(TerminalError::NobodyCame);
            }
            self.turn(None::<&B>, watch, check)?;
        }
        let mut backend = open()?;
        let mut ended: Option<Instant> = None;
        while self.channel(Kind::Main).is_some() {
            if watch.is_interrupted() {
                return Ok(());
            }
            self.paint(ended.is_some());
            if ended.is_some_and(|at| at.elapsed() > GOODBYE || self.is_idle()) {
                return Ok(());
            }
            let side = Some(&backend).filter(|_| ended.is_none());
            let happened = self.turn(side, watch, check)?;
            let mut may_be_more = true;
            if happened.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                match printed(&mut backend) {
                    Some(bytes) => show(&bytes, &mut self.screen, &mut self.typed),
                    None => may_be_more = false,
                }
            }
            self.screen.tick();
            may_be_more &= ended.is_some() || write_some(&mut backend, &mut self.typed).is_ok();
            if !may_be_more {
                ended.get_or_insert_with(Instant::now);
            }
        }
        Ok(())
    }

    /// Waits until something happens, and does all of it but for the program's side, which is answered.
    fn turn(
        &mut self,
        backend: Option<&impl Backend>,
        watch: &mut dyn Watch,
        check: &dyn Fn() -> Result<(), TerminalError>,
    ) -> Result<PollFlags, TerminalError> {
        let may_type = self.typed.len() < BUFFER;
        let count = self.channels.len();
        let mut sides: Vec<(BorrowedFd<'_>, PollFlags)> = Vec::new();
        for channel in &self.channels {
            sides.push((channel.as_fd(), channel.interest(may_type)));
        }
        sides.extend(backend.map(|backend| (backend.as_fd(), interest(true, !self.typed.is_empty()))));
        let listener = self.listener.as_ref().filter(|_| count < MAX_CONNECTIONS);
        sides.extend(listener.map(|listener| (listener.as_fd(), PollFlags::POLLIN)));
        let happened = ready_of(&sides, self.limit())?;
        let mut others = happened.iter().skip(count).copied();
        let of_backend = backend.and_then(|_| others.next()).unwrap_or(PollFlags::empty());
        let has_knocked = others.next().is_some_and(|flags| !flags.is_empty());
        for (at, flags) in happened.iter().take(count).enumerate() {
            if flags.intersects(PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR) {
                self.hear(at, watch, check);
            }
        }
        self.channels.iter_mut().for_each(Channel::flush);
        self.channels.retain(|channel| !channel.is_over());
        if has_knocked {
            self.accept();
        }
        if Kind::ALL.into_iter().all(|kind| self.channel(kind).is_some()) {
            self.listener = None;
        }
        Ok(of_backend)
    }

    /// How long nothing needs to be done unless something happens.
    fn limit(&self) -> Duration {
        let is_due = self.screen.is_stale() && self.easel().is_some();
        self.pace.wait().filter(|_| is_due).unwrap_or(WAKE)
    }

    /// Where the display is among the channels, if it has taken what it got before.
    fn easel(&self) -> Option<usize> {
        self.unread.filter(|count| *count < MAX_UNREAD)?;
        let is_free = |channel: &Channel| channel.kind() == Some(Kind::Display) && channel.is_idle();
        self.channels.iter().position(is_free)
    }

    fn accept(&mut self) {
        let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept) else {
            return;
        };
        match Channel::new(&self.tls, stream) {
            Ok(channel) => self.channels.push(channel),
            Err(error) => log::warn!("unable to serve a SPICE channel - {error}"),
        }
    }

    /// The channel of a kind that is in.
    fn channel(&mut self, kind: Kind) -> Option<&mut Channel> {
        self.channels.iter_mut().find(|channel| channel.kind() == Some(kind))
    }

    /// Whether all is sent to everybody who is in.
    fn is_idle(&self) -> bool {
        let mut open = self.channels.iter().filter(|channel| channel.kind().is_some());
        open.all(Channel::is_idle)
    }

    /// Hears what a connection says.
    fn hear(&mut self, at: usize, watch: &mut dyn Watch, check: &dyn Fn() -> Result<(), TerminalError>) {
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let mut bytes = channel.read();
        if let Stage::Link(link, _) = &mut channel.stage {
            link.feed(&bytes);
            let (peer, was_taken) = (channel.peer(), self.is_taken);
            bytes = match self.log_in(at, check) {
                Ok(rest) => rest,
                Err(refusal) => return self.refuse(at, refusal, watch),
            };
            if self.is_taken && !was_taken {
                watch.log(&format!("client connection: {peer}"));
            }
        }
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        let Stage::Open(kind, decoder) = &mut channel.stage else {
            return;
        };
        let kind = *kind;
        match decoder.feed(&bytes) {
            Ok(messages) => messages.into_iter().for_each(|message| self.obey(at, kind, message)),
            Err(error) => {
                watch.log(&error.to_string());
                channel.fail();
            }
        }
    }

    /// Goes through the link stage as far as the client has said; what came after it.
    fn log_in(&mut self, at: usize, check: &dyn Fn() -> Result<(), TerminalError>) -> Result<Vec<u8>, Refusal> {
        while let Some(channel) = self.channels.get_mut(at) {
            let Stage::Link(link, hello) = &mut channel.stage else {
                break;
            };
            match (link.step()?, *hello) {
                (Some(Step::Hello(said)), _) => {
                    if Kind::of(said.kind).is_none() || said.number != 0 {
                        return Err(Refusal::Channel);
                    }
                    *hello = Some(said);
                    channel.out.push_back(link::reply(Ok(self.key.public())));
                }
                (Some(Step::Sealed(sealed)), Some(said)) => {
                    let link = std::mem::take(link);
                    let kind = self.admit(said, &sealed, check)?;
                    return Ok(self.begin(at, kind, link));
                }
                _ => break,
            }
        }
        Ok(Vec::new())
    }

    /// Whether a channel may come in: with the password, for the first time, and to the session that it names.
    fn admit(
        &mut self,
        said: Hello,
        sealed: &[u8; SEALED],
        check: &dyn Fn() -> Result<(), TerminalError>,
    ) -> Result<Kind, Refusal> {
        let password = self.key.open(sealed).ok_or(Refusal::Password)?;
        let password = password.split(|byte| *byte == 0).next().unwrap_or_default();
        if !bool::from(password.ct_eq(self.display.password.as_bytes())) {
            return Err(Refusal::Password);
        }
        let kind = Kind::of(said.kind).ok_or(Refusal::Channel)?;
        match kind {
            // The password is good for one session.
            Kind::Main if self.is_taken => Err(Refusal::Password),
            Kind::Main if said.session != 0 => Err(Refusal::Session),
            Kind::Main => check().map(|()| kind).map_err(|_| Refusal::Password),
            _ if !self.is_taken || said.session != self.session => Err(Refusal::Session),
            _ if self.channel(kind).is_some() => Err(Refusal::Channel),
            _ => Ok(kind),
        }
    }

    /// Tells a channel that it is in, and what it has to know first; what it said already.
    fn begin(&mut self, at: usize, kind: Kind, link: Link) -> Vec<u8> {
        self.is_taken = true;
        let Some(channel) = self.channels.get_mut(at) else {
            return Vec::new();
        };
        channel.out.push_back(link::result(Ok(())).to_vec());
        channel.stage = Stage::Open(kind, Decoder::new(kind));
        match kind {
            Kind::Main => draw::main_init(self.session, &mut channel.out),
            Kind::Inputs => draw::locks(self.keyboard.locks(), true, &mut channel.out),
            Kind::Display => self.unread = None,
        }
        link.rest()
    }

    fn refuse(&mut self, at: usize, refusal: Refusal, watch: &mut dyn Watch) {
        self.refusals = self.refusals.saturating_add(1);
        let Some(channel) = self.channels.get_mut(at) else {
            return;
        };
        if self.refusals <= MAX_LOGGED {
            watch.log(&format!("client connection: {} refused - {refusal}", channel.peer()));
        }
        let is_password_due = matches!(&channel.stage, Stage::Link(_, Some(_)));
        if is_password_due {
            channel.out.push_back(link::result(Err(refusal)).to_vec());
        } else {
            channel.out.push_back(link::reply(Err(refusal)));
        }
        channel.stage = Stage::Refused;
    }

    /// Does what a message says.
    fn obey(&mut self, at: usize, kind: Kind, message: Message) {
        match message {
            Message::Sync(_) => {}
            Message::Ack if kind == Kind::Display => {
                self.unread = self.unread.map(|count| count.saturating_sub(WINDOW));
            }
            Message::Attach => self.answer(at, |out| {
                draw::channels(&[Kind::Display as u8, Kind::Inputs as u8], out)
            }),
            Message::Ready if kind == Kind::Display && self.unread.is_none() => {
                let pixels = self.screen.pixels();
                self.screen.show_all();
                // The surface, and that it is to be seen.
                self.unread = Some(2);
                self.answer(at, |out| {
                    draw::set_ack(WINDOW, out);
                    draw::surface(pixels, out);
                });
            }
            Message::Ready | Message::Ack => {}
            Message::Key(code) => {
                let before = self.keyboard.locks();
                if let Some((keysym, is_down)) = self.keyboard.key(code) {
                    let typed = self.hands.key(keysym, is_down, &mut self.screen);
                    self.take(typed);
                }
                let locks = self.keyboard.locks();
                if locks != before {
                    self.answer(at, |out| draw::locks(locks, false, out));
                }
            }
            Message::Locks(locks) => self.keyboard.set_locks(locks),
            Message::Motion => self.moved(at),
            Message::Position { x, y, buttons } => {
                let side = |pixel: u32| u16::try_from(pixel).unwrap_or(u16::MAX);
                self.mouse = (side(x), side(y));
                self.mouse(mask(buttons));
                self.moved(at);
            }
            Message::Button {
                button,
                buttons,
                is_down,
            } => {
                let notch = [WHEEL_UP, WHEEL_DOWN].into_iter().find(|(number, _)| *number == button);
                if let Some((_, bit)) = notch.filter(|_| is_down) {
                    self.mouse(mask(buttons) | bit);
                }
                self.mouse(mask(buttons));
            }
        }
    }

    /// Says something on a channel.
    fn answer(&mut self, at: usize, say: impl FnOnce(&mut Outbox)) {
        if let Some(channel) = self.channels.get_mut(at) {
            say(&mut channel.out);
        }
    }

    /// Counts a movement of the mouse.
    fn moved(&mut self, at: usize) {
        self.motions += 1;
        if self.motions == MOTIONS {
            self.motions = 0;
            self.answer(at, draw::motion_ack);
        }
    }

    /// The mouse has these buttons down.
    fn mouse(&mut self, buttons: u8) {
        let moved = self.hands.mouse(buttons, self.mouse, &mut self.screen);
        self.take(moved.typed);
        // Without an agent the user's clipboard is out of reach: what was marked can be pasted here.
        if let Some(text) = moved.copied {
            self.hands.clipboard = text;
        }
    }

    /// Takes what was typed or pasted. While the program has not read what came before, nothing more is kept: one
    /// message may paste a whole clipboard.
    fn take(&mut self, typed: Vec<u8>) {
        if self.typed.len() < BUFFER {
            self.typed.extend(typed);
        }
    }

    /// Draws what changed, if the display has taken what it got before.
    fn paint(&mut self, has_ended: bool) {
        if self.pace.is_early() && !has_ended {
            return;
        }
        let Some(channel) = self.easel().and_then(|at| self.channels.get_mut(at)) else {
            return;
        };
        let areas = self.screen.changes();
        if areas.is_empty() {
            return;
        }
        let count = u32::try_from(areas.len()).unwrap_or(u32::MAX);
        self.unread = self.unread.map(|unread| unread.saturating_add(count));
        for area in areas {
            let image = self.screen.image(area);
            self.pictures += 1;
            draw::copy(
                (area.left * WIDTH, area.top * HEIGHT),
                &image,
                self.pictures,
                &mut channel.out,
            );
        }
        self.pace.made();
    }
}

/// The buttons that are down: left, middle and right, as the screen has them.
fn mask(buttons: u16) -> u8 {
    (buttons & 7) as u8
}
