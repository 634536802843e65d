//! Which node is asked, as whom, and how it is known: the options that stand before the command.

use std::fs;
use std::io::Read as _;
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use pve_fetch::Trust;
use pve_schema::errno_text;

/// The environment variable of the token.
pub(crate) const TOKEN_VARIABLE: &str = "PVE_API_TOKEN";
/// The port of `pveproxy`.
const PORT: u16 = 8006;
/// Most bytes of a token's file.
const MAX_TOKEN: u64 = 4096;

/// The options as they are typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    /// `https://HOST[:PORT]`
    pub(crate) remote: Option<String>,
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) fingerprint: Option<String>,
    pub(crate) insecure: bool,
}

/// What is wrong with them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("--{0} is for --remote")]
    WithoutRemote(&'static str),
    #[error("--ca-file, --fingerprint and --insecure exclude each other")]
    SeveralTrusts,
    #[error("--remote '{0}' is no https://HOST[:PORT]")]
    Url(String),
    #[error(
        "no token: put USER@REALM!TOKENID=SECRET into the environment as {TOKEN_VARIABLE}, or use --token-file FILE"
    )]
    NoToken,
    #[error("{0} holds no token: USER@REALM!TOKENID=SECRET is wanted")]
    BadToken(String),
    #[error("--fingerprint wants the SHA-256 of a certificate: 64 hexadecimal digits, with or without colons")]
    Fingerprint,
    #[error("unable to read '{}' - {}", .path.display(), errno_text(.error))]
    File { path: PathBuf, error: std::io::Error },
}

/// A node to ask.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// `https://HOST:PORT`
    pub(crate) base: String,
    /// Host and port.
    pub(crate) server: String,
    pub(crate) token: String,
    pub(crate) trust: Trust,
}

impl Connection {
    /// The options by their names, and whether they take a value.
    pub(crate) const OPTIONS: [(&'static str, bool); 5] = [
        ("ca-file", true),
        ("fingerprint", true),
        ("insecure", false),
        ("remote", true),
        ("token-file", true),
    ];

    /// Takes an option, a boolean one as `1` or `0`; whether it is one of these.
    pub(crate) fn set(&mut self, name: &str, value: String) -> bool {
        match name {
            "ca-file" => self.ca_file = Some(value.into()),
            "fingerprint" => self.fingerprint = Some(value),
            "insecure" => self.insecure = value == "1",
            "remote" => self.remote = Some(value),
            "token-file" => self.token_file = Some(value.into()),
            _ => return false,
        }
        true
    }

    /// The node, unless it is this one.
    ///
    /// # Errors
    /// Options that do not fit each other, files that cannot be read, no token.
    pub(crate) fn target(&self, variable: Option<String>) -> Result<Option<Target>, ConnectError> {
        let Some(remote) = &self.remote else {
            let given = [
                ("token-file", self.token_file.is_some()),
                ("ca-file", self.ca_file.is_some()),
                ("fingerprint", self.fingerprint.is_some()),
                ("insecure", self.insecure),
            ];
            let first = given.into_iter().find(|(_, is_given)| *is_given);
            return first.map_or(Ok(None), |(name, _)| Err(ConnectError::WithoutRemote(name)));
        };
        let server = server(remote).ok_or_else(|| ConnectError::Url(remote.clone()))?;
        Ok(Some(Target {
            base: format!("https://{server}"),
            server,
            token: self.token(variable)?,
            trust: self.trust()?,
        }))
    }

    fn trust(&self) -> Result<Trust, ConnectError> {
        match (&self.ca_file, &self.fingerprint, self.insecure) {
            (None, None, false) => Ok(Trust::System),
            (Some(path), None, false) => Ok(Trust::Authority(read(path, u64::MAX)?)),
            (None, Some(text), false) => digest(text).map(Trust::Fingerprint).ok_or(ConnectError::Fingerprint),
            (None, None, true) => Ok(Trust::Anybody),
            _ => Err(ConnectError::SeveralTrusts),
        }
    }

    fn token(&self, variable: Option<String>) -> Result<String, ConnectError> {
        let (text, source) = match (&self.token_file, variable) {
            (Some(path), _) => {
                warn_of_readers(path);
                let text = String::from_utf8(read(path, MAX_TOKEN)?).unwrap_or_default();
                (text, format!("'{}'", path.display()))
            }
            (None, Some(text)) => (text, TOKEN_VARIABLE.to_owned()),
            (None, None) => return Err(ConnectError::NoToken),
        };
        let line = text.lines().next().unwrap_or_default().trim();
        // As it stands in a header, whoever copied it from there.
        let token = line.strip_prefix("PVEAPIToken=").unwrap_or(line);
        let is_token = token
            .split_once('!')
            .is_some_and(|(user, rest)| user.contains('@') && rest.contains('='))
            && token.bytes().all(|byte| byte.is_ascii_graphic());
        if is_token {
            Ok(token.to_owned())
        } else {
            Err(ConnectError::BadToken(source))
        }
    }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, ConnectError> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut bytes));
    match opened {
        Ok(_) => Ok(bytes),
        Err(error) => Err(ConnectError::File {
            path: path.to_owned(),
            error,
        }),
    }
}

/// A secret that every user of the host can read is none.
fn warn_of_readers(path: &Path) {
    let mode = fs::metadata(path).map_or(0, |info| info.permissions().mode());
    if mode & 0o044 != 0 {
        eprintln!("warning: others may read '{}': chmod 600 it", path.display());
    }
}

/// Host and port of a URL, or of its end.
fn server(remote: &str) -> Option<String> {
    let rest = match remote.split_once("://") {
        Some(("https", rest)) => rest,
        Some(_) => return None,
        None => remote,
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (host, port) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (address, behind) = inner.split_once(']')?;
            let port = match behind {
                "" => None,
                behind => Some(behind.strip_prefix(':')?),
            };
            (in_brackets(address)?, port)
        }
        None if rest.matches(':').count() > 1 => (in_brackets(rest)?, None),
        None => match rest.split_once(':') {
            Some((name, port)) => (host_name(name)?, Some(port)),
            None => (host_name(rest)?, None),
        },
    };
    let port: u16 = match port {
        Some(port) => port.parse().ok()?,
        None => PORT,
    };
    Some(format!("{host}:{port}"))
}

fn in_brackets(address: &str) -> Option<String> {
    let address: Ipv6Addr = address.parse().ok()?;
    Some(format!("[{address}]"))
}

/// A name or an IPv4 address.
fn host_name(name: &str) -> Option<String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
    (!name.is_empty() && name.bytes().all(fits)).then(|| name.to_owned())
}

fn digest(text: &str) -> Option<[u8; 32]> {
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b':').collect();
    let mut digest = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(words: &[(&str, &str)]) -> Connection {
        let mut connection = Connection::default();
        for (name, value) in words {
            assert!(connection.set(name, (*value).to_owned()), "{name}");
        }
        connection
    }

    #[test]
    fn servers_have_a_port() {
        for (text, expected) in [
            ("https://n1.example", "n1.example:8006"),
            ("https://n1.example:443/", "n1.example:443"),
            ("192.0.2.1", "192.0.2.1:8006"),
            ("n1:18006", "n1:18006"),
            ("https://[2001:db8::1]", "[2001:db8::1]:8006"),
            ("https://[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("2001:db8::1", "[2001:db8::1]:8006"),
        ] {
            assert_eq!(server(text).as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            "http://n1",
            "https://",
            "https://n1:x",
            "https://n1/api2",
            "https://u@n1",
            "a b",
            "[::1",
            // The token must not go to a place that nobody typed.
            "https://[::1]443",
            "https://[::1]/api2",
            "https://[2001:db8::1].x.example:443",
            "https://[::1]:",
            "a]b",
            "[n1]",
        ] {
            assert_eq!(server(text), None, "{text}");
        }
    }

    #[test]
    fn tokens_come_by_file_or_environment() {
        let remote = connection(&[("remote", "n1")]);
        let token = |connection: &Connection, variable: Option<&str>| {
            let target = connection.target(variable.map(str::to_owned));
            target
                .map(|target| target.unwrap().token)
                .map_err(|error| error.to_string())
        };
        assert_eq!(
            token(&remote, Some("root@pam!ci=uuid\n")),
            Ok("root@pam!ci=uuid".to_owned())
        );
        assert_eq!(
            token(&remote, Some("PVEAPIToken=a@pve!b=c")),
            Ok("a@pve!b=c".to_owned())
        );
        assert!(token(&remote, None).unwrap_err().contains("PVE_API_TOKEN"));
        for text in ["", "secret", "root@pam=x", "root!ci=x", "root@pam!ci", "root@pam!c i=x"] {
            let said = token(&remote, Some(text)).unwrap_err();
            assert_eq!(
                said, "PVE_API_TOKEN holds no token: USER@REALM!TOKENID=SECRET is wanted",
                "{text}"
            );
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "root@pam!file=s\nmore\n").unwrap();
        let remote = connection(&[("remote", "n1"), ("token-file", path.to_str().unwrap())]);
        assert_eq!(token(&remote, Some("x")), Ok("root@pam!file=s".to_owned()));
        fs::remove_file(&path).unwrap();
        assert!(token(&remote, None).unwrap_err().ends_with("No such file or directory"));
    }

    #[test]
    fn one_way_to_know_the_server_is_chosen() {
        let variable = || Some("root@pam!ci=x".to_owned());
        let trust = |words: &[(&str, &str)]| {
            let target = connection(&[&[("remote", "n1")], words].concat()).target(variable());
            target
                .map(|target| target.unwrap().trust)
                .map_err(|error| error.to_string())
        };
        assert_eq!(trust(&[]), Ok(Trust::System));
        assert_eq!(trust(&[("insecure", "1")]), Ok(Trust::Anybody));
        let digest = "AB:".repeat(31) + "ab";
        assert_eq!(trust(&[("fingerprint", &digest)]), Ok(Trust::Fingerprint([0xab; 32])));
        assert!(trust(&[("fingerprint", "AB:CD")]).is_err());
        assert!(trust(&[("fingerprint", &digest), ("insecure", "1")]).is_err());
        let alone = connection(&[("fingerprint", "x")]).target(None);
        assert_eq!(alone.err().unwrap().to_string(), "--fingerprint is for --remote");
        assert!(Connection::default().target(None).unwrap().is_none());
    }
}
