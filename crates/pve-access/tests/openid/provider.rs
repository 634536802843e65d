//! An identity provider that can be told to lie.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::sign::Signer;
use serde_json::{Value, json};

/// How an ID token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signed {
    Rsa,
    Ec,
    /// By a key that the provider does not show, under the name of one that it does.
    Stranger,
    /// With the client's secret.
    Secret,
    Not,
}

/// What the provider says; a test changes it.
pub(crate) struct Script {
    pub(crate) signed: Signed,
    /// What the ID token says besides the usual; `null` removes.
    pub(crate) claims: Value,
    pub(crate) userinfo: Value,
    /// Changes the token's text.
    pub(crate) tamper: fn(String) -> String,
    /// Changes the answer of the token endpoint.
    pub(crate) token_answer: fn(Value) -> Value,
    /// Changes the metadata.
    pub(crate) metadata: fn(Value) -> Value,
    /// What was asked: path, head and body.
    pub(crate) asked: Vec<(String, String)>,
    /// The nonce that the browser was sent off with.
    pub(crate) nonce: String,
    /// When it is.
    pub(crate) now: i64,
}

pub(crate) struct Provider {
    pub(crate) issuer: String,
    pub(crate) script: Arc<Mutex<Script>>,
}

struct Keys {
    rsa: Rsa<Private>,
    ec: EcKey<Private>,
    stranger: Rsa<Private>,
}

/// Making keys takes longer than all else: every provider has the same.
static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    Keys {
        rsa: Rsa::generate(2048).unwrap(),
        ec: EcKey::generate(&group).unwrap(),
        stranger: Rsa::generate(2048).unwrap(),
    }
});

pub(crate) const SECRET: &str = "client secret";

impl Provider {
    pub(crate) fn start(now: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let script = Arc::new(Mutex::new(Script {
            signed: Signed::Rsa,
            claims: json!({}),
            userinfo: json!({ "sub": "alice" }),
            tamper: |token| token,
            token_answer: |answer| answer,
            metadata: |metadata| metadata,
            asked: Vec::new(),
            nonce: String::new(),
            now,
        }));
        let (issuer_of_thread, script_of_thread) = (issuer.clone(), Arc::clone(&script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that goes away is none of the test's.
                let _ = converse(stream.unwrap(), &issuer_of_thread, &KEYS, &script_of_thread);
            }
        });
        Self { issuer, script }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Script)) {
        change(&mut self.script.lock().unwrap());
    }

    /// The bodies of what was asked at a path.
    pub(crate) fn asked(&self, path: &str) -> Vec<String> {
        let script = self.script.lock().unwrap();
        let at_path = script.asked.iter().filter(|(at, _)| at == path);
        at_path.map(|(_, text)| text.clone()).collect()
    }
}

/// One request and its answer; the connection is closed after it.
fn converse(mut stream: TcpStream, issuer: &str, keys: &Keys, script: &Mutex<Script>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    let length = head
        .lines()
        .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body)?;
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let mut script = script.lock().unwrap();
    script
        .asked
        .push((path.clone(), head + &String::from_utf8_lossy(&body)));
    let (status, answer) = match path.as_str() {
        "/.well-known/openid-configuration" => (200, (script.metadata)(metadata(issuer))),
        "/jwks" => (200, jwks(keys)),
        "/token" => (200, (script.token_answer)(token_answer(issuer, keys, &script))),
        "/me" => (200, script.userinfo.clone()),
        _ => (404, json!({})),
    };
    let text = answer.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{text}",
        text.len()
    )
}

fn metadata(issuer: &str) -> Value {
    json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{issuer}/auth"),
        "token_endpoint": format!("{issuer}/token"),
        "userinfo_endpoint": format!("{issuer}/me"),
        "jwks_uri": format!("{issuer}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "HS256", "none"],
    })
}

fn jwks(keys: &Keys) -> Value {
    let mut context = BigNumContext::new().unwrap();
    let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
    let group = keys.ec.group();
    let point = keys.ec.public_key();
    point.affine_coordinates(group, &mut x, &mut y, &mut context).unwrap();
    let coordinate = |number: &BigNum| URL_SAFE_NO_PAD.encode(number.to_vec_padded(32).unwrap());
    json!({ "keys": [
        {
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "rsa",
            "n": URL_SAFE_NO_PAD.encode(keys.rsa.n().to_vec()),
            "e": URL_SAFE_NO_PAD.encode(keys.rsa.e().to_vec()),
        },
        { "kty": "EC", "use": "sig", "alg": "ES256", "kid": "ec", "crv": "P-256", "x": coordinate(&x), "y": coordinate(&y) },
    ]})
}

fn token_answer(issuer: &str, keys: &Keys, script: &Script) -> Value {
    let mut claims = json!({
        "iss": issuer, "sub": "alice", "aud": "pve", "iat": script.now, "exp": script.now + 300, "nonce": script.nonce,
    });
    for (name, value) in script.claims.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    let token = (script.tamper)(sign(&claims, script.signed, keys));
    json!({ "access_token": "an access token", "token_type": "Bearer", "id_token": token })
}

fn sign(claims: &Value, signed: Signed, keys: &Keys) -> String {
    let (algorithm, key) = match signed {
        Signed::Rsa | Signed::Stranger => ("RS256", Some("rsa")),
        Signed::Ec => ("ES256", Some("ec")),
        Signed::Secret => ("HS256", None),
        Signed::Not => ("none", None),
    };
    let mut header = json!({ "alg": algorithm, "typ": "JWT" });
    if let Some(key) = key {
        header["kid"] = json!(key);
    }
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(&header), part(claims));
    let by = |key: PKey<Private>| {
        let mut signer = Signer::new(MessageDigest::sha256(), &key).unwrap();
        signer.sign_oneshot_to_vec(text.as_bytes()).unwrap()
    };
    let signature = match signed {
        Signed::Rsa => by(PKey::from_rsa(keys.rsa.clone()).unwrap()),
        Signed::Stranger => by(PKey::from_rsa(keys.stranger.clone()).unwrap()),
        Signed::Ec => {
            let der = by(PKey::from_ec_key(keys.ec.clone()).unwrap());
            let signature = EcdsaSig::from_der(&der).unwrap();
            let number = |number: &openssl::bn::BigNumRef| number.to_vec_padded(32).unwrap();
            [number(signature.r()), number(signature.s())].concat()
        }
        Signed::Secret => by(PKey::hmac(SECRET.as_bytes()).unwrap()),
        Signed::Not => Vec::new(),
    };
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}
