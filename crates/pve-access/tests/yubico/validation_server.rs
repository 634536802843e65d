//! A validation server for one-time passwords that speaks the protocol 2.0 of Yubico's: it checks who asks, takes each
//! password once, and signs what it says. A test tells it to be wrong.

#![allow(unreachable_pub)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;
use url::Url;

pub const API_ID: &str = "4711";
pub const API_KEY: &[u8] = b"the key of the API";

/// What it does with a question.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mood {
    /// What the protocol says.
    #[default]
    Honest,
    /// Signs with another key.
    WrongSignature,
    /// Does not sign.
    Unsigned,
    /// Answers another question.
    WrongNonce,
    /// Answers for another password.
    WrongOtp,
    /// Says that.
    Says(&'static str),
    /// Has an error page.
    ServerError,
    /// Hangs up.
    Silent,
}

#[derive(Default)]
struct State {
    mood: Mood,
    used: BTreeSet<String>,
    questions: usize,
}

/// It runs until the test ends.
pub struct ValidationServer {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl ValidationServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that hangs up is no reason to stop.
                let _ = serve(stream.unwrap(), &shared);
            }
        });
        Self { address, state }
    }

    pub fn set(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// How often it was asked.
    pub fn questions(&self) -> usize {
        self.state.lock().unwrap().questions
    }
}

pub fn sign(fields: &BTreeMap<String, String>, key: &[u8]) -> String {
    let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mac = Hmac::<Sha1>::new_from_slice(key).unwrap().chain_update(pairs.join("&"));
    STANDARD.encode(mac.finalize().into_bytes())
}

fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request)?;
    let mut line = String::new();
    while stream.read_line(&mut line)? > 2 {
        line.clear();
    }
    let mut state = state.lock().unwrap();
    state.questions += 1;
    let path = request.split(' ').nth(1).unwrap();
    let (status, body) = match state.mood {
        Mood::Silent => return Ok(()),
        Mood::ServerError => ("500 Internal Server Error", "sorry".to_owned()),
        _ => ("200 OK", answer(path, &mut state)),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    stream.get_mut().write_all(format!("{head}{body}").as_bytes())
}

fn answer(path: &str, state: &mut State) -> String {
    let url = Url::parse("http://server").unwrap().join(path).unwrap();
    let mut asked: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
    let signature = asked.remove("h");
    let field = |name: &str| asked.get(name).cloned().unwrap_or_default();
    let (otp, nonce) = (field("otp"), field("nonce"));
    let is_nonce = (16..=40).contains(&nonce.len()) && nonce.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let is_otp = (32..=48).contains(&otp.len()) && otp.bytes().all(|byte| b"cbdefghijklnrtuv".contains(&byte));
    let status = match state.mood {
        Mood::Says(status) => status,
        _ if url.path() != "/wsapi/2.0/verify" || field("timestamp") != "1" || !is_nonce => "MISSING_PARAMETER",
        _ if field("id") != API_ID => "NO_SUCH_CLIENT",
        _ if signature != Some(sign(&asked, API_KEY)) => "BAD_SIGNATURE",
        _ if !is_otp => "BAD_OTP",
        _ if !state.used.insert(otp.clone()) => "REPLAYED_OTP",
        _ => "OK",
    };
    let flipped = |text: &str| text.chars().rev().collect::<String>();
    let said = [
        ("t", "2026-11-22T11:00:00Z0123".to_owned()),
        (
            "otp",
            if state.mood == Mood::WrongOtp {
                flipped(&otp)
            } else {
                otp
            },
        ),
        (
            "nonce",
            if state.mood == Mood::WrongNonce {
                flipped(&nonce)
            } else {
                nonce
            },
        ),
        ("sl", "100".to_owned()),
        ("timestamp", "3451".to_owned()),
        ("status", status.to_owned()),
    ];
    let mut fields: BTreeMap<String, String> = said.map(|(name, value)| (name.to_owned(), value)).into();
    let key = if state.mood == Mood::WrongSignature {
        b"another key"
    } else {
        API_KEY
    };
    if state.mood != Mood::Unsigned {
        fields.insert("h".to_owned(), sign(&fields, key));
    }
    let lines: Vec<String> = fields
        .iter()
        .map(|(name, value)| format!("{name}={value}\r\n"))
        .collect();
    lines.concat()
}
