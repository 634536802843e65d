//! The verb `check`: what is wrong with a daemon's settings, all of it at once, before it is started or reloaded.
//!
//! Here is what concerns `/etc/default/…` alone; a daemon adds what its own parts find. Nothing is changed, and no daemon
//! need run. Everything is read as the daemon's user, so that what it may not read shows.

use std::fmt;
use std::net::ToSocketAddrs as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pve_schema::{Context, errno_text};

use crate::acl::Policy;
use crate::defaults::{self, Variables};
use crate::service;
use crate::settings::{KEYS, Settings};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The daemon serves, but not as the file seems to mean.
    Warning,
    /// The daemon does not start, or does not serve.
    Error,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1, if it is one.
    pub line: Option<usize>,
    /// The setting, or nothing if it is none's.
    pub key: String,
    /// What is wrong: the daemon's own message.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(formatter, "{line}:")?;
        }
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(formatter, " {severity}: ")?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        write!(formatter, "{}\n    {}", self.text, self.remedy)
    }
}

/// For a daemon that has no settings.
pub fn nothing(_context: &Context) -> Vec<Finding> {
    Vec::new()
}

/// A defaults file under examination.
pub struct Examination {
    /// The file, as the daemon opens it.
    pub file: PathBuf,
    /// Its text, as far as it can be read.
    text: String,
    /// What it sets.
    pub variables: Variables,
    /// What was found so far.
    pub findings: Vec<Finding>,
}

impl Examination {
    /// Reads the file of a daemon (`pvedaemon`, or `pveproxy` for both proxies) and looks at each of its settings.
    pub fn new(context: &Context, daemon: &str) -> Self {
        let file = context.site.path(format!("/etc/default/{daemon}"));
        let mut examination = Self {
            text: std::fs::read_to_string(&file).unwrap_or_default(),
            file,
            variables: Variables::new(),
            findings: Vec::new(),
        };
        match defaults::read(&examination.file, &KEYS) {
            Ok(variables) => examination.variables = variables,
            Err(error) => examination.add(
                Severity::Error,
                "",
                &error.to_string(),
                "Make it a readable shell script.",
            ),
        }
        examination.values();
        examination.spelling();
        examination.syntax();
        examination
    }

    /// Adds a finding about a setting.
    pub fn add(&mut self, severity: Severity, key: &str, text: &str, remedy: &str) {
        // In the log the message names the setting itself.
        let text = text
            .strip_prefix(key)
            .and_then(|rest| rest.strip_prefix(": "))
            .unwrap_or(text);
        self.findings.push(Finding {
            severity,
            file: self.file.clone(),
            line: self.line(key),
            key: key.to_owned(),
            text: text.to_owned(),
            remedy: remedy.to_owned(),
        });
    }

    /// The settings without those that are wrong.
    pub fn settings(&self) -> Option<Settings> {
        let wrong = |key: &String| {
            let is_error = |finding: &&Finding| finding.severity == Severity::Error && finding.key == *key;
            self.findings.iter().any(|finding| is_error(&finding))
        };
        let good: Variables = self
            .variables
            .iter()
            .filter(|(key, _)| !wrong(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Settings::interpret(&good, &self.file)
            .ok()
            .map(|(settings, _)| settings)
    }

    /// The last line that sets a key: that is the one that counts.
    fn line(&self, key: &str) -> Option<usize> {
        let sets = |line: &str| assigned(line).is_some_and(|(name, _)| name == key);
        let lines: Vec<&str> = self.text.lines().collect();
        lines.iter().rposition(|line| sets(line)).map(|index| index + 1)
    }

    /// Each value by itself, so that one that is wrong does not hide the next.
    fn values(&mut self) {
        for (key, value) in self.variables.clone() {
            let alone = Variables::from([(key.clone(), value)]);
            match Settings::interpret(&alone, &self.file) {
                Ok((_, warnings)) => {
                    for warning in warnings {
                        self.add(Severity::Warning, &key, &warning, remedy(&key));
                    }
                }
                Err(error) => self.add(Severity::Error, &key, &error.to_string(), remedy(&key)),
            }
        }
    }

    /// Lines that look like settings and are none.
    fn spelling(&mut self) {
        let lines: Vec<String> = self.text.lines().map(str::to_owned).collect();
        for (index, line) in lines.iter().enumerate() {
            let Some((name, has_blank)) = assigned(line) else {
                continue;
            };
            let is_key = KEYS.contains(&name);
            let (text, remedy) = if is_key && has_blank {
                (
                    "not set: a blank before '='",
                    "Write KEY=VALUE without blanks around '='.".to_owned(),
                )
            } else if let (false, Some(close)) = (is_key, similar(name)) {
                ("no such setting", format!("Did you mean {close}?"))
            } else {
                continue;
            };
            self.findings.push(Finding {
                severity: Severity::Warning,
                file: self.file.clone(),
                line: Some(index + 1),
                key: name.to_owned(),
                text: text.to_owned(),
                remedy,
            });
        }
    }

    /// What bash says of the file: where it stops reading, the rest is lost.
    fn syntax(&mut self) {
        if !self.file.is_file() {
            return;
        }
        let run = Command::new("/bin/bash")
            .arg("-n")
            .arg(&self.file)
            .stdin(Stdio::null())
            .output();
        let Ok(output) = run else { return };
        let told = String::from_utf8_lossy(&output.stderr);
        let Some(first) = told.lines().next().filter(|_| !output.status.success()) else {
            return;
        };
        let (line, text) = match first.split_once(": line ").and_then(|(_, rest)| rest.split_once(": ")) {
            Some((number, text)) => (number.parse().ok(), text),
            None => (None, first),
        };
        self.findings.push(Finding {
            severity: Severity::Error,
            file: self.file.clone(),
            line,
            key: String::new(),
            text: text.to_owned(),
            remedy: "The file is a shell script; settings from here on may be lost.".to_owned(),
        });
    }

    /// Whether the address for metrics is one of this machine's.
    pub fn metrics(&mut self) {
        let address = self.settings().and_then(|settings| settings.metrics_listen);
        if let Some(Err(text)) = address.map(|address| can_listen(&address.ip().to_string())) {
            let key = "METRICS_LISTEN";
            self.add(Severity::Warning, key, &text, remedy(key));
        }
    }

    /// Whether the proxies' lists let anybody in, and whether the address can be listened on.
    pub fn proxy(&mut self) {
        let Some(settings) = self.settings() else { return };
        if settings.hosts.policy == Policy::Deny && !self.variables.contains_key("ALLOW_FROM") {
            self.add(
                Severity::Warning,
                "POLICY",
                "nobody may connect: the policy is 'deny' and ALLOW_FROM is empty",
                "Set ALLOW_FROM, or POLICY=allow.",
            );
        }
        if let Some(address) = &settings.listen_ip
            && let Err(text) = can_listen(address)
        {
            self.add(Severity::Error, "LISTEN_IP", &text, remedy("LISTEN_IP"));
        }
    }
}

/// The name that a line sets or seems to set, and whether blanks keep it from doing so.
fn assigned(line: &str) -> Option<(&str, bool)> {
    let line = line.trim_start();
    let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
    let end = line.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let (name, rest) = line.split_at_checked(end)?;
    let is_set = rest.starts_with('=') || rest.starts_with("+=");
    let has_blank = rest.starts_with([' ', '\t']) && rest.trim_start().starts_with('=');
    (!name.is_empty() && (is_set || has_blank)).then_some((name, has_blank))
}

/// The key that somebody may have meant: the same but for case, or off by one character.
fn similar(name: &str) -> Option<&'static str> {
    let upper = name.to_ascii_uppercase();
    KEYS.into_iter().find(|key| is_close(key, &upper))
}

/// Whether two words differ in one character at most: changed, missing or surplus.
fn is_close(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let same = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let tail = |word: &[u8], skipped: usize| word.get(same + skipped..).map(<[u8]>::to_vec).unwrap_or_default();
    one.len().abs_diff(other.len()) <= 1
        && (tail(one, 1) == tail(other, 1) || tail(one, 0) == tail(other, 1) || tail(one, 1) == tail(other, 0))
}

/// Whether an address can be listened on, on a port that does not matter.
fn can_listen(host: &str) -> Result<(), String> {
    let failed = |error: &std::io::Error| format!("unable to create socket - {}", errno_text(error));
    let addresses = (host, 0).to_socket_addrs().map_err(|error| failed(&error))?;
    let mut outcome = Err("unable to create socket - no such address".to_owned());
    for address in addresses {
        outcome = service::bind_address(address)
            .map(|_| ())
            .map_err(|error| failed(&error));
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

/// What to do about a setting that is wrong.
pub fn remedy(key: &str) -> &'static str {
    match key {
        "MAX_WORKERS" => "Use a number from 1 to 127; 3 is used meanwhile.",
        "ALLOW_FROM" | "DENY_FROM" | "PROXY_REAL_IP_ALLOW_FROM" => {
            "Use addresses, blocks and ranges, or all, with commas and no blanks between them."
        }
        "POLICY" => "Use allow or deny, in small letters.",
        "LISTEN_IP" => "Use an address of this machine, link-local ones with %INTERFACE, or remove the setting.",
        "CIPHERS" => "'openssl ciphers -v LIST' shows what a list means; ECDHE+AESGCM is a good one.",
        "CIPHERSUITES" => "Use TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256, TLS_AES_128_GCM_SHA256.",
        "DISABLE_TLS_1_2" | "DISABLE_TLS_1_3" => "Use 0 or 1, and leave one of the versions on.",
        "HONOR_CIPHER_ORDER" | "COMPRESSION" | "HTTP2" => "Use 0 or 1.",
        "DHPARAMS" => "'openssl dhparam -out FILE 3072' makes a good file; www-data must be able to read it.",
        "TLS_KEY_FILE" => "Give the key that belongs to pveproxy-ssl.pem, and let www-data read it.",
        "PROXY_REAL_IP_HEADER" => "Use the name of a header, such as X-Forwarded-For.",
        "METRICS_LISTEN" => "Use an address of this machine only, such as 127.0.0.1:9226 or [::1]:9226.",
        "ACCEL" => "Use auto, kvm or tcg.",
        "LOGIN_FAILURES" => "Use 0 for no limit, or a number up to 10000.",
        _ => "Repair or remove it.",
    }
}

/// Prints what was found; whether the daemon would serve.
pub(crate) fn report(name: &str, findings: &[Finding]) -> bool {
    for finding in findings {
        println!("{finding}");
    }
    let errors = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .count();
    println!("{name}: {errors} error(s), {} warning(s)", findings.len() - errors);
    errors == 0
}

/// A finding about a file that is no defaults file.
pub fn about_file(file: impl AsRef<Path>, text: &str, remedy: &str) -> Finding {
    Finding {
        severity: Severity::Error,
        file: file.as_ref().to_owned(),
        line: None,
        key: String::new(),
        text: text.to_owned(),
        remedy: remedy.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examine(text: &str) -> Vec<(Option<usize>, String, String)> {
        let directory = tempfile::tempdir().unwrap();
        let context = Context::new(pve_schema::Site {
            root: directory.path().to_owned(),
            instance: None,
            address: [127, 0, 0, 1].into(),
            node: "node1".parse().unwrap(),
            root_user: pve_schema::site::Ids { uid: 0, gid: 0 },
            web_user: pve_schema::site::Ids { uid: 33, gid: 33 },
        });
        std::fs::create_dir_all(directory.path().join("etc/default")).unwrap();
        std::fs::write(directory.path().join("etc/default/pveproxy"), text).unwrap();
        let mut examination = Examination::new(&context, "pveproxy");
        examination.proxy();
        let findings = examination.findings.into_iter();
        findings
            .map(|finding| (finding.line, finding.key, finding.text))
            .collect()
    }

    fn finding(line: usize, key: &str, text: &str) -> (Option<usize>, String, String) {
        (Some(line), key.to_owned(), text.to_owned())
    }

    #[test]
    fn every_problem_is_found_with_its_line() {
        let text = "# POLICY=x\nPOLICY=allow\nPOLICY=Deny\n\nexport COMPRESSION=no\nLISTEN_IP=192.0.2.99\n";
        let expected = [
            finding(5, "COMPRESSION", "unknown value 'no' - use 0 or 1"),
            finding(3, "POLICY", "unknown policy 'Deny'"),
            finding(
                6,
                "LISTEN_IP",
                "unable to create socket - Cannot assign requested address",
            ),
        ];
        assert_eq!(examine(text), expected);
        assert_eq!(examine("MAX_WORKERS=4\nLISTEN_IP=127.0.0.1\nX=1\n"), []);
        assert_eq!(examine(""), []);
    }

    #[test]
    fn settings_that_are_misspelt_are_noticed() {
        let text = "POLICY = deny\nMAX_WORKER=3\nciphers=ALL\nCIPHERSUITE=x\n";
        let expected = [
            finding(1, "POLICY", "not set: a blank before '='"),
            finding(2, "MAX_WORKER", "no such setting"),
            finding(3, "ciphers", "no such setting"),
            finding(4, "CIPHERSUITE", "no such setting"),
        ];
        assert_eq!(examine(text), expected);
        assert_eq!(similar("CIPHERSUITE"), Some("CIPHERSUITES"));
        assert_eq!((similar("DENYFROM"), similar("OTHER")), (Some("DENY_FROM"), None));
    }

    #[test]
    fn a_policy_that_lets_nobody_in_is_noticed() {
        let text = "nobody may connect: the policy is 'deny' and ALLOW_FROM is empty";
        assert_eq!(examine("POLICY=deny\n"), [finding(1, "POLICY", text)]);
        assert_eq!(examine("POLICY=deny\nALLOW_FROM=10.0.0.1\n"), []);
    }

    #[test]
    fn a_file_that_breaks_is_noticed() {
        let found = examine("MAX_WORKERS=4\nif then\n");
        assert!(
            matches!(found.as_slice(), [(Some(2), key, text)] if key.is_empty() && text.contains("syntax error")),
            "{found:?}"
        );
    }
}
