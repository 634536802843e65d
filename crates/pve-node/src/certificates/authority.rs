//! The cluster's certificate authority (reference 04 §7.2).

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose, RsaKeySize,
};
use time::OffsetDateTime;

use super::{DAY, NodeError, Run, generate};

/// The CA's private key.
pub(super) const KEY: &str = "priv/pve-root-ca.key";
/// The CA's certificate.
pub(super) const CERTIFICATE: &str = "pve-root-ca.pem";
/// Days that the CA is valid.
const LIFETIME: i64 = 3650;

impl Run<'_> {
    /// Makes the CA if its key or its certificate is missing; whether it did. A key that is there is kept.
    pub(super) fn authority(&mut self) -> Result<bool, NodeError> {
        let has_key = self.cfs.exists(KEY)?;
        if has_key && self.cfs.exists(CERTIFICATE)? {
            return Ok(false);
        }
        let key = if has_key {
            self.key(KEY)?
        } else {
            let key = generate(RsaKeySize::_4096)?;
            self.write(KEY, key.serialize_pem().as_bytes())?;
            key
        };
        let pem = certificate(&key, self.context.now())?;
        self.write(CERTIFICATE, pem.as_bytes())?;
        Ok(true)
    }
}

fn certificate(key: &KeyPair, now: i64) -> Result<String, NodeError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, "Proxmox Virtual Environment");
    name.push(DnType::OrganizationalUnitName, uuid::Uuid::new_v4().to_string());
    name.push(DnType::OrganizationName, "PVE Cluster Manager CA");
    params.distinguished_name = name;
    params.serial_number = Some(random_serial()?.to_vec().into());
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    params.not_before = date(now - DAY)?;
    params.not_after = date(now - DAY + LIFETIME * DAY)?;
    Ok(params.self_signed(key)?.pem())
}

/// A point in time as certificates have it.
pub(super) fn date(seconds: i64) -> Result<OffsetDateTime, NodeError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| NodeError::Crypto(error.to_string()))
}

/// 160 bits, the first 0: a positive number that needs no byte more.
fn random_serial() -> Result<[u8; 20], NodeError> {
    let mut serial = [0; 20];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| NodeError::Crypto("no random numbers".to_owned()))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}
