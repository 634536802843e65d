//! What the values of `/etc/default/pveproxy` and `/etc/default/pvedaemon` mean (reference 01 §2.2).
//!
//! Each daemon checks every key of the file it reads, so a bad `POLICY` stops pvedaemon too, although only
//! `MAX_WORKERS`, `ACCEL` and `LOGIN_FAILURES` have an effect there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use pve_schema::Site;

use crate::acl::{AddressSet, HostAcl, Policy, RangeError, RealIp};
use crate::defaults::{self, DefaultsError, Variables};

/// Workers when nothing else is said (reference 01 §1.3).
const DEFAULT_WORKERS: usize = 3;

/// Failed log-ins in a row when nothing else is said: more than anybody mistypes.
const DEFAULT_LOGIN_FAILURES: u32 = 10;

/// Every key that has a meaning. `ACCEL` (reference 06a §7.12), `HTTP2`, `METRICS_LISTEN` and `LOGIN_FAILURES` are this
/// project's own. The files in `etc-default/` and the man pages name the same ones.
pub const KEYS: [&str; 19] = [
    "MAX_WORKERS",
    "ALLOW_FROM",
    "DENY_FROM",
    "POLICY",
    "LISTEN_IP",
    "CIPHERS",
    "CIPHERSUITES",
    "HONOR_CIPHER_ORDER",
    "DISABLE_TLS_1_2",
    "DISABLE_TLS_1_3",
    "DHPARAMS",
    "TLS_KEY_FILE",
    "COMPRESSION",
    "HTTP2",
    "PROXY_REAL_IP_HEADER",
    "PROXY_REAL_IP_ALLOW_FROM",
    "METRICS_LISTEN",
    "ACCEL",
    "LOGIN_FAILURES",
];

/// A value that stops the daemon.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file could not be read.
    #[error(transparent)]
    File(#[from] DefaultsError),
    /// A list of addresses is none.
    #[error(transparent)]
    Addresses(#[from] RangeError),
    /// `POLICY` is neither.
    #[error("unknown policy '{0}'")]
    Policy(String),
    /// A switch is neither 0 nor 1.
    #[error("unknown value '{0}' - use 0 or 1")]
    Switch(String),
    /// `METRICS_LISTEN` is none, or can be reached from elsewhere.
    #[error("'{0}' is no loopback address with a port")]
    MetricsListen(String),
    /// `ACCEL` is none of the three.
    #[error("unknown accelerator '{0}' - use auto, kvm or tcg")]
    Accel(String),
    /// `LOGIN_FAILURES` is no number that makes sense.
    #[error("'{0}' is no number of failed log-ins - use 0 (no limit) to 10000")]
    LoginFailures(String),
}

/// How virtual CPUs run (reference 06a §7.12).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accel {
    /// KVM where it works, emulation elsewhere.
    #[default]
    Auto,
    /// KVM, or the guest does not start.
    Kvm,
    /// Emulation.
    Tcg,
}

/// What TLS is to be like; the web side interprets the lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// `CIPHERS`: OpenSSL cipher list for TLS 1.2; `None` is the built-in list.
    pub ciphers: Option<String>,
    /// `CIPHERSUITES`: OpenSSL list for TLS 1.3; `None` is the library's.
    pub cipher_suites: Option<String>,
    /// `HONOR_CIPHER_ORDER`: the server's preference counts.
    pub honor_cipher_order: bool,
    /// `DISABLE_TLS_1_2`.
    pub disable_tls_1_2: bool,
    /// `DISABLE_TLS_1_3`.
    pub disable_tls_1_3: bool,
    /// `DHPARAMS`: PEM file with Diffie-Hellman parameters.
    pub dh_params: Option<PathBuf>,
    /// `TLS_KEY_FILE`: the key that goes with `pveproxy-ssl.pem`.
    pub key_file: Option<PathBuf>,
}

/// The settings of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `MAX_WORKERS`: 1 to 127.
    pub max_workers: usize,
    /// `ALLOW_FROM`, `DENY_FROM`, `POLICY`.
    pub hosts: HostAcl,
    /// `LISTEN_IP`: an address or host name.
    pub listen_ip: Option<String>,
    /// What TLS is to be like.
    pub tls: Tls,
    /// `COMPRESSION`: answers may be compressed.
    pub compression: bool,
    /// `HTTP2`: it is offered beside HTTP/1.1. Off by default: clients match on reason phrases, which it does not have.
    pub http2: bool,
    /// `PROXY_REAL_IP_HEADER`, `PROXY_REAL_IP_ALLOW_FROM`.
    pub real_ip: RealIp,
    /// `METRICS_LISTEN`: where metrics are to be had without login.
    pub metrics_listen: Option<SocketAddr>,
    /// `ACCEL`.
    pub accel: Accel,
    /// `LOGIN_FAILURES`: of one user from one address in a row, before its password is looked at once a minute only; 0 for
    /// no limit.
    pub login_failures: u32,
}

impl Settings {
    /// Reads the file of a daemon: `pvedaemon`, or `pveproxy` for both proxies. Values that are wrong but not fatal are
    /// logged as warnings.
    ///
    /// # Errors
    /// A value that stops the daemon.
    pub fn read(site: &Site, daemon: &str) -> Result<Self, SettingsError> {
        let path = site.path(format!("/etc/default/{daemon}"));
        let (settings, warnings) = Self::interpret(&defaults::read(&path, &KEYS)?, &path)?;
        for warning in warnings {
            log::warn!("{warning}");
        }
        Ok(settings)
    }

    /// Where a proxy listens: `LISTEN_IP`; without it a lab's own address, or – `None` – every address of the machine.
    pub fn listen_address(&self, site: &Site) -> Option<String> {
        let default = || (!site.is_system()).then(|| site.address.to_string());
        self.listen_ip.clone().or_else(default)
    }

    /// What the variables of a file mean, and warnings about those that are wrong but not fatal.
    ///
    /// # Errors
    /// A value that stops the daemon.
    pub fn interpret(variables: &Variables, path: &Path) -> Result<(Self, Vec<String>), SettingsError> {
        let get = |name: &str| {
            variables
                .get(name)
                .map(String::as_str)
                .filter(|value| !value.is_empty())
        };
        let text = |name: &str| get(name).map(str::to_owned);
        let switch = |name: &str, default| get(name).map_or(Ok(default), parse_switch);
        let addresses = |name: &str| get(name).map(str::parse::<AddressSet>).transpose();
        let mut warnings = Vec::new();
        let max_workers = match get("MAX_WORKERS").map(|value| parse_workers(value).ok_or(value)) {
            None => DEFAULT_WORKERS,
            Some(Ok(workers)) => workers,
            Some(Err(value)) => {
                warnings.push(format!(
                    "MAX_WORKERS specified in {} is not an integer between 0 and 128: {value}",
                    path.display()
                ));
                DEFAULT_WORKERS
            }
        };
        let settings = Self {
            max_workers,
            hosts: HostAcl {
                allow: addresses("ALLOW_FROM")?.unwrap_or_default(),
                deny: addresses("DENY_FROM")?.unwrap_or_default(),
                policy: get("POLICY").map_or(Ok(Policy::Allow), parse_policy)?,
            },
            listen_ip: text("LISTEN_IP"),
            tls: Tls {
                ciphers: text("CIPHERS"),
                cipher_suites: text("CIPHERSUITES"),
                honor_cipher_order: switch("HONOR_CIPHER_ORDER", true)?,
                disable_tls_1_2: switch("DISABLE_TLS_1_2", false)?,
                disable_tls_1_3: switch("DISABLE_TLS_1_3", false)?,
                dh_params: get("DHPARAMS").map(PathBuf::from),
                key_file: get("TLS_KEY_FILE").map(PathBuf::from),
            },
            compression: switch("COMPRESSION", true)?,
            http2: switch("HTTP2", false)?,
            real_ip: RealIp {
                header: get("PROXY_REAL_IP_HEADER").map(str::to_ascii_lowercase),
                trusted: addresses("PROXY_REAL_IP_ALLOW_FROM")?,
            },
            metrics_listen: get("METRICS_LISTEN").map(parse_metrics_listen).transpose()?,
            accel: get("ACCEL").map_or(Ok(Accel::Auto), parse_accel)?,
            login_failures: get("LOGIN_FAILURES").map_or(Ok(DEFAULT_LOGIN_FAILURES), parse_login_failures)?,
        };
        Ok((settings, warnings))
    }
}

fn parse_workers(value: &str) -> Option<usize> {
    if !value.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    value.parse().ok().filter(|workers| (1..128).contains(workers))
}

fn parse_switch(value: &str) -> Result<bool, SettingsError> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        other => Err(SettingsError::Switch(other.to_owned())),
    }
}

fn parse_policy(value: &str) -> Result<Policy, SettingsError> {
    match value {
        "allow" => Ok(Policy::Allow),
        "deny" => Ok(Policy::Deny),
        other => Err(SettingsError::Policy(other.to_owned())),
    }
}

fn parse_metrics_listen(value: &str) -> Result<SocketAddr, SettingsError> {
    let address = value.parse().ok();
    address
        .filter(|address: &SocketAddr| address.ip().is_loopback() && address.port() != 0)
        .ok_or_else(|| SettingsError::MetricsListen(value.to_owned()))
}

fn parse_accel(value: &str) -> Result<Accel, SettingsError> {
    match value {
        "auto" => Ok(Accel::Auto),
        "kvm" => Ok(Accel::Kvm),
        "tcg" => Ok(Accel::Tcg),
        other => Err(SettingsError::Accel(other.to_owned())),
    }
}

fn parse_login_failures(value: &str) -> Result<u32, SettingsError> {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    let failures = value.parse().ok().filter(|failures| *failures <= 10_000);
    failures
        .filter(|_| is_number)
        .ok_or_else(|| SettingsError::LoginFailures(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interpret(pairs: &[(&str, &str)]) -> Result<(Settings, Vec<String>), String> {
        let variables = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Settings::interpret(&variables, Path::new("/etc/default/pveproxy")).map_err(|error| error.to_string())
    }

    #[test]
    fn vector_54_worker_counts() {
        for (value, expected) in [("5", 5), ("127", 127), ("007", 7)] {
            let (settings, warnings) = interpret(&[("MAX_WORKERS", value)]).unwrap();
            assert_eq!((settings.max_workers, warnings.len()), (expected, 0), "{value}");
        }
        for value in ["0", "128", "-1", "5x", " 5", "4\r", "99999999999999999999999"] {
            let (settings, warnings) = interpret(&[("MAX_WORKERS", value)]).unwrap();
            assert_eq!(settings.max_workers, 3, "{value}");
            let text = "MAX_WORKERS specified in /etc/default/pveproxy is not an integer between 0 and 128: ";
            assert_eq!(warnings, [format!("{text}{value}")]);
        }
    }

    #[test]
    fn vector_55_fatal_values() {
        for (name, value, expected) in [
            ("POLICY", "Deny", "unknown policy 'Deny'"),
            ("COMPRESSION", "no", "unknown value 'no' - use 0 or 1"),
            ("HTTP2", "h2", "unknown value 'h2' - use 0 or 1"),
            ("HONOR_CIPHER_ORDER", "2", "unknown value '2' - use 0 or 1"),
            ("DISABLE_TLS_1_2", "true", "unknown value 'true' - use 0 or 1"),
            ("ALLOW_FROM", "10.0.0.1, 10.0.0.2", "Invalid chars in IP  10.0.0.2"),
            ("PROXY_REAL_IP_ALLOW_FROM", "10.0.0.5/8", "Invalid prefix 10.0.0.5/8"),
            (
                "METRICS_LISTEN",
                "0.0.0.0:9226",
                "'0.0.0.0:9226' is no loopback address with a port",
            ),
            ("METRICS_LISTEN", "9226", "'9226' is no loopback address with a port"),
            (
                "METRICS_LISTEN",
                "[::1]:0",
                "'[::1]:0' is no loopback address with a port",
            ),
            (
                "METRICS_LISTEN",
                "localhost:9226",
                "'localhost:9226' is no loopback address with a port",
            ),
            ("ACCEL", "xen", "unknown accelerator 'xen' - use auto, kvm or tcg"),
            (
                "LOGIN_FAILURES",
                "-1",
                "'-1' is no number of failed log-ins - use 0 (no limit) to 10000",
            ),
            (
                "LOGIN_FAILURES",
                "10001",
                "'10001' is no number of failed log-ins - use 0 (no limit) to 10000",
            ),
        ] {
            assert_eq!(interpret(&[(name, value)]).unwrap_err(), expected);
        }
    }

    #[test]
    fn vector_56_lists_and_policy_together() {
        let file = [
            ("ALLOW_FROM", "10.0.0.1-10.0.0.5,192.168.0.0/22"),
            ("DENY_FROM", "all"),
            ("POLICY", "allow"),
        ];
        let (settings, _) = interpret(&file).unwrap();
        assert!(settings.hosts.permits("10.0.0.3".parse().unwrap()));
        assert!(!settings.hosts.permits("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn metrics_are_for_this_machine() {
        for value in ["127.0.0.1:9226", "127.8.9.10:1", "[::1]:9226"] {
            let (settings, _) = interpret(&[("METRICS_LISTEN", value)]).unwrap();
            assert_eq!(settings.metrics_listen.unwrap().to_string(), value);
        }
        assert_eq!(interpret(&[]).unwrap().0.metrics_listen, None);
    }

    #[test]
    fn failed_logins_are_a_number_and_none_is_no_limit() {
        for (value, expected) in [("0", 0), ("5", 5), ("10000", 10_000)] {
            assert_eq!(
                interpret(&[("LOGIN_FAILURES", value)]).unwrap().0.login_failures,
                expected
            );
        }
        assert_eq!(interpret(&[]).unwrap().0.login_failures, 10);
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        let (settings, warnings) = interpret(&[("POLICY", "")]).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(settings.max_workers, 3);
        assert!(settings.compression && settings.tls.honor_cipher_order);
        assert!(!settings.http2);
        assert!(!settings.tls.disable_tls_1_2 && !settings.tls.disable_tls_1_3);
        assert_eq!(settings.hosts, HostAcl::default());
        assert_eq!(settings.accel, Accel::Auto);
        assert_eq!(settings.real_ip, RealIp::default());
    }
}
