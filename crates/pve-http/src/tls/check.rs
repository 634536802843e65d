//! What is wrong with the TLS settings, all of it at once, for the verb `check`.

use log::Level;
use rustls::crypto::aws_lc_rs;
use rustls::{SignatureAlgorithm, sign};

use super::certificate::{self, Pair};
use super::{TlsError, TlsSettings, provider, validity};

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A setting.
    Setting(&'static str),
    /// A file, by its path.
    File(String),
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub subject: Subject,
    /// Whether it keeps the daemon from serving.
    pub is_fatal: bool,
    /// What is wrong.
    pub text: String,
    /// What to do about it, if it is a file's.
    pub remedy: &'static str,
}

/// What to do about a certificate or key that cannot be used at all.
const MAKE: &str = "'pvecm updatecerts' makes the node's certificate; www-data must be able to read its files.";
/// What to do about a pair that is none.
const PAIR: &str = "Certificate and key must belong together: put both from the same order, the leaf first.";
/// For settings, the remedy is the setting's.
const NONE: &str = "";

/// Looks at settings, certificates, keys and Diffie-Hellman parameters as the server would.
pub fn check(settings: &TlsSettings) -> Vec<Problem> {
    let mut problems = Vec::new();
    if settings.disable_tls12 && settings.disable_tls13 {
        problems.push(fatal(&TlsError::NoVersion));
    }
    // One that is wrong must not hide the other.
    let without_parameters = TlsSettings {
        dh_params: None,
        ..settings.clone()
    };
    let without_lists = TlsSettings {
        ciphers: None,
        cipher_suites: None,
        disable_tls12: false,
        ..settings.clone()
    };
    let mut suites = Vec::new();
    match provider::select(&without_parameters) {
        Ok(selection) => {
            suites = selection.tls12;
            for (_, text) in selection.notes.iter().filter(|(level, _)| *level <= Level::Warn) {
                let key = if text.starts_with("CIPHERS:") {
                    "CIPHERS"
                } else {
                    "CIPHERSUITES"
                };
                problems.push(Problem {
                    subject: Subject::Setting(key),
                    is_fatal: false,
                    text: text.clone(),
                    remedy: NONE,
                });
            }
        }
        Err(TlsError::NoVersion) => {}
        Err(error) => problems.push(fatal(&error)),
    }
    if let Err(error) = provider::select(&without_lists) {
        problems.push(fatal(&error));
    } else if let Ok(Err(error)) = provider::select(settings).map(|selection| selection.provider()) {
        problems.push(fatal(&error));
    }
    match certificate::choose(settings).and_then(|pair| algorithm(&pair).map(|algorithm| (pair, algorithm))) {
        Ok((pair, algorithm)) => {
            if let Ok((chain, _)) = pair.read() {
                let context = &settings.context;
                problems.extend(validity::check(&pair, &chain, &context.site, context.now()));
            }
            if let Some(file) = &settings.key_file
                && !pair.is_own()
            {
                let text = format!("not used: {} or pveproxy-ssl.pem is missing", file.display());
                problems.push(Problem {
                    subject: Subject::Setting("TLS_KEY_FILE"),
                    is_fatal: false,
                    text,
                    remedy: NONE,
                });
            }
            let is_rsa = algorithm == SignatureAlgorithm::RSA;
            if !suites.is_empty() && !settings.disable_tls12 && suites.iter().all(|suite| suite.is_rsa() != is_rsa) {
                problems.push(Problem {
                    subject: Subject::Setting("CIPHERS"),
                    is_fatal: settings.disable_tls13,
                    text: format!("no cipher of the list goes with the key of {}", pair.certificate_path),
                    remedy: NONE,
                });
            }
        }
        Err(error) => problems.push(fatal(&error)),
    }
    problems
}

/// What kind of key a pair has; an error if the two do not belong together.
fn algorithm(pair: &Pair) -> Result<SignatureAlgorithm, TlsError> {
    let (chain, key) = pair.read()?;
    let refused = |reason| TlsError::Rustls {
        path: pair.certificate_path.clone(),
        reason,
    };
    let certified = sign::CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(refused)?;
    Ok(certified.key.algorithm())
}

/// A problem that keeps the daemon from serving.
fn fatal(error: &TlsError) -> Problem {
    let file = |path: &String| Subject::File(path.clone());
    let subject = match error {
        TlsError::NoVersion => Subject::Setting("DISABLE_TLS_1_2"),
        TlsError::Ciphers { .. } | TlsError::NoCipher { .. } | TlsError::Level { .. } => Subject::Setting("CIPHERS"),
        TlsError::OpenParameters { .. } | TlsError::Parameters { .. } => Subject::Setting("DHPARAMS"),
        TlsError::Cfs(_) => Subject::File("/etc/pve".to_owned()),
        TlsError::Certificate(path) | TlsError::Key(path) | TlsError::Rustls { path, .. } => file(path),
    };
    Problem {
        subject,
        is_fatal: true,
        text: error.to_string(),
        remedy: match error {
            TlsError::Rustls { .. } => PAIR,
            _ => MAKE,
        },
    }
}
