//! A security key made of software, and the browser that it is plugged into (WebAuthn level 3, §5, §6, §8.7).

#![allow(unreachable_pub)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::sign::Signer;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const USER_PRESENT: u8 = 1;
const BACKUP_ELIGIBLE: u8 = 1 << 3;
const BACKUP_STATE: u8 = 1 << 4;
const ATTESTED: u8 = 1 << 6;

pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// What a key does; a test changes what it wants to be wrong.
#[derive(Clone)]
pub struct SecurityKey {
    pub id: Vec<u8>,
    pub key: PKey<Private>,
    /// Of the last use.
    pub counter: u32,
    pub is_user_present: bool,
    pub is_backed_up: bool,
    /// The page that asks.
    pub origin: String,
    /// What the browser takes that page's owner for.
    pub rp_id: String,
}

impl SecurityKey {
    pub fn new(id: &str) -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = EcKey::generate(&group).unwrap();
        Self {
            id: id.as_bytes().to_vec(),
            key: PKey::from_ec_key(key).unwrap(),
            counter: 0,
            is_user_present: true,
            is_backed_up: false,
            origin: "https://localhost:8006".to_owned(),
            rp_id: "localhost".to_owned(),
        }
    }

    pub fn point(&self) -> [Vec<u8>; 2] {
        let key = self.key.ec_key().unwrap();
        let mut context = BigNumContext::new().unwrap();
        let (mut x, mut y) = (BigNum::new().unwrap(), BigNum::new().unwrap());
        let public = key.public_key();
        public
            .affine_coordinates(key.group(), &mut x, &mut y, &mut context)
            .unwrap();
        [x, y].map(|number| number.to_vec_padded(32).unwrap())
    }

    fn data(&self, flags: u8) -> Vec<u8> {
        let mut flags = flags | if self.is_user_present { USER_PRESENT } else { 0 };
        if self.is_backed_up {
            flags |= BACKUP_ELIGIBLE | BACKUP_STATE;
        }
        let mut data = Sha256::digest(&self.rp_id).to_vec();
        data.push(flags);
        data.extend(self.counter.to_be_bytes());
        data
    }

    /// The browser's account of what was asked.
    fn client_data(&self, kind: &str, options: &Value) -> Vec<u8> {
        let challenge = &options["publicKey"]["challenge"];
        json!({ "type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": false })
            .to_string()
            .into_bytes()
    }

    /// What a browser makes of options for `navigator.credentials.create()`, in the form that web interfaces send.
    pub fn create(&self, options: &Value) -> String {
        let mut data = self.data(ATTESTED);
        data.extend([0; 16]);
        data.extend(u16::try_from(self.id.len()).unwrap().to_be_bytes());
        data.extend(&self.id);
        let [x, y] = self.point();
        // COSE: {1: 2, 3: -7, -1: 1, -2: x, -3: y}.
        data.extend([0xa5, 1, 2, 3, 0x26, 0x20, 1, 0x21, 0x58, 32]);
        data.extend(x);
        data.extend([0x22, 0x58, 32]);
        data.extend(y);
        // CBOR: {"fmt": "none", "attStmt": {}, "authData": …}.
        let mut object = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x59".to_vec();
        object.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        object.extend(data);
        json!({
            "id": base64url(&self.id),
            "type": "public-key",
            "rawId": base64url(&self.id),
            "response": {
                "attestationObject": base64url(&object),
                "clientDataJSON": base64url(&self.client_data("webauthn.create", options)),
            },
        })
        .to_string()
    }

    /// What a browser makes of options for `navigator.credentials.get()`, in the form that web interfaces send.
    pub fn get(&mut self, options: &Value) -> Value {
        self.counter += 1;
        self.sign("webauthn.get", options)
    }

    /// The same without counting, and for any ceremony.
    pub fn sign(&self, kind: &str, options: &Value) -> Value {
        let data = self.data(0);
        let client = self.client_data(kind, options);
        let mut signer = Signer::new(MessageDigest::sha256(), &self.key).unwrap();
        signer.update(&data).unwrap();
        signer.update(&Sha256::digest(&client)).unwrap();
        json!({
            "id": base64url(&self.id),
            "type": "public-key",
            "rawId": base64url(&self.id),
            "challenge": options["publicKey"]["challenge"],
            "response": {
                "authenticatorData": base64url(&data),
                "clientDataJSON": base64url(&client),
                "signature": base64url(&signer.sign_to_vec().unwrap()),
            },
        })
    }
}
