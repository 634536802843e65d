//! The head of a `CONNECT` request (reference 01 §3.2).
//!
//! Read byte by byte rather than by the HTTP library, because the target is no authority that a URI could have: a ticket
//! full of colons. Nothing here does I/O.

use crate::head::{MAX_HEADER_BYTES, MAX_HEADER_LINES};

/// Longest request line. A ticket needs a hundred bytes.
pub(super) const MAX_LINE: usize = 8192;
/// Most bytes of a whole head, with its line ends and the empty lines before it.
pub const MAX_HEAD: usize = MAX_LINE + MAX_HEADER_BYTES + 1024;

/// What is no head of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// No request line.
    #[error("bad request")]
    BadRequest,
    /// A version that is not 1.x.
    #[error("http protocol version {0} not supported")]
    Version(String),
    /// The target names a user.
    #[error("invalid url")]
    Url,
    /// A header line that is none.
    #[error("unable to parse request header")]
    Header,
    /// More bytes or lines than the limits allow.
    #[error("request header too large")]
    TooLarge,
}

impl HeadError {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::BadRequest | Self::Url => 400,
            Self::TooLarge => 431,
            Self::Version(_) | Self::Header => 506,
        }
    }
}

/// The head of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The first line, as received.
    pub line: String,
    /// The method, whatever it is.
    pub method: String,
    /// The minor version, echoed in the answer.
    pub minor: u8,
    /// Names in lower case, values without the blanks around them.
    headers: Vec<(String, String)>,
    /// Where the head ends.
    pub length: usize,
}

impl Request {
    /// All values of a header, joined with `, `; the name in lower case.
    pub fn header(&self, name: &str) -> Option<String> {
        let values: Vec<&str> = self
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
            .collect();
        if values.is_empty() {
            None
        } else {
            Some(values.join(", "))
        }
    }
}

/// How many bytes of whole empty lines the text begins with.
pub(super) fn empty_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(behind) = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")) {
        rest = behind;
    }
    bytes.len() - rest.len()
}

/// What has been received so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Parsed {
    /// Not even a request line; empty lines before it do not count.
    Nothing,
    /// A request line, as received, and not all headers.
    Line(String),
    /// Everything.
    Whole(Request),
}

/// Reads a head.
///
/// # Errors
/// It can be none, whatever comes next; the minor version is that of the answer.
pub fn parse(bytes: &[u8]) -> Result<Parsed, HeadError> {
    let mut lines = Lines { bytes, at: 0 };
    let line = loop {
        match lines.next() {
            Some([]) => {}
            Some(line) => break line,
            None if bytes.len().saturating_sub(lines.at) > MAX_LINE || bytes.len() > MAX_HEAD => {
                return Err(HeadError::TooLarge);
            }
            None => return Ok(Parsed::Nothing),
        }
    };
    let line = String::from_utf8_lossy(line).into_owned();
    let (method, minor) = request_line(&line)?;
    let mut headers: Vec<(String, String)> = Vec::new();
    let (mut count, mut size) = (0_usize, 0_usize);
    while let Some(header) = lines.next() {
        if header.is_empty() {
            return Ok(Parsed::Whole(Request {
                method: method.to_owned(),
                minor,
                headers,
                length: lines.at,
                line,
            }));
        }
        count += 1;
        size += header.len();
        if count > MAX_HEADER_LINES || size >= MAX_HEADER_BYTES {
            return Err(HeadError::TooLarge);
        }
        let text = String::from_utf8_lossy(header);
        if text.starts_with([' ', '\t']) {
            // A folded line goes on where the one before ended.
            let (_, value) = headers.last_mut().ok_or(HeadError::Header)?;
            value.push(' ');
            value.push_str(text.trim());
        } else {
            headers.push(header_line(&text)?);
        }
    }
    if size + bytes.len().saturating_sub(lines.at) >= MAX_HEADER_BYTES + 2 || bytes.len() > MAX_HEAD {
        return Err(HeadError::TooLarge);
    }
    Ok(Parsed::Line(line))
}

/// Complete lines, without their ends: LF, or CR and LF.
struct Lines<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.bytes.get(self.at..)?;
        let end = memchr::memchr(b'\n', rest)?;
        self.at += end + 1;
        let line = rest.get(..end)?;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

/// `METHOD TARGET HTTP/1.x`: method and minor version.
fn request_line(line: &str) -> Result<(&str, u8), HeadError> {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else {
        return Err(HeadError::BadRequest);
    };
    let (major, minor) = version
        .strip_prefix("HTTP/")
        .and_then(|version| version.split_once('.'))
        .ok_or(HeadError::BadRequest)?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if method.is_empty() || target.is_empty() || !is_number(major) || !is_number(minor) {
        return Err(HeadError::BadRequest);
    }
    let unsupported = || HeadError::Version(format!("{major}.{minor}"));
    if major != "1" {
        return Err(unsupported());
    }
    let minor = minor.parse().map_err(|_| unsupported())?;
    let authority = target.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        return Err(HeadError::Url);
    }
    Ok((method, minor))
}

/// `NAME: VALUE`.
fn header_line(text: &str) -> Result<(String, String), HeadError> {
    let (name, value) = text.split_once(':').ok_or(HeadError::Header)?;
    let name = name.trim_end_matches([' ', '\t']);
    if name.is_empty() || name.contains([' ', '\t']) {
        return Err(HeadError::Header);
    }
    Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn whole(text: &str) -> Request {
        match parse(text.as_bytes()) {
            Ok(Parsed::Whole(request)) => request,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_viewers_request_is_read_whatever_its_line_ends() {
        let text = "CONNECT a:1:b::c:61000 HTTP/1.0\r\nHost: a:1:b::c:61000\r\nUser-Agent: x\r\n\r\n";
        for text in [text.to_owned(), text.replace('\r', ""), format!("\r\n\n{text}")] {
            let request = whole(&format!("{text}early"));
            assert_eq!(request.method, "CONNECT");
            assert_eq!(request.minor, 0);
            assert_eq!(request.line, "CONNECT a:1:b::c:61000 HTTP/1.0");
            assert_eq!(request.header("host").as_deref(), Some("a:1:b::c:61000"));
            assert_eq!(request.header("pvedisableproxy"), None);
            assert_eq!(request.length, text.len());
        }
    }

    #[test]
    fn headers_are_folded_and_joined() {
        let request = whole("X / HTTP/1.1\nA : 1 \nb:\n a folded\n\tvalue\nHOST: x\nhost:y\n\n");
        assert_eq!(request.minor, 1);
        assert_eq!(request.header("a").as_deref(), Some("1"));
        assert_eq!(request.header("b").as_deref(), Some(" a folded value"));
        assert_eq!(request.header("host").as_deref(), Some("x, y"));
    }

    /// Reference 01 §6, vectors 1, 2, 3 and 7.
    #[test]
    fn malformed_heads_are_named() {
        for (text, status, message) in [
            ("GARBAGE\r\n\r\n", 400, "bad request"),
            ("GET  / HTTP/1.1\r\n", 400, "bad request"),
            ("GET / HTTP/x.1\r\n", 400, "bad request"),
            ("GET / HTTP/1\r\n", 400, "bad request"),
            ("GET / HTTP/2.0\r\n\r\n", 506, "http protocol version 2.0 not supported"),
            (
                "GET / HTTP/1.300\r\n\r\n",
                506,
                "http protocol version 1.300 not supported",
            ),
            ("GET u@h/x HTTP/1.1\r\n\r\n", 400, "invalid url"),
            (
                "GET / HTTP/1.1\r\nnocolonhere\r\n",
                506,
                "unable to parse request header",
            ),
            ("GET / HTTP/1.1\r\na b: c\r\n", 506, "unable to parse request header"),
            ("GET / HTTP/1.1\r\n: c\r\n", 506, "unable to parse request header"),
            ("GET / HTTP/1.1\r\n folded\r\n", 506, "unable to parse request header"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(
                (error.status(), error.to_string().as_str()),
                (status, message),
                "{text:?}"
            );
        }
        assert!(parse(b"GET /u@h HTTP/1.1\r\n").is_ok());
    }

    /// Reference 01 §6, vectors 11 and 12.
    #[test]
    fn large_heads_are_refused_as_soon_as_they_are() {
        let lines = |count: usize| format!("C x HTTP/1.0\n{}\n", "a: b\n".repeat(count));
        assert!(matches!(parse(lines(62).as_bytes()), Ok(Parsed::Whole(_))));
        assert_eq!(parse(lines(63).as_bytes()).unwrap_err().status(), 431);
        let bytes = |count: usize| format!("C x HTTP/1.0\r\na:{}\r\n\r\n", "b".repeat(count - 2));
        assert!(matches!(parse(bytes(8191).as_bytes()), Ok(Parsed::Whole(_))));
        assert_eq!(parse(bytes(8192).as_bytes()).unwrap_err().status(), 431);
        for endless in [
            "C".repeat(MAX_LINE + 1),
            format!("C x HTTP/1.0\r\n{}", "a".repeat(8200)),
            "\n".repeat(MAX_HEAD + 1),
        ] {
            assert_eq!(parse(endless.as_bytes()).unwrap_err().status(), 431);
        }
    }

    proptest! {
        /// What is read does not depend on how it was cut into packets.
        #[test]
        fn a_part_of_a_head_is_never_an_error_nor_a_request(cut in 0_usize..80) {
            let text = "\r\nCONNECT a:1:b::c:61000 HTTP/1.0\r\nHost: a:1:b::c:61000\r\nX: y\r\n z\r\n\r\n";
            let cut = cut.min(text.len() - 1);
            let parsed = parse(&text.as_bytes()[..cut]);
            prop_assert!(matches!(parsed, Ok(Parsed::Nothing | Parsed::Line(_))), "{parsed:?}");
        }

        #[test]
        fn junk_is_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), text in "[A-Z :/.@\\r\\n\\t1]{0,80}") {
            for junk in [bytes, [b"CONNECT x HTTP/1.0\r\n", text.as_bytes()].concat(), text.into_bytes()] {
                if let Ok(Parsed::Whole(request)) = parse(&junk) {
                    prop_assert!(request.length <= junk.len());
                }
            }
        }
    }
}
