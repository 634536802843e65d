//! What is refused of a provider's word, and the reason that the log has.

use serde_json::{Value, json};

use crate::provider::Signed;
use crate::sso;

/// What a provider that lies makes of the truth, and the reason in the log.
type Case<T> = (fn(T) -> T, &'static str);

#[test]
fn tokens_that_are_not_good_are_refused() {
    let sso = sso(&[]);
    let now = sso.lab.context.now();
    for (signed, reason) in [
        (
            Signed::Stranger,
            "unable to verify the ID token: Signature verification failed: Crypto error: bad signature",
        ),
        (
            Signed::Not,
            "unable to verify the ID token: Signature verification failed: No signature found",
        ),
    ] {
        sso.provider.set(|script| script.signed = signed);
        sso.refused(&format!("{signed:?}"), reason);
    }
    sso.provider.set(|script| script.signed = Signed::Rsa);
    for (claims, reason) in [
        (
            json!({ "aud": "another" }),
            "unable to verify the ID token: Invalid audiences: must contain `pve`",
        ),
        (
            json!({ "aud": ["pve", "another"] }),
            "unable to verify the ID token: Invalid audiences: `another` is not a trusted audience",
        ),
        (
            json!({ "aud": [] }),
            "unable to verify the ID token: Invalid audiences: must contain `pve`",
        ),
        (
            json!({ "nonce": "another" }),
            "unable to verify the ID token: Invalid nonce: nonce mismatch",
        ),
        (
            json!({ "nonce": null }),
            "unable to verify the ID token: Invalid nonce: missing nonce claim",
        ),
        (json!({ "exp": now }), "unable to verify the ID token: Expired: "),
        (json!({ "exp": now - 1 }), "unable to verify the ID token: Expired: "),
        (
            json!({ "exp": null }),
            "unable to get an ID token: Failed to parse server response: Failed to parse payload JSON: Error(\"missing field `exp`",
        ),
        (
            json!({ "iss": "https://elsewhere.example" }),
            "unable to verify the ID token: Invalid issuer: ",
        ),
        (
            json!({ "iss": null }),
            "unable to get an ID token: Failed to parse server response: Failed to parse payload JSON: Error(\"missing field `iss`",
        ),
        (
            json!({ "sub": null }),
            "unable to get an ID token: Failed to parse server response: Failed to parse payload JSON: Error(\"missing field `sub`",
        ),
        (
            json!({ "sub": "not a name" }),
            "value 'not a name@sso' does not look like a valid user name",
        ),
        (json!({ "sub": "stranger" }), "no such user ('stranger@sso')"),
        (json!({ "sub": "off" }), "user 'off@sso' is disabled"),
    ] {
        sso.provider.set(|script| {
            script.userinfo = json!({ "sub": claims.get("sub").unwrap_or(&json!("alice")) });
            script.claims = claims.clone();
        });
        sso.refused(&claims.to_string(), reason);
    }
    sso.provider.set(|script| {
        script.claims = json!({});
        script.userinfo = json!({ "sub": "alice" });
    });
    let tampers: [Case<String>; 5] = [
        // Another payload under the same signature.
        (
            |token| {
                use base64::Engine as _;
                let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
                let parts: Vec<&str> = token.split('.').collect();
                let payload = String::from_utf8(engine.decode(parts[1]).unwrap()).unwrap();
                let payload = payload.replace("\"alice\"", "\"root\"");
                format!("{}.{}.{}", parts[0], engine.encode(payload), parts[2])
            },
            "unable to verify the ID token: Signature verification failed: Crypto error: bad signature",
        ),
        (
            |token| token.rsplit_once('.').unwrap().0.to_owned() + ".",
            "unable to verify the ID token: Signature verification failed: Crypto error: bad signature",
        ),
        (
            |token| token.rsplit_once('.').unwrap().0.to_owned() + ".AAAA",
            "unable to verify the ID token: Signature verification failed: Crypto error: bad signature",
        ),
        (
            |_| "no.token.atall".to_owned(),
            "unable to get an ID token: Failed to parse server response: Failed to parse header JSON",
        ),
        (
            |_| String::new(),
            "unable to get an ID token: Failed to parse server response: Invalid JSON web token: found 1 parts",
        ),
    ];
    for (index, (tamper, reason)) in tampers.into_iter().enumerate() {
        sso.provider.set(|script| script.tamper = tamper);
        sso.refused(&format!("tampered {index}"), reason);
    }
    sso.provider.set(|script| script.tamper = |token| token);
    sso.log_in().unwrap();
}

#[test]
fn answers_that_make_no_sense_are_refused() {
    let sso = sso(&[]);
    let answers: [Case<Value>; 5] = [
        (
            |_| json!({ "error": "invalid_grant" }),
            "unable to get an ID token: Failed to parse server response: missing field `access_token`",
        ),
        (
            |_| json!([]),
            "unable to get an ID token: Failed to parse server response: invalid type: sequence",
        ),
        (
            |mut answer| {
                answer.as_object_mut().unwrap().remove("id_token");
                answer
            },
            "unable to get an ID token: the answer has none",
        ),
        (
            |mut answer| {
                answer["access_token"] = json!("two\r\nlines");
                answer
            },
            "unable to get user information: the access token is none",
        ),
        (
            |mut answer| {
                answer["access_token"] = json!("not ascii: ä");
                answer
            },
            "unable to get user information: the access token is none",
        ),
    ];
    for (index, (answer, reason)) in answers.into_iter().enumerate() {
        sso.provider.set(|script| script.token_answer = answer);
        sso.refused(&format!("answer {index}"), reason);
    }
    sso.provider.set(|script| script.token_answer = |answer| answer);
    for (userinfo, reason) in [
        (
            json!({ "sub": "somebody" }),
            "unable to get user information: Failed to verify claims: Invalid subject",
        ),
        (
            json!({}),
            "unable to get user information: Failed to parse server response: missing field `sub`",
        ),
        (
            json!([]),
            "unable to get user information: Failed to parse server response: invalid type: sequence",
        ),
        (
            json!({ "sub": 1 }),
            "unable to get user information: Failed to parse server response: sub: invalid type: integer",
        ),
    ] {
        sso.provider.set(|script| script.userinfo = userinfo.clone());
        sso.refused(&userinfo.to_string(), reason);
    }
    for (state, reason) in [
        ("", "unable to read the openid state - unexpected end"),
        ("x", "unable to read the openid state - no JSON"),
        ("{}", "unable to read the openid state - unexpected value"),
        (
            "{\"csrf_token\":\"x\",\"realm\":\"sso\"}",
            "no openid auth state found (possible timeout)",
        ),
        (
            "{\"csrf_token\":\"x\",\"realm\":\"../x\"}",
            "authentication domain '../x' does not exist",
        ),
    ] {
        sso.refused_with(state, state, reason);
    }
}
