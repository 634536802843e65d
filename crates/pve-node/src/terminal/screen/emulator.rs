//! What the terminal shows: a grid of characters, drawn into pixels, and what of it changed since a client looked.

use std::cell::RefCell;
use std::rc::Rc;

use alacritty_terminal::event::{Event, EventListener, WindowSize};
use alacritty_terminal::grid::{Dimensions, Scroll};
use alacritty_terminal::index::{Column, Point, Side};
use alacritty_terminal::selection::{Selection, SelectionType};
use alacritty_terminal::term::cell::Flags;
use alacritty_terminal::term::{Config, Osc52, RenderableContent, TermMode, viewport_to_point};
use alacritty_terminal::vte::ansi::{CursorShape, Processor};
use alacritty_terminal::{Term, term::cell::Cell};

use super::colours;
use super::font::{self, HEIGHT, WIDTH};
use super::image::{Colour, Image};
use crate::terminal::Size;

/// Lines that can be scrolled back to.
const HISTORY: usize = 1000;
/// Most bytes of answers that a program may be owed: one that asks and does not read gets no more.
const MAX_ANSWERS: usize = 64 << 10;
/// Lines of characters in a rectangle: as high as one of ZRLE's tiles.
const BAND: usize = 4;

/// What the emulator has to say to the program, and to the client.
#[derive(Debug, Default)]
struct Outbox {
    answers: Vec<u8>,
    bells: usize,
    size: WindowCells,
}

/// The size in cells, for programs that ask.
#[derive(Debug, Default, Clone, Copy)]
struct WindowCells {
    columns: u16,
    rows: u16,
}

#[derive(Debug, Clone, Default)]
struct Events(Rc<RefCell<Outbox>>);

impl EventListener for Events {
    fn send_event(&self, event: Event) {
        let mut outbox = self.0.borrow_mut();
        let answer = match event {
            Event::PtyWrite(text) => text,
            Event::ColorRequest(index, format) => format(colours::by_index(index)),
            Event::TextAreaSizeRequest(format) => format(WindowSize {
                num_lines: outbox.size.rows,
                num_cols: outbox.size.columns,
                cell_width: WIDTH as u16,
                cell_height: HEIGHT as u16,
            }),
            Event::Bell => {
                outbox.bells = 1;
                return;
            }
            _ => return,
        };
        if outbox.answers.len() + answer.len() <= MAX_ANSWERS {
            outbox.answers.extend(answer.bytes());
        }
    }
}

/// A cell as it is drawn: two that are equal look the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    character: char,
    foreground: Colour,
    background: Colour,
    is_underlined: bool,
    is_struck: bool,
    /// The text cursor, if it is not a block, which is drawn by its colours.
    cursor: Option<CursorShape>,
}

/// A part of the screen, in cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::terminal) struct Area {
    pub(in crate::terminal) left: usize,
    pub(in crate::terminal) top: usize,
    pub(in crate::terminal) columns: usize,
    pub(in crate::terminal) rows: usize,
}

/// The emulated terminal of one client.
pub(in crate::terminal) struct Screen {
    term: Term<Events>,
    parser: Processor,
    events: Events,
    columns: usize,
    rows: usize,
    /// How the cells look now, and how they did when the client saw them last.
    now: Vec<Look>,
    seen: Vec<Option<Look>>,
    is_stale: bool,
}

/// A size as the emulator takes it.
struct Cells(Size);

impl Dimensions for Cells {
    fn total_lines(&self) -> usize {
        self.screen_lines()
    }

    fn screen_lines(&self) -> usize {
        self.0.rows.into()
    }

    fn columns(&self) -> usize {
        self.0.columns.into()
    }
}

impl Screen {
    pub(in crate::terminal) fn new(size: Size) -> Self {
        let config = Config {
            scrolling_history: HISTORY,
            // What a program prints must not get into the user's clipboard.
            osc52: Osc52::Disabled,
            ..Config::default()
        };
        let events = Events::default();
        let mut screen = Self {
            term: Term::new(config, &Cells(size), events.clone()),
            parser: Processor::new(),
            events,
            columns: 0,
            rows: 0,
            now: Vec::new(),
            seen: Vec::new(),
            is_stale: true,
        };
        screen.take_size(size);
        screen
    }

    fn take_size(&mut self, size: Size) {
        self.columns = size.columns.into();
        self.rows = size.rows.into();
        self.events.0.borrow_mut().size = WindowCells {
            columns: size.columns,
            rows: size.rows,
        };
        self.seen = vec![None; self.columns * self.rows];
        self.is_stale = true;
    }

    /// Its size in pixels.
    pub(in crate::terminal) fn pixels(&self) -> (usize, usize) {
        (self.columns * WIDTH, self.rows * HEIGHT)
    }

    /// Makes it another size.
    pub(in crate::terminal) fn resize(&mut self, size: Size) {
        self.term.resize(Cells(size));
        self.take_size(size);
    }

    /// Takes what a program prints.
    pub(in crate::terminal) fn print(&mut self, bytes: &[u8]) {
        self.parser.advance(&mut self.term, bytes);
        self.is_stale = true;
    }

    /// Shows what a program holds back and does not let go of in time (synchronised updates).
    pub(in crate::terminal) fn tick(&mut self) {
        let is_late = |at| at <= std::time::Instant::now();
        if self.parser.sync_timeout().sync_timeout().is_some_and(is_late) {
            self.parser.stop_sync(&mut self.term);
            self.is_stale = true;
        }
    }

    /// What the program is to be told.
    pub(in crate::terminal) fn answers(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.events.0.borrow_mut().answers)
    }

    /// Whether the bell rang.
    pub(in crate::terminal) fn rang(&mut self) -> bool {
        std::mem::take(&mut self.events.0.borrow_mut().bells) > 0
    }

    /// Which modes the program has set.
    pub(in crate::terminal) fn mode(&self) -> TermMode {
        *self.term.mode()
    }

    /// Looks back in history, or forth.
    pub(in crate::terminal) fn scroll(&mut self, scroll: Scroll) {
        self.term.scroll_display(scroll);
        self.is_stale = true;
    }

    /// The place of a pixel in history, and in which half of its cell it is.
    fn place(&self, x: usize, y: usize) -> (Point, Side) {
        let (column, row) = self.cell(x, y);
        let side = if x % WIDTH < WIDTH / 2 { Side::Left } else { Side::Right };
        let offset = self.term.grid().display_offset();
        (viewport_to_point(offset, Point::new(row, Column(column))), side)
    }

    /// The cell of a pixel: column and row.
    pub(in crate::terminal) fn cell(&self, x: usize, y: usize) -> (usize, usize) {
        ((x / WIDTH).min(self.columns - 1), (y / HEIGHT).min(self.rows - 1))
    }

    /// Begins to mark text at a pixel.
    pub(in crate::terminal) fn mark_from(&mut self, x: usize, y: usize) {
        let (point, side) = self.place(x, y);
        self.term.selection = Some(Selection::new(SelectionType::Simple, point, side));
        self.is_stale = true;
    }

    /// Marks up to a pixel.
    pub(in crate::terminal) fn mark_to(&mut self, x: usize, y: usize) {
        let (point, side) = self.place(x, y);
        if let Some(selection) = &mut self.term.selection {
            selection.update(point, side);
            self.is_stale = true;
        }
    }

    /// The marked text, if there is any.
    pub(in crate::terminal) fn marked(&self) -> Option<String> {
        self.term.selection_to_string().filter(|text| !text.is_empty())
    }

    /// Whether something may have changed since the client saw it last.
    pub(in crate::terminal) fn is_stale(&self) -> bool {
        self.is_stale
    }

    /// Forgets what the client has seen.
    pub(in crate::terminal) fn show_all(&mut self) {
        self.seen.fill(None);
        self.is_stale = true;
    }

    /// What the client has not seen yet; it is taken as seen then.
    pub(in crate::terminal) fn changes(&mut self) -> Vec<Area> {
        if !std::mem::take(&mut self.is_stale) {
            return Vec::new();
        }
        self.draw();
        let mut areas: Vec<Area> = Vec::new();
        let lines = self
            .now
            .chunks_exact(self.columns)
            .zip(self.seen.chunks_exact_mut(self.columns));
        for (top, (now, seen)) in lines.enumerate() {
            let differs = |(now, seen): (&Look, &Option<Look>)| Some(*now) != *seen;
            let Some(left) = now.iter().zip(seen.iter()).position(differs) else {
                continue;
            };
            let right = now.iter().zip(seen.iter()).rposition(differs).unwrap_or(left);
            for (seen, now) in seen.iter_mut().zip(now) {
                *seen = Some(*now);
            }
            match areas.last_mut() {
                Some(area) if area.top + area.rows == top && area.rows < BAND => {
                    let end = (area.left + area.columns).max(right + 1);
                    area.left = area.left.min(left);
                    area.columns = end - area.left;
                    area.rows += 1;
                }
                _ => areas.push(Area {
                    left,
                    top,
                    columns: right + 1 - left,
                    rows: 1,
                }),
            }
        }
        areas
    }

    /// Looks at all cells.
    fn draw(&mut self) {
        let content = self.term.renderable_content();
        let blank = Look {
            character: ' ',
            foreground: colours::FOREGROUND,
            background: colours::BACKGROUND,
            is_underlined: false,
            is_struck: false,
            cursor: None,
        };
        let mut looks = vec![blank; self.columns * self.rows];
        let RenderableContent {
            display_iter,
            display_offset,
            cursor,
            selection,
            colors,
            ..
        } = content;
        for indexed in display_iter {
            let row = indexed.point.line.0 + i32::try_from(display_offset).unwrap_or(0);
            let index = usize::try_from(row).map(|row| row * self.columns + indexed.point.column.0);
            let Some(look) = index.ok().and_then(|index| looks.get_mut(index)) else {
                continue;
            };
            *look = look_of(indexed.cell, colors);
            if selection.is_some_and(|range| range.contains(indexed.point)) {
                std::mem::swap(&mut look.foreground, &mut look.background);
            }
            if indexed.point == cursor.point {
                match cursor.shape {
                    CursorShape::Hidden => {}
                    CursorShape::Underline | CursorShape::Beam => look.cursor = Some(cursor.shape),
                    CursorShape::Block | CursorShape::HollowBlock => {
                        std::mem::swap(&mut look.foreground, &mut look.background);
                    }
                }
            }
        }
        self.now = looks;
    }

    /// Pixels of a part, as they were drawn last.
    pub(in crate::terminal) fn image(&self, area: Area) -> Image {
        let (width, height) = (area.columns * WIDTH, area.rows * HEIGHT);
        let mut pixels = Vec::with_capacity(width * height);
        let lines = self.now.chunks_exact(self.columns).skip(area.top).take(area.rows);
        for line in lines {
            let looks = line.get(area.left..area.left + area.columns).unwrap_or_default();
            let glyphs: Vec<font::Glyph> = looks.iter().map(glyph_of).collect();
            for y in 0..HEIGHT {
                for (look, glyph) in looks.iter().zip(&glyphs) {
                    let bits = glyph.get(y).copied().unwrap_or(0);
                    pixels.extend((0..WIDTH).map(|x| {
                        if bits << x & 0x80 != 0 {
                            look.foreground
                        } else {
                            look.background
                        }
                    }));
                }
            }
        }
        Image { width, height, pixels }
    }
}

/// How a cell looks without marks and cursor.
fn look_of(cell: &Cell, colors: &alacritty_terminal::term::color::Colors) -> Look {
    let is_bold = cell.flags.contains(Flags::BOLD);
    let mut foreground = colours::foreground(cell.fg, colors, is_bold);
    let mut background = colours::background(cell.bg, colors);
    if cell.flags.contains(Flags::DIM) {
        foreground = colours::dimmed(foreground);
    }
    if cell.flags.contains(Flags::INVERSE) {
        std::mem::swap(&mut foreground, &mut background);
    }
    let spacers = Flags::WIDE_CHAR_SPACER | Flags::LEADING_WIDE_CHAR_SPACER | Flags::HIDDEN;
    let is_empty = cell.flags.intersects(spacers) || cell.c.is_control();
    Look {
        character: if is_empty { ' ' } else { cell.c },
        foreground,
        background,
        is_underlined: cell.flags.intersects(Flags::ALL_UNDERLINES),
        is_struck: cell.flags.contains(Flags::STRIKEOUT),
        cursor: None,
    }
}

/// The pixels of a cell that have its foreground.
fn glyph_of(look: &Look) -> font::Glyph {
    let mut glyph = font::glyph(look.character);
    let lines: &[usize] = match (look.is_underlined, look.is_struck, look.cursor) {
        (_, _, Some(CursorShape::Underline)) => &[HEIGHT - 2, HEIGHT - 1],
        (true, true, _) => &[8, HEIGHT - 2],
        (true, false, _) => &[HEIGHT - 2],
        (false, true, _) => &[8],
        (false, false, _) => &[],
    };
    for line in lines {
        if let Some(line) = glyph.get_mut(*line) {
            *line = 0xff;
        }
    }
    if look.cursor == Some(CursorShape::Beam) {
        glyph.iter_mut().for_each(|line| *line |= 0x80);
    }
    glyph
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screen(text: &str) -> Screen {
        let mut screen = Screen::new(Size { columns: 20, rows: 6 });
        screen.changes();
        screen.print(text.as_bytes());
        screen
    }

    fn area(left: usize, top: usize, columns: usize, rows: usize) -> Area {
        Area {
            left,
            top,
            columns,
            rows,
        }
    }

    #[test]
    fn only_what_changed_is_sent() {
        let mut screen = screen("");
        assert_eq!(screen.changes(), []);
        screen.print(b"ab");
        // The cursor moved, too.
        assert_eq!(screen.changes(), [area(0, 0, 3, 1)]);
        screen.print(b"");
        assert_eq!(screen.changes(), []);
        screen.print(b"\x1b[3;5Hx\x1b[6;1Hy\x1b[4;19Hz\x1b[1;3H");
        assert_eq!(screen.changes(), [area(4, 2, 15, 2), area(0, 5, 1, 1)]);
        screen.show_all();
        assert_eq!(screen.changes(), [area(0, 0, 20, 4), area(0, 4, 20, 2)]);
    }

    #[test]
    fn colours_and_glyphs_become_pixels() {
        let mut screen = screen("\x1b[44m\x1b[2J\x1b[31;1mT\x1b[m\x1b[6;20H");
        screen.changes();
        let image = screen.image(area(0, 0, 2, 1));
        assert_eq!((image.width, image.height), (16, 16));
        let blue = colours::by_index(4);
        let blue = u32::from_be_bytes([0, blue.r, blue.g, blue.b]);
        assert_eq!((image.pixels[0], image.pixels[15]), (blue, blue));
        // The stroke of the letter, in the bright red that bold means.
        let red = colours::by_index(9);
        assert_eq!(image.pixels[2 * 16 + 3], u32::from_be_bytes([0, red.r, red.g, red.b]));
    }

    #[test]
    fn line_drawing_of_old_terminals_is_known() {
        let mut old = screen("\x1b(0lqk\x1b(B");
        let mut new = screen("┌─┐");
        for screen in [&mut old, &mut new] {
            screen.changes();
        }
        assert_eq!(old.image(area(0, 0, 3, 1)), new.image(area(0, 0, 3, 1)));
    }

    #[test]
    fn programs_get_answers_within_reason() {
        let mut screen = screen("\x1b[6n\x1b[c\x1b[18t");
        let answers = String::from_utf8(screen.answers()).unwrap();
        assert!(
            answers.starts_with("\x1b[1;1R\x1b[?") && answers.ends_with("\x1b[8;6;20t"),
            "{answers:?}"
        );
        for _ in 0..50_000 {
            screen.print(b"\x1b[6n");
        }
        assert!(screen.answers().len() <= MAX_ANSWERS);
    }

    #[test]
    fn history_can_be_looked_at() {
        let mut screen = screen("first\r\n1\r\n2\r\n3\r\n4\r\n5\r\n6");
        screen.changes();
        let bottom = screen.image(area(0, 0, 5, 1));
        screen.scroll(Scroll::PageUp);
        screen.changes();
        assert_ne!(screen.image(area(0, 0, 5, 1)), bottom);
        screen.scroll(Scroll::Bottom);
        screen.changes();
        assert_eq!(screen.image(area(0, 0, 5, 1)), bottom);
    }

    #[test]
    fn marked_text_can_be_taken() {
        let mut screen = screen("hello world");
        screen.mark_from(0, 0);
        screen.mark_to(5 * WIDTH - 1, 3);
        assert_eq!(screen.marked().as_deref(), Some("hello"));
        assert_eq!(screen.changes(), [area(0, 0, 12, 1)]);
    }

    #[test]
    fn any_size_can_be_had() {
        let mut screen = screen("text that is longer than a few columns, and wraps\r\n漢字\r\n\x1b[7mx");
        for (columns, rows) in [(2, 1), (512, 135), (2, 135), (80, 25)] {
            screen.resize(Size { columns, rows });
            let areas = screen.changes();
            assert_eq!(areas.iter().map(|area| area.rows).sum::<usize>(), usize::from(rows));
            let last = areas.last().copied().unwrap();
            assert_eq!(
                screen.image(last).pixels.len(),
                last.columns * last.rows * WIDTH * HEIGHT
            );
        }
    }
}
