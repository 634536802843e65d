//! One-time passwords of Yubico keys (reference 02 §8.4). A validation server, which knows the keys' secrets, says whether
//! one is good, by its protocol 2.0: signed question, signed answer.
//!
//! What speaks against a password is told apart from what speaks against the server ([`YubicoError::is_the_users_fault`]):
//! a server that is out of reach lets nobody in, and locks nobody out of the other factors either.
//!
//! Not here: whose key it is.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use pve_cfs::{Cfs, Datacenter};
use pve_fetch::{Client, FetchError, Settings};
use pve_schema::Context;
use sha1::Sha1;
use url::Url;

use crate::crowd::Crowd;
use crate::domains::Realm;
use crate::error::AccessError;

/// Where a realm asks that names no server.
const DEFAULT_URL: &str = "https://api2.yubico.com/wsapi/2.0/verify";
/// How long the server may take: less than `pveproxy` waits for the whole log-in.
const DEADLINE: Duration = Duration::from_secs(20);
/// The largest answer in bytes: real ones have 300.
const LARGEST: u64 = 16 << 10;
/// How many questions may wait for an answer at once; each holds a thread.
static WAITING: Crowd = Crowd::new(16);
/// The characters of a password that name the key it is from.
const ID_LENGTH: usize = 12;

/// Why a password is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum YubicoError {
    /// The realm demands no second factor, so it names no server.
    #[error("no yubico otp configuration available for realm {0}")]
    Unconfigured(String),
    /// The realm demands another factor.
    #[error("realm is not setup for Yubico OTP")]
    OtherFactor,
    /// The realm's settings are not enough to ask.
    #[error("yubico: bad configuration of realm {realm}: {what}")]
    Settings {
        /// Whose.
        realm: String,
        /// What is missing or wrong.
        what: &'static str,
    },
    /// It is none.
    #[error("yubico: wrong OTP length")]
    Length,
    /// Keys type letters.
    #[error("yubico: an OTP has letters only")]
    Letters,
    /// It is of a key that is not the user's.
    #[error("yubico: the key is not one of the user's")]
    ForeignKey,
    /// Too many wait for the server.
    #[error("yubico: too many log-ins wait for the validation server")]
    Busy,
    /// No answer.
    #[error("yubico: {0}")]
    Fetch(#[from] FetchError),
    /// The server refuses to answer.
    #[error("yubico: validation server answers with status {0}")]
    HttpStatus(u16),
    /// The answer is not the server's, or not to this question.
    #[error("yubico: {0}")]
    Forged(&'static str),
    /// The server says no.
    #[error("yubico: validation server says {status}")]
    Refused {
        /// Its word.
        status: String,
        /// Whether it is the server's word, and on this password.
        is_proven: bool,
    },
    /// No question can be made up.
    #[error("yubico: no random numbers: {0}")]
    Random(getrandom::Error),
}

impl YubicoError {
    /// Whether it counts as a wrong answer.
    pub fn is_the_users_fault(&self) -> bool {
        match self {
            Self::Length | Self::Letters | Self::ForeignKey => true,
            // Anybody on the way to the server could say that it was wrong, to lock the user out.
            Self::Refused { status, is_proven } => *is_proven && matches!(status.as_str(), "BAD_OTP" | "REPLAYED_OTP"),
            _ => false,
        }
    }
}

impl From<YubicoError> for AccessError {
    fn from(error: YubicoError) -> Self {
        Self::plain(error.to_string())
    }
}

/// A one-time password, in the case that keys type it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otp(String);

impl Otp {
    /// Reads what a client sent.
    ///
    /// # Errors
    /// It is too short or too long, or has other than letters.
    pub fn parse(text: &str) -> Result<Self, YubicoError> {
        if !(32..=48).contains(&text.len()) {
            return Err(YubicoError::Length);
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(YubicoError::Letters);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The name of the key that it is from.
    pub fn key_id(&self) -> &str {
        self.0.get(..ID_LENGTH).unwrap_or_default()
    }
}

/// A validation server, as a realm names it.
#[derive(Debug)]
pub struct Service {
    url: Url,
    id: String,
    /// With the API key in it.
    mac: Hmac<Sha1>,
    settings: Settings,
}

impl Service {
    /// The server that a realm's users are checked by.
    ///
    /// # Errors
    /// The realm names none, or not all that it takes; the datacenter's options cannot be read.
    pub fn of(context: &Context, name: &str, realm: &Realm) -> Result<Self, AccessError> {
        match realm.required_factor() {
            None => return Err(YubicoError::Unconfigured(name.to_owned()).into()),
            Some("yubico") => {}
            Some(_) => return Err(YubicoError::OtherFactor.into()),
        }
        let wrong = |what| YubicoError::Settings {
            realm: name.to_owned(),
            what,
        };
        let option = |name| realm.tfa_option(name).filter(|value| !value.is_empty());
        let id = option("id").ok_or_else(|| wrong("no API id"))?;
        // Without it everybody on the way to the server could answer in its place.
        let key = option("key").ok_or_else(|| wrong("no API key"))?;
        let url = option("url").unwrap_or(DEFAULT_URL);
        let service = Self::new(url, id, key).map_err(wrong)?;
        let datacenter = Datacenter::read(&Cfs::new(context))?;
        let proxy = datacenter.text("http_proxy").map(str::to_owned);
        Ok(Self {
            settings: Settings {
                proxy,
                ..service.settings
            },
            ..service
        })
    }

    /// The server at a URL, which knows us as `id` and by a key (base64).
    ///
    /// # Errors
    /// What is wrong with URL or key.
    pub fn new(url: &str, id: &str, key: &str) -> Result<Self, &'static str> {
        let key = STANDARD.decode(key).map_err(|_| "the API key is not base64")?;
        Ok(Self {
            url: Url::parse(url).map_err(|_| "the URL is none")?,
            id: id.to_owned(),
            mac: Hmac::new_from_slice(&key).map_err(|_| "the API key has a wrong length")?,
            settings: Settings {
                deadline: DEADLINE,
                largest: LARGEST,
                ..Settings::default()
            },
        })
    }

    /// Asks whether a password is good. One that was is none any more: the server sees to that.
    ///
    /// # Errors
    /// It is not, or nobody says so.
    pub fn check(&self, otp: &Otp) -> Result<(), YubicoError> {
        self.check_among(&WAITING, otp)
    }

    fn check_among(&self, waiting: &Crowd, otp: &Otp) -> Result<(), YubicoError> {
        let _place = waiting.enter().ok_or(YubicoError::Busy)?;
        let mut nonce = [0; 20];
        getrandom::fill(&mut nonce).map_err(YubicoError::Random)?;
        let nonce = hex::encode(nonce);
        let bad_request = |_| YubicoError::Forged("no request to that URL can be made");
        let request = http::Request::get(self.question(otp, &nonce).as_str())
            .body(Vec::new())
            .map_err(bad_request)?;
        let answer = Client::new(&self.settings)?.send(request)?;
        if answer.status() != http::StatusCode::OK {
            return Err(YubicoError::HttpStatus(answer.status().as_u16()));
        }
        self.judge(&String::from_utf8_lossy(answer.body()), otp, &nonce)
    }

    fn question(&self, otp: &Otp, nonce: &str) -> Url {
        let fields = BTreeMap::from([
            ("id", self.id.as_str()),
            ("nonce", nonce),
            ("otp", otp.0.as_str()),
            ("timestamp", "1"),
        ]);
        let signature = STANDARD.encode(self.sign(&fields).finalize().into_bytes());
        let mut url = self.url.clone();
        url.query_pairs_mut().extend_pairs(&fields).append_pair("h", &signature);
        url
    }

    /// What signs fields: their names in order, with their values as they are before any escaping.
    fn sign(&self, fields: &BTreeMap<&str, &str>) -> Hmac<Sha1> {
        let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        self.mac.clone().chain_update(pairs.join("&"))
    }

    /// Reads the answer to a question, of which the nonce is one: lines `name=value`.
    ///
    /// # Errors
    /// The password is not good, or it is not the server that says so.
    pub fn judge(&self, answer: &str, otp: &Otp, nonce: &str) -> Result<(), YubicoError> {
        let mut fields: BTreeMap<&str, &str> = answer.lines().filter_map(|line| line.trim().split_once('=')).collect();
        let status = *fields
            .get("status")
            .ok_or(YubicoError::Forged("the answer has no status"))?;
        let proof = self.prove(&mut fields, otp, nonce);
        if status == "OK" {
            return proof;
        }
        // Errors of the question come without what the question was, and unsigned where the server does not know whose
        // it is.
        Err(YubicoError::Refused {
            status: word(status),
            is_proven: proof.is_ok(),
        })
    }

    /// Whether an answer is the server's, and to this question.
    fn prove(&self, fields: &mut BTreeMap<&str, &str>, otp: &Otp, nonce: &str) -> Result<(), YubicoError> {
        let signature = fields
            .remove("h")
            .and_then(|signature| STANDARD.decode(signature).ok())
            .ok_or(YubicoError::Forged("the answer is not signed"))?;
        if self.sign(fields).verify_slice(&signature).is_err() {
            return Err(YubicoError::Forged("the answer's signature is wrong"));
        }
        if fields.get("nonce") != Some(&nonce) || fields.get("otp") != Some(&otp.0.as_str()) {
            return Err(YubicoError::Forged("the answer is to another question"));
        }
        Ok(())
    }
}

/// A status as it may stand in a log.
fn word(status: &str) -> String {
    let letters = status.chars().filter(|c| c.is_ascii_uppercase() || *c == '_');
    letters.take(32).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    fn service(url: &str) -> Service {
        let mut service = Service::new(url, "87", &STANDARD.encode("key")).unwrap();
        service.settings.deadline = Duration::from_millis(200);
        service
    }

    fn otp() -> Otp {
        Otp::parse("CCCCCCBCHVTHLIVUITRUJJIFIVBVTRBLFVIRRKTUBLKT").unwrap()
    }

    /// The signature is over the values as they are, in the order of the names; computed by `openssl dgst -sha1 -hmac key`.
    #[test]
    fn a_question_is_signed() {
        let url = service("https://example.org/verify?a=1").question(&otp(), "abc");
        let fields: Vec<(String, String)> = url.query_pairs().into_owned().collect();
        let field = |name: &str| fields.iter().find(|(key, _)| key == name).unwrap().1.clone();
        assert_eq!((field("a").as_str(), field("timestamp").as_str()), ("1", "1"));
        assert_eq!(field("otp"), "ccccccbchvthlivuitrujjifivbvtrblfvirrktublkt");
        assert_eq!(field("h"), "FzHO7dKsQ4dedg7PgZYmBcJjmqM=");
    }

    #[test]
    fn a_server_that_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/verify", listener.local_addr().unwrap());
        let begun = Instant::now();
        let error = service(&url).check(&otp()).unwrap_err();
        assert!(begun.elapsed() < Duration::from_secs(10));
        assert!(matches!(error, YubicoError::Fetch(FetchError::Timeout(_))), "{error}");
        assert!(!error.is_the_users_fault());
    }

    #[test]
    fn an_answer_is_read_whatever_it_is() {
        let service = service("https://example.org/");
        let signed = |text: &str| {
            let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
            let signature = STANDARD.encode(service.sign(&fields).finalize().into_bytes());
            format!("h={signature}\r\n{text}")
        };
        let judge = |text: &str| match service.judge(text, &otp(), "abc") {
            Ok(()) => "ok".to_owned(),
            Err(error) => error.to_string(),
        };
        let good = format!("otp={}\nnonce=abc\nsl=100\nstatus=OK\n", otp().0);
        assert_eq!(judge(&signed(&good)), "ok");
        assert_eq!(
            judge(&signed(&good).replace("sl=100", "sl=1")),
            "yubico: the answer's signature is wrong"
        );
        assert_eq!(judge(&good), "yubico: the answer is not signed");
        assert_eq!(judge(&format!("h=!\n{good}")), "yubico: the answer is not signed");
        assert_eq!(
            judge(&signed("nonce=abc\nstatus=OK")),
            "yubico: the answer is to another question"
        );
        assert_eq!(judge(""), "yubico: the answer has no status");
        assert_eq!(
            judge("status=\x1b[31mBAD_OTP"),
            "yubico: validation server says BAD_OTP"
        );
    }

    #[test]
    fn what_counts_is_what_the_server_says_of_this_password() {
        let service = service("https://example.org/");
        let mine = otp();
        let counts = |status: &str, otp: &str, nonce: &str, is_signed: bool| {
            let text = format!("otp={otp}\nnonce={nonce}\nstatus={status}\n");
            let fields: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
            let key = if is_signed { "h" } else { "g" };
            let signature = STANDARD.encode(service.sign(&fields).finalize().into_bytes());
            let error = service
                .judge(&format!("{key}={signature}\n{text}"), &mine, "abc")
                .unwrap_err();
            assert!(error.to_string().ends_with(status), "{error}");
            error.is_the_users_fault()
        };
        for (status, expected) in [("BAD_OTP", true), ("REPLAYED_OTP", true), ("REPLAYED_REQUEST", false)] {
            assert_eq!(counts(status, &mine.0, "abc", true), expected, "{status}");
            assert!(!counts(status, &mine.0, "abc", false), "unsigned");
            assert!(!counts(status, &mine.0, "abcd", true), "another question");
            assert!(!counts(status, "cccc", "abc", true), "another password");
        }
        assert!(matches!(Otp::parse(&"c".repeat(31)), Err(YubicoError::Length)));
        for bad in ["1", "&", " ", "\u{e9}"] {
            let bad = format!("{}{bad}", "c".repeat(40));
            assert!(matches!(Otp::parse(&bad), Err(YubicoError::Letters)), "{bad}");
        }
    }

    #[test]
    fn few_wait_for_the_server_at_once() {
        let full = Crowd::new(0);
        let error = service("http://127.0.0.1:1/").check_among(&full, &otp()).unwrap_err();
        assert!(
            matches!(error, YubicoError::Busy) && !error.is_the_users_fault(),
            "{error}"
        );
    }
}
