//! Peers that do not behave: what QEMU or a guest could send at worst. The real QEMU is met in `tests/`.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread::JoinHandle;

use super::*;

const GREETING: &str = r#"{"QMP": {"version": {}, "capabilities": []}}"#;

fn vmid() -> VmId {
    105.try_into().unwrap()
}

fn soon() -> Instant {
    Instant::now() + pve_testing::PATIENCE
}

/// A peer that greets, answers the negotiation, and then answers one command by `reply` (`ID` stands for its id).
fn peer(reply: &'static str) -> (tempfile::TempDir, std::path::PathBuf, JoinHandle<()>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("105.qmp");
    let listener = UnixListener::bind(&path).unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        writeln!(stream, "{GREETING}\r").unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        answer(&mut stream, lines.next(), "{\"return\": {}, \"id\": ID}\n");
        answer(&mut stream, lines.next(), reply);
        // Holds the connection until the client closes, so that silence is silence and not an end.
        if !reply.ends_with("END") {
            while lines.next().is_some_and(|line| line.is_ok()) {}
        }
    });
    (directory, path, thread)
}

fn answer(stream: &mut UnixStream, line: Option<std::io::Result<String>>, reply: &str) {
    let request: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
    let text = reply.replace("ID", &request["id"].to_string()).replace("END", "");
    // A client that has had enough closes first.
    let _ = stream.write_all(text.as_bytes());
}

fn ask(reply: &'static str, limit: Duration) -> Result<Value, QmpError> {
    let (_directory, path, thread) = peer(reply);
    let result = greet(&path, vmid(), soon())
        .and_then(|mut link| round_trip(&mut link, "x", Value::Null, "1:1", Instant::now() + limit))
        .map_err(|error| failure(vmid(), "qmp", "x", error))
        .and_then(|answer| interpret(vmid(), "qmp", "x", answer));
    thread.join().unwrap();
    result
}

#[test]
fn answers_are_told_from_events_and_from_answers_to_others() {
    let reply = concat!(
        "{\"event\": \"RTC_CHANGE\", \"data\": {}, \"timestamp\": {}}\r\n",
        "{\"return\": {\"late\": 1}, \"id\": \"0:7\"}\r\n\r\n",
        "{\"return\": {\"status\": \"running\"}, \"id\": ID}\r\n"
    );
    assert_eq!(
        ask(reply, Duration::from_secs(5)).unwrap(),
        json!({ "status": "running" })
    );
}

#[test]
fn failures_have_the_texts_that_clients_match() {
    let cases = [
        (
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no such device\"}, \"id\": ID}\n",
            "VM 105 qmp command 'x' failed - no such device",
        ),
        // QEMU could not parse the request and cannot tell whose it was.
        (
            "{\"error\": {\"class\": \"GenericError\", \"desc\": \"Invalid JSON\"}}\n",
            "VM 105 qmp command 'x' failed - Invalid JSON",
        ),
        ("%$§\n", "VM 105 qmp command 'x' failed - unexpected reply"),
        ("{\"id\": ID}\n", "VM 105 qmp command 'x' failed - unexpected reply"),
        ("END", "VM 105 qmp command 'x' failed - client closed connection"),
        (
            "{\"return\": {}END",
            "VM 105 qmp command 'x' failed - client closed connection",
        ),
    ];
    for (reply, expected) in cases {
        assert_eq!(
            ask(reply, Duration::from_secs(5)).unwrap_err().to_string(),
            expected,
            "{reply}"
        );
    }
}

/// Reference 06b, vector 21, for both channels.
#[test]
fn silence_ends_with_the_deadline() {
    let error = ask("", Duration::from_millis(50)).unwrap_err();
    assert_eq!(error.to_string(), "VM 105 qmp command 'x' failed - got timeout");
    assert!(!error.is_refusal());
    let error = failure(vmid(), "qga", "guest-get-osinfo", LinkError::Timeout);
    assert_eq!(
        error.to_string(),
        "VM 105 qga command 'guest-get-osinfo' failed - got timeout"
    );
}

#[test]
fn unknown_commands_can_be_told() {
    let reply =
        "{\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command x has not been found\"}, \"id\": ID}\n";
    let error = ask(reply, Duration::from_secs(5)).unwrap_err();
    assert!(error.is_unknown_command() && error.is_refusal());
}

#[test]
fn a_message_without_end_is_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let flood = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        while stream.write_all(&[b'['; 65536]).is_ok() {}
    });
    let error = greet(&path, vmid(), Instant::now() + Duration::from_secs(30)).unwrap_err();
    assert!(matches!(error, LinkError::TooLarge), "{error}");
    flood.join().unwrap();
}

#[test]
fn deep_nesting_is_garbage_rather_than_a_full_stack() {
    let reply: &'static str = Box::leak(format!("{}\n", "[".repeat(200_000)).into_boxed_str());
    let error = ask(reply, Duration::from_secs(20)).unwrap_err();
    assert_eq!(error.to_string(), "VM 105 qmp command 'x' failed - unexpected reply");
}

#[test]
fn a_busy_socket_is_tried_until_the_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s");
    let missing = Link::open(&path, soon()).unwrap_err();
    assert_eq!(
        failure(vmid(), "qmp", "x", missing).to_string(),
        "unable to open monitor socket"
    );

    let _listener = UnixListener::bind(&path).unwrap();
    let mut held = Vec::new();
    let error = loop {
        match Link::open(&path, Instant::now() + Duration::from_secs(2)) {
            Ok(link) => held.push(link),
            Err(error) => break describe_connect(error, vmid(), "qmp"),
        }
    };
    let text = failure(vmid(), "qmp", "x", error).to_string();
    let retries = text
        .strip_prefix("VM 105 qmp command 'x' failed - unable to connect to VM 105 qmp socket - timeout after ")
        .and_then(|rest| rest.strip_suffix(" retries")?.parse().ok());
    // As many as there was time for.
    assert!(matches!(retries, Some(1..=20)), "{text}");
}

#[test]
fn nothing_is_sent_to_a_vm_that_does_not_run() {
    let directory = tempfile::tempdir().unwrap();
    let site = crate::test_site(directory.path());
    let error = execute(&site, vmid(), "query-status", Value::Null).unwrap_err();
    assert_eq!(error.to_string(), "VM 105 not running");
    // Reference 06b, vector 20.
    let agent = Agent::new(&site, vmid());
    assert_eq!(
        agent.check(false).unwrap_err().to_string(),
        "No QEMU guest agent configured"
    );
    assert_eq!(agent.check(true).unwrap_err().to_string(), "VM 105 is not running");
}
