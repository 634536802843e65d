//! One-time passwords of Yubico keys, against a server that speaks the validation protocol.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;
mod validation_server;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::Lab;
use pve_access::login::LoginRequest;
use pve_access::password;
use pve_access::tfa::add::{self, Added, NewFactor};
use pve_access::tfa::verify::Subject;
use pve_schema::ids::UserId;
use serde_json::{Value, json};
use validation_server::{API_ID, API_KEY, Mood, ValidationServer};

const PASSWORD: &str = "S3cret!pw";
/// A key's name, and passwords of it.
const KEY: &str = "ccccccbchvth";

fn otp(number: usize) -> String {
    let letters: Vec<char> = "cbdefghijklnrtuv".chars().collect();
    let digits = format!("{number:032x}");
    let tail: String = digits
        .chars()
        .map(|digit| letters[digit.to_digit(16).unwrap() as usize])
        .collect();
    format!("{KEY}{tail}")
}

struct Place {
    lab: Lab,
    server: ValidationServer,
}

impl Place {
    fn new() -> Self {
        let lab = Lab::with_users("user:alice@pve:1:0::::::\n");
        let place = Self {
            lab,
            server: ValidationServer::start(),
        };
        place.set_realm(API_ID, API_KEY, &place.server.address.to_string());
        let domains = place.lab.access().domains().unwrap();
        password::set(&place.lab.context, &domains, &alice(), PASSWORD).unwrap();
        place
    }

    fn set_realm(&self, id: &str, key: &[u8], server: &str) {
        let key = STANDARD.encode(key);
        self.write_realm(&format!(
            "\ttfa type=yubico,id={id},key={key},url=http://{server}/wsapi/2.0/verify\n"
        ));
    }

    fn write_realm(&self, options: &str) {
        let text = format!("pve: pve\n\tcomment x\n{options}\n");
        self.lab.cfs.write("domains.cfg", text.as_bytes()).unwrap();
    }

    fn add(&self, new: NewFactor<'_>) -> Result<String, String> {
        let access = self.lab.access();
        let domains = access.domains().unwrap();
        let alice = alice();
        let subject = Subject {
            id: &alice,
            user: access.require_user(&alice).unwrap(),
            realm: domains.require("pve").unwrap(),
        };
        match add::add(&self.lab.context, subject, NewFactor { kind: "yubico", ..new }) {
            Ok(Added::Entry(id)) => Ok(id),
            Ok(_) => panic!("an entry"),
            Err(error) => Err(error.to_string()),
        }
    }

    fn add_otp(&self, otp: &str) -> Result<String, String> {
        self.add(NewFactor {
            description: Some("green key"),
            value: Some(otp),
            ..NewFactor::default()
        })
    }

    /// The right password: half a ticket.
    fn half(&self) -> String {
        let request = LoginRequest {
            username: "alice@pve",
            password: PASSWORD,
            ..LoginRequest::default()
        };
        let login = self.lab.access().login(&request).unwrap();
        assert_eq!(login.capabilities, None);
        login.session.unwrap().ticket
    }

    fn answer(&self, otp: &str) -> bool {
        let (half, password) = (self.half(), format!("yubico:{otp}"));
        let request = LoginRequest {
            username: "alice@pve",
            password: &password,
            tfa_challenge: Some(&half),
            ..LoginRequest::default()
        };
        self.lab.access().login(&request).is_ok()
    }

    fn failures(&self) -> u64 {
        let path = self.lab.context.site.path("/run/pve-private/tfa-challenges/alice@pve");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // There is nothing in it as long as there is nothing to count.
        let record: Value = serde_json::from_str(&text).unwrap_or_default();
        record["tfa_failures"].as_u64().unwrap_or_default()
    }
}

fn alice() -> UserId {
    "alice@pve".parse().unwrap()
}

/// Reference 02 §8.1, §8.4.
#[test]
fn a_key_is_added_and_each_of_its_passwords_opens_once() {
    let place = Place::new();
    let added = place.add_otp(&otp(1).to_uppercase()).unwrap();
    let file: Value = serde_json::from_str(&place.lab.read("priv/tfa.cfg")).unwrap();
    let created = place.lab.context.now();
    assert_eq!(
        file["users"]["alice@pve"]["yubico"],
        json!([{ "id": added, "description": "green key", "created": created, "entry": KEY }])
    );
    assert!(place.half().starts_with("PVE:!tfa!{\"yubico\"%3Atrue}:"));
    assert!(!place.answer(&otp(1)), "it was used when the key was added");
    assert_eq!(place.failures(), 1);
    assert!(place.answer(&otp(2)));
    assert_eq!(place.failures(), 0);
    assert!(!place.answer(&otp(2)), "the server takes each once");
    // Password and one-time password at once.
    let both = LoginRequest {
        username: "alice@pve",
        password: PASSWORD,
        otp: Some(&format!("yubico:{}", otp(3))),
        ..LoginRequest::default()
    };
    assert!(place.lab.access().login(&both).unwrap().capabilities.is_some());
}

#[test]
fn wrong_passwords_are_refused_and_counted() {
    let place = Place::new();
    place.add_otp(&otp(1)).unwrap();
    let asked = place.server.questions();
    let foreign = otp(2).replace(KEY, "cccccccccccb");
    for (number, wrong) in (1..).zip([&foreign, "", "cccc", KEY, &"c".repeat(49), &"ü".repeat(20)]) {
        assert!(!place.answer(wrong), "{wrong}");
        assert_eq!(place.failures(), number, "{wrong}");
    }
    assert_eq!(place.server.questions(), asked, "the server need not know of them");
    let unused = otp(2);
    assert!(!place.answer(&format!("{}z", &unused[..43])));
    assert_eq!((place.failures(), place.server.questions()), (7, asked + 1), "BAD_OTP");
    assert!(place.answer(&unused));
}

/// What speaks against the server does not count against the user, and lets nobody in.
#[test]
fn a_server_that_is_not_to_be_believed_lets_nobody_in() {
    let place = Place::new();
    place.add_otp(&otp(1)).unwrap();
    let moods = [
        Mood::WrongSignature,
        Mood::Unsigned,
        Mood::WrongNonce,
        Mood::WrongOtp,
        Mood::Says("BACKEND_ERROR"),
        Mood::Says("ok"),
        Mood::Says("OK\r\nstatus=NOT_ENOUGH_ANSWERS"),
        Mood::ServerError,
        Mood::Silent,
    ];
    for (number, mood) in (10..).zip(moods) {
        place.server.set(mood);
        assert!(!place.answer(&otp(number)), "{mood:?}");
        assert_eq!(place.failures(), 0, "{mood:?}");
        assert!(place.add_otp(&otp(number)).is_err(), "{mood:?}");
    }
    place.server.set(Mood::Honest);
    assert!(place.answer(&otp(30)));

    // A server that knows us by another name or key, and none at all.
    place.set_realm("4712", API_KEY, &place.server.address.to_string());
    assert_eq!(
        place.add_otp(&otp(31)).unwrap_err(),
        "yubico: validation server says NO_SUCH_CLIENT"
    );
    place.set_realm(API_ID, b"another key", &place.server.address.to_string());
    assert_eq!(
        place.add_otp(&otp(31)).unwrap_err(),
        "yubico: validation server says BAD_SIGNATURE"
    );
    let (_held, nobody) = pve_testing::held_port([127, 0, 0, 1]);
    place.set_realm(API_ID, API_KEY, &nobody.to_string());
    let error = place.add_otp(&otp(31)).unwrap_err();
    assert!(error.starts_with("yubico: can't connect to 127.0.0.1:"), "{error}");
    assert!(!place.answer(&otp(31)));
    assert_eq!(place.failures(), 0);
}

#[test]
fn keys_that_are_disabled_or_locked_out_are_not_asked_about() {
    let place = Place::new();
    let id = place.add_otp(&otp(1)).unwrap();
    let asked = place.server.questions();
    // Another factor that can be asked for, since the realm demands one.
    let other = NewFactor {
        kind: "recovery",
        ..NewFactor::default()
    };
    let access = place.lab.access();
    let domains = access.domains().unwrap();
    let subject = Subject {
        id: &alice(),
        user: access.require_user(&alice()).unwrap(),
        realm: domains.require("pve").unwrap(),
    };
    add::add(&place.lab.context, subject, other).unwrap();
    let enable = |on| pve_access::tfa::change::update(&place.lab.context, &alice(), &id, None, Some(on)).unwrap();
    enable(false);
    assert!(!place.answer(&otp(2)));
    enable(true);
    let locked = place.lab.context.now() + 60;
    let text = place.lab.read("priv/tfa.cfg");
    let text = text.replace("\"yubico\":", &format!("\"tfa-locked-until\":{locked},\"yubico\":"));
    place.lab.cfs.write("priv/tfa.cfg", text.as_bytes()).unwrap();
    assert!(!place.answer(&otp(2)));
    assert_eq!((place.server.questions(), place.failures()), (asked, 1), "not counted");
    place.lab.pass(60);
    assert!(place.answer(&otp(2)));
}

/// Reference 02 §8.8.
#[test]
fn what_cannot_be_added_is_refused_in_upstreams_words() {
    let place = Place::new();
    let refused = |new: NewFactor<'_>| place.add(new).unwrap_err();
    let described = NewFactor {
        description: Some("x"),
        ..NewFactor::default()
    };
    assert_eq!(
        refused(NewFactor::default()),
        "'description' is required for new entries"
    );
    assert_eq!(refused(described), "missing 'value' parameter (yubico OTP missing)");
    assert_eq!(place.add_otp("cccc").unwrap_err(), "yubico: wrong OTP length");
    for (options, expected) in [
        ("", "no yubico otp configuration available for realm pve"),
        ("\ttfa type=oath\n", "realm is not setup for Yubico OTP"),
        (
            "\ttfa type=yubico,key=eA==\n",
            "yubico: bad configuration of realm pve: no API id",
        ),
        (
            "\ttfa type=yubico,id=1\n",
            "yubico: bad configuration of realm pve: no API key",
        ),
        (
            "\ttfa type=yubico,id=1,key=!\n",
            "yubico: bad configuration of realm pve: the API key is not base64",
        ),
        (
            "\ttfa type=yubico,id=1,key=eA==,url=nonsense\n",
            "yubico: bad configuration of realm pve: the URL is none",
        ),
    ] {
        place.write_realm(options);
        assert_eq!(place.add_otp(&otp(1)).unwrap_err(), expected, "{options}");
    }
    assert_eq!(place.server.questions(), 0);
}
