use serde_json::json;

use super::*;

/// What a machine was taken to have said.
#[derive(Default)]
struct Heard {
    version: Option<Release>,
    answers: Vec<String>,
}

impl Listener for Heard {
    fn take(&mut self, _vmid: VmId, place: usize, line: Line<'_>) -> Option<bool> {
        match line.parse::<Value>()? {
            Said::Result(result) => self.answers.push(format!("{place}: {result}")),
            Said::Refused(refusal) => self.answers.push(format!("{place}: {}", refusal.desc)),
            Said::Other => return Some(false),
        }
        Some(true)
    }

    fn greeted(&mut self, _vmid: VmId, version: Release) {
        self.version = Some(version);
    }
}

/// Lets a conversation of two commands hear something, in pieces of a size.
fn hear(text: &[u8], piece: usize) -> (Heard, Result<bool, String>) {
    let call = Call {
        vmid: 100.try_into().unwrap(),
        socket: PathBuf::new(),
        script: Cow::Owned(Script::new([("a", Value::Null), ("b", Value::Null)])),
        budget: Duration::ZERO,
    };
    let mut talk = Talk::new(UnixStream::pair().unwrap().0);
    let mut heard = Heard::default();
    for bytes in text.chunks(piece) {
        match talk.hear(&call, bytes, &mut heard) {
            Ok(Turn::On) => {}
            Ok(Turn::Over) => return (heard, Ok(true)),
            Err(error) => return (heard, Err(error.to_string())),
        }
    }
    (heard, Ok(false))
}

const GREETING: &str = r#"{"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 2}, "package": "x"}}}"#;
const EVENT: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}"#;

fn answer(id: usize, result: &str) -> String {
    format!("{{\"return\": {result}, \"id\": {id}}}")
}

#[test]
fn answers_are_found_whatever_comes_between_and_in_whatever_pieces() {
    let lines = [
        GREETING.to_owned(),
        answer(0, "{}"),
        EVENT.to_owned(),
        String::new(),
        answer(1, "-7"),
        EVENT.replace("1,", "1e400,"),
        r#"{"error": {"class": "GenericError", "desc": "no"}, "id": 2}"#.to_owned(),
    ];
    let text = lines.join("\r\n") + "\r\n";
    for piece in [1, 2, 7, 100, text.len()] {
        let (heard, outcome) = hear(text.as_bytes(), piece);
        assert_eq!(outcome, Ok(true), "{piece}");
        assert_eq!(heard.answers, ["0: -7", "1: no"], "{piece}");
        assert_eq!(heard.version.unwrap().to_string(), "10.0.2");
    }
}

#[test]
fn what_is_no_conversation_ends_it() {
    let begin = format!("{GREETING}\n{}\n", answer(0, "{}"));
    let after = |rest: &str| format!("{begin}{rest}\n");
    let cases = [
        ("no greeting", answer(0, "{}") + "\n", "unexpected reply"),
        ("an old id", after(&answer(0, "1")), "unexpected reply"),
        ("a later id", after(&answer(2, "1")), "unexpected reply"),
        ("neither result nor error", after(r#"{"id": 1}"#), "unexpected reply"),
        (
            "a number without a value",
            after(&answer(1, "1e400")),
            "unexpected reply",
        ),
        ("a foreign id", after(r#"{"return": 1, "id": -1}"#), "unexpected reply"),
        ("no JSON", after("\u{0}"), "unexpected reply"),
        ("deep JSON", after(&answer(1, &"[".repeat(100_000))), "unexpected reply"),
        (
            "a line without end",
            begin.clone() + &"x".repeat(MAX_LINE + 1),
            "reply is too large",
        ),
        (
            "events without end",
            after(&format!("{EVENT}\n").repeat(MAX_EVENTS + 1)),
            "reply is too large",
        ),
        (
            "long events",
            after(&format!("{}\n", json!({"event": "x".repeat(MAX_LINE / 2)})).repeat(9)),
            "reply is too large",
        ),
    ];
    for (what, text, expected) in cases {
        let (heard, outcome) = hear(text.as_bytes(), 64 << 10);
        assert_eq!(outcome, Err(expected.to_owned()), "{what}");
        assert!(heard.answers.is_empty(), "{what}");
    }
    let many = after(&format!("{EVENT}\n").repeat(MAX_EVENTS));
    assert_eq!(hear(many.as_bytes(), 64 << 10).1, Ok(false), "as many events as may be");
}
