//! Second factors: what security keys and a validation server say. The keys are fixed and of no use to anybody.

use std::sync::LazyLock;

use pve_access::tfa::attempts::Pending;
use pve_access::tfa::config::Entry;
use pve_access::tfa::webauthn::{Assertion, RelyingParty, WebauthnEntry};
use pve_access::tfa::yubico::{Otp, Service};
use serde_json::{Value, json};

use crate::text;

static PARTY: LazyLock<RelyingParty> = LazyLock::new(|| {
    let origin = "https://localhost:8006".parse().unwrap();
    RelyingParty::new("Lab", "localhost", origin, false)
});

/// What `fuzz/corpus/webauthn_answer/registration` and `…/assertion` answer.
const REGISTRATION: &str = "VNa04zIahIxGT9yuWczE9m7c9norXN8pLNwaK1RpCRk";
const ASSERTION: &str = "wd7IM6YKBcd-SBGMWMxsUip2wIE2Qu615vUBWI47__w";

fn pending(challenge: &str, state: Value) -> Pending {
    Pending {
        challenge: challenge.to_owned(),
        description: String::new(),
        created: 0,
        state,
    }
}

fn registration() -> Pending {
    let state = json!({
        "policy": "discouraged", "exclude_credentials": [], "challenge": REGISTRATION,
        "credential_algorithms": ["ES256", "RS256"], "require_resident_key": false,
        "authenticator_attachment": null, "extensions": {}, "allow_synchronised_authenticators": true,
    });
    pending(REGISTRATION, state)
}

fn assertion(challenge: &str) -> Pending {
    let state = json!({
        "credentials": [], "policy": "discouraged", "challenge": challenge, "appid": null,
        "allow_backup_eligible_upgrade": false,
    });
    pending(challenge, state)
}

/// The key that gave both answers.
fn key() -> Entry<WebauthnEntry> {
    let point = json!({
        "curve": "SECP256R1",
        "x": "T6ePTl2Pnq_uJAs98Gk3cdxEipHWDXzZAkhk5b8qWjo",
        "y": "sbQ9SMA14bW2RzramOpiR2CvVvlY_0SAuoiNmu6kWlg",
    });
    let entry = json!({ "id": "1", "created": 1, "entry": {
        "cred_id": "a2V5LTE", "cred": { "type_": "ES256", "key": { "EC_EC2": point } }, "counter": 0,
    }});
    serde_json::from_value(entry).unwrap()
}

/// What a browser says that asked a security key: while adding it, and while logging in.
pub fn webauthn_answer(data: &[u8]) {
    let text = text(data);
    if let Ok(key) = PARTY.register(&registration(), &text, |_| false) {
        let entry = WebauthnEntry::Key(Box::new(key));
        let written = serde_json::to_string(&entry).unwrap();
        assert_eq!(serde_json::from_str::<WebauthnEntry>(&written).unwrap(), entry);
        assert!(PARTY.register(&registration(), &text, |_| true).is_err(), "a known key");
    }
    let Ok(answer) = Assertion::parse(&text) else {
        return;
    };
    let mut keys = [key()];
    if PARTY.authenticate(&mut keys, &assertion(ASSERTION), &answer).is_ok() {
        // There is one thing that the key ever said.
        assert_eq!(keys[0].entry.key().unwrap().counter, 1);
        assert!(
            PARTY.authenticate(&mut keys, &assertion(ASSERTION), &answer).is_err(),
            "the counter"
        );
    }
    let other = assertion(REGISTRATION);
    assert!(
        PARTY.authenticate(&mut [key()], &other, &answer).is_err(),
        "another question"
    );
}

/// Keys as a file has them, which may be none that can have signed anything.
pub(crate) fn try_keys(keys: &mut [Entry<WebauthnEntry>]) {
    let answer = include_str!("../../../fuzz/corpus/webauthn_answer/assertion");
    let answer = Assertion::parse(answer).unwrap();
    let _ = PARTY.ask_to_register(&"a@pve".parse().unwrap(), keys, "", 0).unwrap();
    let _ = PARTY.ask_to_authenticate(keys, 0).unwrap();
    let _ = PARTY.authenticate(keys, &assertion(ASSERTION), &answer);
}

/// What a validation server says of a one-time password.
pub fn yubico_answer(data: &[u8]) {
    let text = text(data);
    let otp = Otp::parse("ccccccbchvthlivuitrujjifivbvtrblfvirrktublkt").unwrap();
    let service = |key| Service::new("https://example.org/", "87", key).unwrap();
    if service("a2V5").judge(&text, &otp, "abc").is_ok() {
        assert!(text.contains("status=OK") && text.contains("abc"));
        assert!(service("a2V5").judge(&text, &otp, "abd").is_err(), "another question");
        assert!(service("a2V6").judge(&text, &otp, "abc").is_err(), "another server");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else the targets would check nothing.
    #[test]
    fn the_committed_answers_are_right() {
        let registration = include_str!("../../../fuzz/corpus/webauthn_answer/registration");
        let key_of = PARTY.register(&super::registration(), registration, |_| false).unwrap();
        assert_eq!(Some(&key_of), key().entry.key());
        let answer = Assertion::parse(include_str!("../../../fuzz/corpus/webauthn_answer/assertion")).unwrap();
        PARTY
            .authenticate(&mut [key()], &assertion(ASSERTION), &answer)
            .unwrap();
        let otp = Otp::parse("ccccccbchvthlivuitrujjifivbvtrblfvirrktublkt").unwrap();
        let service = Service::new("https://example.org/", "87", "a2V5").unwrap();
        service
            .judge(include_str!("../../../fuzz/corpus/yubico_answer/ok"), &otp, "abc")
            .unwrap();
    }
}
