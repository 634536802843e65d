//! From the administrator's lists of ciphers to what rustls is to offer.
//!
//! rustls has six suites for TLS 1.2, to which finite-field Diffie-Hellman adds three, and three for TLS 1.3. CBC and
//! static RSA do not exist here: suites that need them are left out, and said so.

use std::path::Path;
use std::sync::LazyLock;

use log::Level;
use pve_cfs::Cfs;
use pve_schema::errno_text;
use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::crypto::{CryptoProvider, KeyExchangeAlgorithm, SupportedKxGroup};
use rustls::{CipherSuite, CipherSuiteCommon, NamedGroup, SupportedCipherSuite, Tls12CipherSuite};

use super::cipher_list::{self, CipherListError};
use super::dh_params::Parameters;
use super::suites::Suite;
use super::{TlsError, TlsSettings, certificate, dhe};

/// `CIPHERS` where none is set (reference 01 §2.6), without the suites that do not exist here.
const DEFAULT_CIPHERS: &str = "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
    ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:\
    ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";

/// The suites of TLS 1.3 that OpenSSL knows, its default ones first and in its order; `None` where rustls has none.
const TLS13: [(&str, u16, Option<SupportedCipherSuite>); 5] = [
    (
        "TLS_AES_256_GCM_SHA384",
        256,
        Some(cipher_suite::TLS13_AES_256_GCM_SHA384),
    ),
    (
        "TLS_CHACHA20_POLY1305_SHA256",
        256,
        Some(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
    ),
    (
        "TLS_AES_128_GCM_SHA256",
        128,
        Some(cipher_suite::TLS13_AES_128_GCM_SHA256),
    ),
    ("TLS_AES_128_CCM_SHA256", 128, None),
    ("TLS_AES_128_CCM_8_SHA256", 128, None),
];

/// Why a suite is left out.
const UNSUPPORTED: &str = "without forward secrecy or authenticated encryption";

/// The suites of TLS 1.2 that there are, under their numbers.
static TLS12: LazyLock<Vec<(u16, SupportedCipherSuite)>> = LazyLock::new(|| {
    let dhe = [
        (
            &cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            CipherSuite::TLS_DHE_RSA_WITH_AES_256_GCM_SHA384,
        ),
        (
            &cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
            CipherSuite::TLS_DHE_RSA_WITH_AES_128_GCM_SHA256,
        ),
        (
            &cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            CipherSuite::TLS_DHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ),
    ];
    let dhe = dhe.into_iter().filter_map(|(base, suite)| with_dhe(base, suite));
    let all = aws_lc_rs::ALL_CIPHER_SUITES
        .iter()
        .copied()
        .filter(|suite| suite.tls13().is_none());
    all.chain(dhe).map(|suite| (u16::from(suite.suite()), suite)).collect()
});

/// A suite with the same cipher, hash and signatures, but with finite-field key exchange.
fn with_dhe(base: &SupportedCipherSuite, suite: CipherSuite) -> Option<SupportedCipherSuite> {
    let SupportedCipherSuite::Tls12(base) = base else {
        return None;
    };
    // Made once per process (TLS12), since rustls wants suites that live as long.
    Some(SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
        common: CipherSuiteCommon {
            suite,
            hash_provider: base.common.hash_provider,
            confidentiality_limit: base.common.confidentiality_limit,
        },
        prf_provider: base.prf_provider,
        kx: KeyExchangeAlgorithm::DHE,
        sign: base.sign,
        aead_alg: base.aead_alg,
    }))))
}

/// What the settings choose.
pub(super) struct Selection<'s> {
    settings: &'s TlsSettings,
    /// For TLS 1.2, best first.
    pub(super) tls12: Vec<&'static Suite>,
    /// For TLS 1.3, best first.
    tls13: Vec<SupportedCipherSuite>,
    /// `DHPARAMS`, or the built-in group.
    parameters: Parameters,
    /// `@SECLEVEL`, else 0: rustls has nothing weak.
    level: u8,
    /// What of the lists cannot be had, for the log.
    pub(super) notes: Vec<(Level, String)>,
}

/// Reads the lists, and the file of `DHPARAMS`.
pub(super) fn select(settings: &TlsSettings) -> Result<Selection<'_>, TlsError> {
    let parameters = read_parameters(settings)?;
    let mut selection = Selection {
        settings,
        tls12: Vec::new(),
        tls13: Vec::new(),
        parameters,
        level: 0,
        notes: Vec::new(),
    };
    selection.read_ciphers()?;
    selection.read_cipher_suites();
    selection.apply_level()?;
    Ok(selection)
}

impl Selection<'_> {
    fn read_ciphers(&mut self) -> Result<(), TlsError> {
        let text = self.settings.ciphers.as_deref().unwrap_or(DEFAULT_CIPHERS);
        let refused = |reason: CipherListError| TlsError::Ciphers {
            list: text.to_owned(),
            reason,
        };
        let list = cipher_list::parse(text).map_err(refused)?;
        self.level = list.security_level.unwrap_or(0);
        let (have, lack): (Vec<_>, Vec<_>) = list
            .suites
            .into_iter()
            .partition(|suite| implementation(suite).is_some());
        if have.is_empty() && !self.settings.disable_tls12 {
            return Err(TlsError::NoCipher {
                list: text.to_owned(),
                names: names(lack.iter().take(5)),
            });
        }
        if !list.unknown.is_empty() {
            let words = list.unknown.join(", ");
            self.notes
                .push((Level::Warn, format!("CIPHERS: nothing is called {words}, left out")));
        }
        let (named, grouped): (Vec<_>, Vec<_>) = lack.into_iter().partition(|suite| list.named.contains(suite));
        if !named.is_empty() {
            let text = format!("CIPHERS: left out, {UNSUPPORTED}: {}", names(&named));
            self.notes.push((Level::Warn, text));
        }
        if !grouped.is_empty() {
            let text = format!(
                "CIPHERS: {} suites of its groups left out, {UNSUPPORTED}",
                grouped.len()
            );
            self.notes.push((Level::Info, text));
        }
        self.tls12 = have;
        Ok(())
    }

    fn read_cipher_suites(&mut self) {
        let text = self.settings.cipher_suites.as_deref().unwrap_or_default();
        for name in text.split(':').map(str::trim).filter(|name| !name.is_empty()) {
            match TLS13.iter().find(|(known, ..)| *known == name) {
                Some((.., Some(suite))) if self.tls13.contains(suite) => {}
                Some((.., Some(suite))) => self.tls13.push(*suite),
                Some((.., None)) => self
                    .notes
                    .push((Level::Warn, format!("CIPHERSUITES: left out, not supported: {name}"))),
                None => self
                    .notes
                    .push((Level::Warn, format!("CIPHERSUITES: nothing is called {name}, left out"))),
            }
        }
        if self.tls13.is_empty() {
            if !text.is_empty() {
                let text = format!("Failed to set TLS 1.3 ciphersuites '{text}'");
                self.notes.push((Level::Warn, text));
            }
            self.tls13 = TLS13.iter().filter_map(|(.., suite)| *suite).collect();
        }
    }

    /// Leaves out what does not reach the list's security level.
    fn apply_level(&mut self) -> Result<(), TlsError> {
        let needed = strength_of_level(self.level);
        let group = strength_of_dh(self.parameters.bits());
        let (strong, weak): (Vec<_>, Vec<_>) = std::mem::take(&mut self.tls12)
            .into_iter()
            .partition(|suite| suite.bits >= needed && (!suite.is_dhe() || group >= needed));
        self.tls12 = strong;
        if !weak.is_empty() {
            let text = format!(
                "CIPHERS: left out, below security level {}: {}",
                self.level,
                names(&weak)
            );
            self.notes.push((Level::Warn, text));
        }
        let bits = |suite: &SupportedCipherSuite| {
            TLS13
                .iter()
                .find(|(.., known)| *known == Some(*suite))
                .map_or(0, |row| row.1)
        };
        self.tls13.retain(|suite| bits(suite) >= needed);
        let settings = self.settings;
        let has_suite =
            (!settings.disable_tls12 && !self.tls12.is_empty()) || (!settings.disable_tls13 && !self.tls13.is_empty());
        if has_suite && !self.curves().is_empty() {
            Ok(())
        } else {
            Err(TlsError::Level {
                list: settings.ciphers.clone().unwrap_or_default(),
            })
        }
    }

    /// The groups of rustls that reach the security level.
    fn curves(&self) -> Vec<&'static dyn SupportedKxGroup> {
        let needed = strength_of_level(self.level);
        let all = aws_lc_rs::default_provider().kx_groups;
        all.into_iter()
            .filter(|group| strength_of_group(group.name()) >= needed)
            .collect()
    }

    /// rustls with these ciphers, in this order.
    pub(super) fn provider(&self) -> Result<CryptoProvider, TlsError> {
        let tls12 = self.tls12.iter().copied().filter(|_| !self.settings.disable_tls12);
        let tls13 = self.tls13.iter().copied().filter(|_| !self.settings.disable_tls13);
        let mut kx_groups = self.curves();
        // A group that no suite needs would be refused.
        if tls12.clone().any(Suite::is_dhe) {
            let groups = dhe::groups(self.parameters.clone()).map_err(|reason| TlsError::Parameters {
                path: shown(self.settings.dh_params.as_deref()),
                reason,
            })?;
            kx_groups.extend(groups);
        }
        Ok(CryptoProvider {
            cipher_suites: tls13.chain(tls12.filter_map(implementation)).collect(),
            kx_groups,
            ..aws_lc_rs::default_provider()
        })
    }
}

fn implementation(suite: &Suite) -> Option<SupportedCipherSuite> {
    TLS12.iter().find(|(id, _)| *id == suite.id).map(|(_, suite)| *suite)
}

fn names<'s>(suites: impl IntoIterator<Item = &'s &'static Suite>) -> String {
    let names: Vec<_> = suites.into_iter().map(|suite| suite.name).collect();
    names.join(", ")
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(
        || "built-in DH parameters".to_owned(),
        |path| path.display().to_string(),
    )
}

/// The group of `DHPARAMS`, or the built-in one.
fn read_parameters(settings: &TlsSettings) -> Result<Parameters, TlsError> {
    let Some(path) = &settings.dh_params else {
        return Ok(Parameters::built_in());
    };
    let failed = |reason: String| TlsError::OpenParameters {
        path: path.display().to_string(),
        reason,
    };
    let text = match certificate::below_etc_pve(path) {
        Some(rel) => Cfs::new(&settings.context)
            .read(rel)?
            .ok_or_else(|| failed("No such file or directory".to_owned()))?,
        None => std::fs::read(path).map_err(|error| failed(errno_text(&error)))?,
    };
    Parameters::from_pem(&text).map_err(|reason| TlsError::Parameters {
        path: path.display().to_string(),
        reason,
    })
}

/// Bits of security that a level demands (SSL_CTX_set_security_level(3)).
fn strength_of_level(level: u8) -> u16 {
    match level {
        0 => 0,
        1 => 80,
        2 => 112,
        3 => 128,
        4 => 192,
        _ => 256,
    }
}

/// Bits of security of finite-field groups of a length.
fn strength_of_dh(bits: usize) -> u16 {
    match bits {
        ..2048 => 80,
        2048..3072 => 112,
        3072..7680 => 128,
        _ => 192,
    }
}

/// Bits of security of the groups that rustls has.
fn strength_of_group(name: NamedGroup) -> u16 {
    match name {
        NamedGroup::secp384r1 | NamedGroup::X25519MLKEM768 => 192,
        _ => 128,
    }
}
