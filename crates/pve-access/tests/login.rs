//! Logging in, and being who one says one is, on a site of its own.

#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::Lab;
use pve_access::login::{Login, LoginRequest};
use pve_access::{AccessError, Credentials, password};
use pve_schema::Failure as _;
use pve_schema::ids::{AuthId, UserId};

const USERS: &str = "\
user:alice@pve:1:0::::::
token:alice@pve!ci:0:1::
user:bob@pve:1:0:::::x:
user:gone@pve:1:1::::::
user:off@pve:0:0::::::
user:root@pam:1:0::::::

acl:1:/vms:alice@pve:PVEVMUser:
";

fn lab() -> Lab {
    let lab = Lab::with_users(USERS);
    for user in ["alice@pve", "bob@pve", "gone@pve", "off@pve"] {
        let domains = lab.access().domains().unwrap();
        password::set(&lab.context, &domains, &user.parse().unwrap(), "S3cret!pw").unwrap();
    }
    lab
}

fn request<'a>(username: &'a str, password: &'a str) -> LoginRequest<'a> {
    LoginRequest {
        username,
        password,
        ..LoginRequest::default()
    }
}

fn log_in(lab: &Lab, username: &str, password: &str) -> Result<Login, AccessError> {
    lab.access().login(&request(username, password))
}

fn ticket(login: Login) -> String {
    login.session.unwrap().ticket
}

fn authenticate(lab: &Lab, ticket: &str) -> Result<AuthId, AccessError> {
    lab.access().authenticate(&Credentials::Ticket(ticket.to_owned()))
}

#[test]
fn a_password_becomes_a_ticket_and_the_ticket_a_caller() {
    let lab = lab();
    let login = log_in(&lab, "alice@pve", "S3cret!pw").unwrap();
    assert_eq!(login.user.as_str(), "alice@pve");
    assert!(login.capabilities.unwrap()["vms"].contains("VM.Console"));
    assert_eq!(login.cluster, None);
    let session = login.session.unwrap();
    let who = authenticate(&lab, &session.ticket).unwrap();
    assert_eq!(who.to_string(), "alice@pve");
    lab.access().verify_csrf(&who, Some(&session.csrf_token)).unwrap();
    for bad in [None, Some("66F01234:x"), Some("")] {
        let error = lab.access().verify_csrf(&who, bad).unwrap_err();
        assert_eq!(
            (error.status(), error.to_string().as_str()),
            (401, "Permission denied - invalid csrf token")
        );
    }

    let separate = LoginRequest {
        realm: Some("pve"),
        ..request("alice", "S3cret!pw")
    };
    assert_eq!(lab.access().login(&separate).unwrap().user.as_str(), "alice@pve");
}

#[test]
fn every_failure_looks_the_same() {
    let lab = lab();
    for (user, password) in [
        ("alice@pve", "wrong"),
        ("alice@pve", ""),
        ("nobody@pve", "S3cret!pw"),
        ("gone@pve", "S3cret!pw"),
        ("off@pve", "S3cret!pw"),
        ("alice@nowhere", "S3cret!pw"),
        ("alice", "S3cret!pw"),
        ("a b\nc@pve", "S3cret!pw"),
    ] {
        let error = log_in(&lab, user, password).unwrap_err();
        assert_eq!(
            (error.status(), error.to_string().as_str()),
            (401, "authentication failure"),
            "{user}"
        );
    }
}

/// The secret of RFC 6238, whose code at 59 s is 287082.
const TOTP: &str = r#"{"users":{"alice@pve":{"totp":[{"id":"1","created":1,
    "entry":"otpauth://totp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"}]}}}"#;

/// The code of a device set up with [`TOTP`] now.
fn code(lab: &Lab) -> String {
    let uri = "otpauth://totp/a?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ";
    let totp = pve_access::tfa::totp::Totp::parse(uri).unwrap();
    totp.code_at(lab.context.now()).unwrap()
}

fn answer<'a>(ticket: &'a str, answer: &'a str) -> LoginRequest<'a> {
    LoginRequest {
        tfa_challenge: Some(ticket),
        ..request("alice@pve", answer)
    }
}

#[test]
fn a_second_factor_is_asked_for_and_answered() {
    let lab = lab();
    // KEYS alone says nothing: an entry does (reference 02 §8.6).
    assert!(log_in(&lab, "bob@pve", "S3cret!pw").is_ok());
    lab.cfs.write("priv/tfa.cfg", TOTP.as_bytes()).unwrap();
    let half = log_in(&lab, "alice@pve", "S3cret!pw").unwrap();
    assert_eq!(half.capabilities, None);
    let ticket = half.session.unwrap().ticket;
    assert!(ticket.starts_with("PVE:!tfa!{\"totp\"%3Atrue}:"), "{ticket}");
    assert_eq!(authenticate(&lab, &ticket).unwrap_err().to_string(), "No ticket");
    assert!(
        log_in(&lab, "alice@pve", &ticket).is_err(),
        "half a ticket is no password"
    );
    assert!(log_in(&lab, "alice@pve", "wrong").is_err());

    let code = format!("totp:{}", code(&lab));
    let log_in = |request: LoginRequest<'_>| lab.access().login(&request);
    for bad in [
        answer(&ticket, "totp:x"),
        answer(&ticket, "S3cret!pw"),
        answer("PVE:!tfa!{\"totp\"%3Atrue}:66F01234::x", &code),
        LoginRequest {
            username: "bob@pve",
            ..answer(&ticket, &code)
        },
        LoginRequest {
            otp: Some(&code),
            ..answer(&ticket, &code)
        },
    ] {
        assert!(matches!(log_in(bad).unwrap_err(), AccessError::LoginFailed));
    }
    let whole = log_in(answer(&ticket, &code)).unwrap();
    assert!(whole.capabilities.is_some());
    assert!(authenticate(&lab, &whole.session.unwrap().ticket).is_ok());
    assert!(lab.read("priv/tfa.cfg").contains("last-count"));
    assert!(log_in(answer(&ticket, &code)).is_err(), "a code is good once");
    let old = ticket;
    lab.pass(7201);
    let code = format!("totp:{}", self::code(&lab));
    assert!(
        log_in(answer(&old, &code)).is_err(),
        "half a ticket ages like a whole one"
    );
    // Password and code in one request.
    let at_once = LoginRequest {
        otp: Some(&code),
        ..request("alice@pve", "S3cret!pw")
    };
    assert!(log_in(at_once).unwrap().capabilities.is_some());
}

#[test]
fn nobody_gets_past_a_second_factor_that_cannot_be_asked_for() {
    let lab = lab();
    let refused = |user: &str| log_in(&lab, user, "S3cret!pw").unwrap_err();
    let old_key = br#"{"users":{"alice@pve":{"u2f":[{"id":"1","created":1,"entry":{}}]}}}"#;
    lab.cfs.write("priv/tfa.cfg", old_key).unwrap();
    let half = log_in(&lab, "alice@pve", "S3cret!pw").unwrap();
    assert_eq!(half.capabilities, None);
    let half = ticket(half);
    assert!(half.starts_with("PVE:!tfa!{}:"), "{half}");
    for bad in ["u2f:{}", "totp:287082", "recovery:x", "yubico:x", "webauthn:{}"] {
        let error = lab.access().login(&answer(&half, bad)).unwrap_err();
        assert!(matches!(error, AccessError::LoginFailed), "{bad}");
    }
    lab.cfs.write("priv/tfa.cfg", b"{broken").unwrap();
    assert!(matches!(refused("alice@pve"), AccessError::LoginFailed));
    lab.cfs.remove("priv/tfa.cfg").unwrap();
    lab.cfs.write("domains.cfg", b"pve: pve\n\ttfa type=oath\n\n").unwrap();
    assert!(
        matches!(refused("alice@pve"), AccessError::LoginFailed),
        "the realm demands one"
    );
    lab.cfs.write("priv/tfa.cfg", TOTP.as_bytes()).unwrap();
    assert!(log_in(&lab, "alice@pve", "S3cret!pw").unwrap().capabilities.is_none());
}

/// Keys of old, in a user's record, where the realm demands codes (reference 02 §8.6).
#[test]
fn a_key_of_old_still_opens() {
    let lab = lab();
    let users = USERS.replace(
        "user:alice@pve:1:0::::::",
        "user:alice@pve:1:0:::::v2-GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ:",
    );
    lab.cfs.write("user.cfg", users.as_bytes()).unwrap();
    assert!(
        log_in(&lab, "alice@pve", "S3cret!pw").unwrap().capabilities.is_some(),
        "no demand"
    );
    lab.cfs.write("domains.cfg", b"pve: pve\n\ttfa type=oath\n\n").unwrap();
    let ticket = log_in(&lab, "alice@pve", "S3cret!pw").unwrap().session.unwrap().ticket;
    let code = format!("totp:{}", code(&lab));
    lab.access().login(&answer(&ticket, &code)).unwrap();
    assert!(
        lab.access().login(&answer(&ticket, &code)).is_err(),
        "a code is good once"
    );
}

#[test]
fn a_ticket_renews_itself_and_roots_ticket_serves_everybody() {
    let lab = lab();
    let alice = ticket(log_in(&lab, "alice@pve", "S3cret!pw").unwrap());
    assert!(log_in(&lab, "alice@pve", &alice).is_ok());
    // Also where a second factor was given when the ticket was issued.
    let root = lab.access().login_ticket(&UserId::root()).unwrap();
    assert_eq!(log_in(&lab, "bob@pve", &root).unwrap().user.as_str(), "bob@pve");
    assert!(log_in(&lab, "bob@pve", &alice).is_err());
}

/// Such log-ins do not count as failures, so nothing may be guessed by them: not even a realm that would say yes is
/// asked.
#[test]
fn what_looks_like_a_ticket_is_no_password() {
    let lab = lab();
    let domains = lab.access().domains().unwrap();
    let set = |password: &str| password::set(&lab.context, &domains, &"alice@pve".parse().unwrap(), password).unwrap();
    let ticket = ticket(log_in(&lab, "bob@pve", "S3cret!pw").unwrap());
    for like_a_ticket in [ticket, format!("aPVE::{}", "A".repeat(172))] {
        set(&like_a_ticket);
        let for_path = LoginRequest {
            verify: Some(("/vms", "VM.Console")),
            ..request("alice@pve", &like_a_ticket)
        };
        for request in [request("alice@pve", &like_a_ticket), for_path] {
            let error = lab.access().login(&request).unwrap_err();
            assert_eq!(error.to_string(), "authentication failure");
        }
    }
    let password = format!("PVE::{}", "A".repeat(171));
    set(&password);
    log_in(&lab, "alice@pve", &password).unwrap();
}

#[test]
fn tickets_age() {
    let lab = lab();
    let alice = ticket(log_in(&lab, "alice@pve", "S3cret!pw").unwrap());
    lab.pass(7199);
    assert!(authenticate(&lab, &alice).is_ok());
    lab.pass(2);
    let error = authenticate(&lab, &alice).unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (401, "Authentication failed!")
    );
    let none = lab.access().authenticate(&Credentials::None).unwrap_err();
    assert_eq!((none.status(), none.to_string().as_str()), (401, "No ticket"));
    let half = authenticate(&lab, "PVE:!tfa!{}:66F01234::x").unwrap_err();
    assert_eq!(half.to_string(), "No ticket");
}

#[test]
fn a_ticket_outlives_a_rotation_but_not_its_user() {
    let lab = lab();
    let alice = ticket(log_in(&lab, "alice@pve", "S3cret!pw").unwrap());
    let before = lab.read("authkey.pub");
    lab.pass(3600);
    pve_access::ticket::rotate_if_stale(&lab.context).unwrap();
    assert_eq!(lab.read("authkey.pub"), before, "a young key stays");

    // The key is made a day old by its file's time: that is what counts.
    let path = lab.cfs.full_path("authkey.pub").unwrap();
    let day = std::time::Duration::from_secs(86_500);
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::now() - day).unwrap();
    pve_access::ticket::rotate_if_stale(&lab.context).unwrap();
    assert_ne!(lab.read("authkey.pub"), before);
    assert_eq!(lab.read("authkey.pub.old"), before);
    assert!(authenticate(&lab, &alice).is_ok(), "signed with the old key, in time");
    let fresh = lab.access().login_ticket(&"alice@pve".parse().unwrap()).unwrap();
    assert!(authenticate(&lab, &fresh).is_ok());

    lab.cfs
        .write("user.cfg", USERS.replace("alice@pve:1", "alice@pve:0").as_bytes())
        .unwrap();
    assert!(authenticate(&lab, &fresh).is_err());
}

#[test]
fn a_token_header_names_the_token() {
    let lab = lab();
    lab.cfs.write("priv/token.cfg", b"alice@pve!ci 1234-5678\n").unwrap();
    let authenticate = |value: &str| lab.access().authenticate(&Credentials::Token(value.to_owned()));
    assert_eq!(
        authenticate("alice@pve!ci=1234-5678").unwrap().to_string(),
        "alice@pve!ci"
    );
    let error = authenticate("alice@pve!ci=1234").unwrap_err();
    assert_eq!(error.to_string(), "Authentication failed!");
    assert!(matches!(error, AccessError::Unauthenticated { reason } if reason == "invalid token value!"));
}

#[test]
fn console_tickets_are_bound_to_caller_path_and_port() {
    let lab = lab();
    let alice: AuthId = "alice@pve".parse().unwrap();
    let ticket = lab.access().vnc_ticket(&alice, "/vms/100", Some(5901)).unwrap();
    let verify = |ticket: &str, path: &str, port| lab.access().verify_vnc_ticket(ticket, &alice, path, port);
    assert!(verify(&ticket, "/vms/100/", Some(5901)).is_ok());
    assert!(verify(&format!("p:ssw:rd:{ticket}"), "/vms/100", Some(5901)).is_ok());
    assert!(verify(&ticket, "/vms/101", Some(5901)).is_err());
    assert!(verify(&ticket, "/vms/100", None).is_err());
    assert_eq!(
        verify("x", "/vms/100", None).unwrap_err().to_string(),
        "permission denied - invalid PVEVNC ticket"
    );
    let check = |privileges: &str| {
        lab.access()
            .check_vnc_login("alice@pve", &ticket, "/vms/100", privileges, Some(5901), None)
    };
    assert!(check("VM.Console").is_ok());
    assert!(matches!(check("VM.Console,VM.Allocate"), Err(AccessError::LoginFailed)));

    let portless = lab.access().vnc_ticket(&alice, "/vms/100", None).unwrap();
    let rights = |password: &str, privileges| {
        lab.access().login(&LoginRequest {
            verify: Some(("/vms/100", privileges)),
            ..request("alice@pve", password)
        })
    };
    let login = rights(&portless, "VM.Console").unwrap();
    assert!(login.session.is_none(), "a question about rights yields no ticket");
    assert!(rights("S3cret!pw", "VM.Console").is_ok());
    assert!(rights("S3cret!pw", "VM.Allocate").is_err());
    let root = lab.access().login_ticket(&UserId::root()).unwrap();
    assert!(
        rights(&root, "VM.Console").is_err(),
        "only a ticket of exactly this user"
    );

    lab.pass(41);
    assert!(verify(&ticket, "/vms/100", Some(5901)).is_err());

    let socket = "/run/qemu-server/100.mtunnel";
    let tunnel = lab.access().tunnel_ticket(&alice, socket).unwrap();
    assert!(lab.access().verify_tunnel_ticket(&tunnel, &alice, socket).is_ok());
    assert!(
        lab.access()
            .verify_tunnel_ticket(&tunnel, &AuthId::root(), socket)
            .is_err()
    );
}

#[test]
fn realms_without_case_find_the_one_spelling() {
    let lab = lab();
    lab.cfs
        .write("domains.cfg", b"pve: pve\n\tcase-sensitive 0\n\n")
        .unwrap();
    assert_eq!(
        log_in(&lab, "ALICE@pve", "S3cret!pw").unwrap().user.as_str(),
        "alice@pve"
    );
    lab.cfs
        .write("user.cfg", format!("user:Alice@pve:1:0::::::\n{USERS}").as_bytes())
        .unwrap();
    let error = log_in(&lab, "alice@pve", "S3cret!pw").unwrap_err();
    assert_eq!(
        (error.status(), error.to_string().as_str()),
        (
            500,
            "ambiguous case insensitive match of username 'alice@pve', cannot safely grant access!"
        )
    );
}

#[test]
fn a_labs_system_users_keep_their_passwords() {
    let lab = lab();
    let domains = lab.access().domains().unwrap();
    let error = password::set(&lab.context, &domains, &UserId::root(), "S3cret!pw").unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
}
