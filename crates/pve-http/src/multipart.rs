//! A parser for `multipart/form-data` that never holds more than a line or a delimiter (reference 01 §3.11).
//!
//! It is a plain state machine: bytes are fed in, events come out, nothing is read or written here. Written by hand
//! because clients of this API rely on leniencies that strict parsers refuse: bare line feeds, a closing delimiter
//! without a line end before or after it.
//!
//! ```text
//! Preamble ──delimiter──▶ Delimiter ──line end──▶ Headers ──empty line──▶ Content ──delimiter──▶ Delimiter
//!                             └──────"--"──▶ Done
//! ```

use bytes::{Buf as _, Bytes, BytesMut};
use memchr::memmem;

/// Most header bytes of one part.
const MAX_PART_HEAD: usize = 16 * 1024;
/// Longest boundary; RFC 2046 allows 70 characters.
const MAX_BOUNDARY: usize = 200;

/// The body is no multipart body.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// What the parser found.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A part begins.
    Part {
        /// Its field name.
        name: String,
        /// The file name, if the part is a file.
        filename: Option<String>,
    },
    /// Bytes of the current part.
    Data(Bytes),
    /// The closing delimiter; what follows is ignored.
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Preamble,
    Delimiter,
    Headers,
    Content,
    Done,
}

/// The state machine.
#[derive(Debug)]
pub struct Parser {
    /// `--` and the boundary.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    state: State,
    /// Whether lines end in CR LF; told by the end of the first delimiter line.
    crlf: bool,
    /// Whether nothing of the current part's content has been taken from the buffer yet.
    fresh: bool,
}

/// The boundary of a `multipart/form-data` content type.
pub fn boundary(content_type: &str) -> Option<&str> {
    let mut parts = content_type.split(';');
    if !parts.next()?.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let value = parts.find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("boundary").then_some(value)
    })?;
    let value = value
        .strip_prefix('"')
        .and_then(|value| value.strip_suffix('"'))
        .unwrap_or(value);
    (1..=MAX_BOUNDARY).contains(&value.len()).then_some(value)
}

impl Parser {
    /// Reads a body with this boundary.
    pub fn new(boundary: &str) -> Self {
        Self {
            delimiter: format!("--{boundary}").into_bytes(),
            buffer: BytesMut::new(),
            state: State::Preamble,
            crlf: true,
            fresh: true,
        }
    }

    /// Adds bytes of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.state != State::Done {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next event; `None` when more bytes are needed first.
    ///
    /// # Errors
    /// The body is no multipart body, or a part has no name.
    pub fn next_event(&mut self) -> Result<Option<Event>, Malformed> {
        loop {
            let event = match self.state {
                State::Preamble => self.preamble(),
                State::Delimiter => self.delimiter_end()?,
                State::Headers => self.headers()?,
                State::Content => self.content(),
                State::Done => return Ok(None),
            };
            match event {
                Step::Event(event) => return Ok(Some(event)),
                Step::Again => {}
                Step::Starved => return Ok(None),
            }
        }
    }

    /// Skips to the first delimiter.
    fn preamble(&mut self) -> Step {
        match memmem::find(&self.buffer, &self.delimiter) {
            Some(at) => {
                self.buffer.advance(at + self.delimiter.len());
                self.state = State::Delimiter;
                Step::Again
            }
            None => {
                let useless = self.buffer.len().saturating_sub(self.delimiter.len());
                self.buffer.advance(useless);
                Step::Starved
            }
        }
    }

    /// What follows a delimiter: `--` closes, a line end opens a part.
    fn delimiter_end(&mut self) -> Result<Step, Malformed> {
        if self.buffer.starts_with(b"--") {
            self.state = State::Done;
            self.buffer.clear();
            return Ok(Step::Event(Event::End));
        }
        match line_end(&self.buffer) {
            LineEnd::At { after, crlf } => {
                self.crlf = crlf;
                self.buffer.advance(after);
                self.state = State::Headers;
                Ok(Step::Again)
            }
            LineEnd::Undecided => Ok(Step::Starved),
            LineEnd::No => Err(Malformed),
        }
    }

    /// The part's header lines, of which only `Content-Disposition` matters.
    fn headers(&mut self) -> Result<Step, Malformed> {
        let mut end = 0;
        let mut found = None;
        while let Some(length) = self.buffer.get(end..).and_then(|rest| memchr::memchr(b'\n', rest)) {
            let line = self.buffer.get(end..end + length).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            end += length + 1;
            if line.is_empty() {
                self.buffer.advance(end);
                self.state = State::Content;
                self.fresh = true;
                return found.map(Step::Event).ok_or(Malformed);
            }
            if let Some(part) = disposition(&String::from_utf8_lossy(line)) {
                found = Some(part);
            }
        }
        if self.buffer.len() > MAX_PART_HEAD {
            return Err(Malformed);
        }
        Ok(Step::Starved)
    }

    /// Content up to a delimiter, or as much of it as certainly is content.
    fn content(&mut self) -> Step {
        let mut from = 0;
        while let Some(found) = self
            .buffer
            .get(from..)
            .and_then(|rest| memmem::find(rest, &self.delimiter))
        {
            let at = from + found;
            let before = self.line_end_before(at);
            let glued = before == at && !(at == 0 && self.fresh);
            match self.is_delimiter(at + self.delimiter.len(), glued) {
                Verdict::Yes => return self.take_content(before, at + self.delimiter.len()),
                Verdict::No => from = at + 1,
                Verdict::Undecided => return self.emit(before),
            }
        }
        // The tail may be the start of a line end and a delimiter.
        let keep = self.delimiter.len() + 2;
        let certain = self.buffer.len().saturating_sub(keep);
        self.emit(certain)
    }

    /// Where the line end before a delimiter begins; the delimiter's own place if there is none.
    fn line_end_before(&self, at: usize) -> usize {
        let before = self.buffer.get(..at).unwrap_or_default();
        let end: &[u8] = if self.crlf { b"\r\n" } else { b"\n" };
        before.strip_suffix(end).map_or(at, <[u8]>::len)
    }

    /// Whether the delimiter text is a delimiter, by what follows it: the closing one needs no line end before it.
    fn is_delimiter(&self, after: usize, glued: bool) -> Verdict {
        let rest = self.buffer.get(after..).unwrap_or_default();
        if rest.starts_with(b"--") {
            return Verdict::Yes;
        }
        if b"--".starts_with(rest) {
            return Verdict::Undecided;
        }
        if glued {
            return Verdict::No;
        }
        match line_end(rest) {
            LineEnd::At { .. } => Verdict::Yes,
            LineEnd::Undecided => Verdict::Undecided,
            LineEnd::No => Verdict::No,
        }
    }

    /// The last of a part's content; drops it from the buffer together with the delimiter.
    fn take_content(&mut self, length: usize, drop: usize) -> Step {
        let mut taken = self.buffer.split_to(drop);
        taken.truncate(length);
        self.state = State::Delimiter;
        if taken.is_empty() {
            Step::Again
        } else {
            Step::Event(Event::Data(taken.freeze()))
        }
    }

    fn emit(&mut self, length: usize) -> Step {
        if length == 0 {
            return Step::Starved;
        }
        self.fresh = false;
        Step::Event(Event::Data(self.buffer.split_to(length).freeze()))
    }
}

enum Step {
    Event(Event),
    Again,
    Starved,
}

enum Verdict {
    Yes,
    No,
    Undecided,
}

enum LineEnd {
    At { after: usize, crlf: bool },
    Undecided,
    No,
}

/// Whether bytes begin with a line end, blanks before it allowed.
fn line_end(bytes: &[u8]) -> LineEnd {
    let blanks = bytes.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
    match bytes.get(blanks..) {
        Some([b'\n', ..]) => LineEnd::At {
            after: blanks + 1,
            crlf: false,
        },
        Some([b'\r', b'\n', ..]) => LineEnd::At {
            after: blanks + 2,
            crlf: true,
        },
        Some([] | [b'\r']) if blanks < MAX_BOUNDARY => LineEnd::Undecided,
        _ => LineEnd::No,
    }
}

/// The names in a `Content-Disposition: form-data` line.
fn disposition(line: &str) -> Option<Event> {
    let (header, value) = line.split_once(':')?;
    if !header.trim().eq_ignore_ascii_case("content-disposition") {
        return None;
    }
    let value = value.trim();
    let name = attribute(value, "name")?;
    Some(Event::Part {
        name,
        filename: attribute(value, "filename"),
    })
}

/// An attribute behind a `;`: quoted – anything but a quote – or a bare word.
fn attribute(value: &str, key: &str) -> Option<String> {
    let mut rest = value;
    loop {
        rest = rest.split_once(';')?.1.trim_start();
        let Some(after) = rest.strip_prefix(key).and_then(|rest| rest.strip_prefix('=')) else {
            // A quoted value may hold a semicolon: step over it.
            if let Some((before, quoted)) = rest.split_once('"')
                && !before.contains(';')
            {
                rest = quoted.split_once('"')?.1;
            }
            continue;
        };
        return match after.strip_prefix('"') {
            Some(quoted) => Some(quoted.split_once('"')?.0.to_owned()),
            None => Some(after.split(';').next().unwrap_or_default().trim().to_owned()),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A part's name, file name and content.
    type Part = (String, Option<String>, Vec<u8>);

    /// Parses a body fed in pieces; also says whether the closing delimiter was seen.
    fn parse(body: &[u8], piece: usize) -> Result<(Vec<Part>, bool), Malformed> {
        let mut parser = Parser::new("XX");
        let (mut parts, mut ended) = (Vec::new(), false);
        for chunk in body.chunks(piece) {
            parser.feed(chunk);
            while let Some(event) = parser.next_event()? {
                match event {
                    Event::Part { name, filename } => parts.push((name, filename, Vec::new())),
                    Event::Data(data) => parts.last_mut().unwrap().2.extend_from_slice(&data),
                    Event::End => ended = true,
                }
            }
        }
        Ok((parts, ended))
    }

    fn part(name: &str, filename: Option<&str>, content: &[u8]) -> Part {
        (name.into(), filename.map(Into::into), content.to_vec())
    }

    #[test]
    fn every_cut_of_the_body_gives_the_same_parts() {
        let body = b"preamble\r\n--XX\r\nContent-Disposition: form-data; name=\"content\"\r\nX-Extra: 1\r\n\r\niso\r\n\
            --XX\r\ncontent-disposition: form-data; name=\"filename\"; filename=\"a b;c.iso\"\r\n\
            Content-Type: application/octet-stream\r\n\r\n--X\r\n--XY\r\n\r\nglued--XX\r\nend\r\n--XX--\r\ntrailer";
        let expected = vec![
            part("content", None, b"iso"),
            part("filename", Some("a b;c.iso"), b"--X\r\n--XY\r\n\r\nglued--XX\r\nend"),
        ];
        for piece in 1..body.len() {
            assert_eq!(
                parse(body, piece).unwrap(),
                (expected.clone(), true),
                "pieces of {piece}"
            );
        }
    }

    #[test]
    fn clients_differ_in_how_they_end_lines_and_bodies() {
        let head = "--XX\r\nContent-Disposition: form-data; name=a\r\n\r\n";
        for (body, content) in [
            (format!("{head}x\r\n--XX--"), "x"),
            (format!("{head}x--XX--\r\n"), "x"),
            (format!("{head}x\n--XX--"), "x\n"),
            (format!("{head}\r\n--XX--"), ""),
            (format!("{head}--XX--"), ""),
            (
                "--XX\nContent-Disposition: form-data; name=a\n\nx\r\n--XX--\n".to_owned(),
                "x\r",
            ),
        ] {
            for piece in [1, 3, 1000] {
                let expected = vec![part("a", None, content.as_bytes())];
                assert_eq!(parse(body.as_bytes(), piece).unwrap(), (expected, true), "{body:?}");
            }
        }
    }

    #[test]
    fn what_is_no_multipart_body_is_refused() {
        for body in [
            "--XXgarbage\r\n",
            "--XX\r\nContent-Type: text/plain\r\n\r\nx\r\n--XX--",
            "--XX\r\n\r\n",
        ] {
            assert_eq!(parse(body.as_bytes(), 1000), Err(Malformed), "{body:?}");
        }
        let endless = format!("--XX\r\nX: {}", "y".repeat(MAX_PART_HEAD));
        assert_eq!(parse(endless.as_bytes(), 1000), Err(Malformed));
        assert!(
            !parse(b"--XX\r\nContent-Disposition: form-data; name=a\r\n\r\nx", 1)
                .unwrap()
                .1
        );
    }

    #[test]
    fn the_boundary_is_taken_from_the_content_type() {
        for (declared, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data; charset=x; boundary=\"a b\"", Some("a b")),
            ("multipart/form-data", None),
            ("multipart/mixed; boundary=abc", None),
            ("multipart/form-data; boundary=", None),
        ] {
            assert_eq!(boundary(declared), expected, "{declared}");
        }
    }
}
