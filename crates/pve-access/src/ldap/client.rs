//! A connection to a directory. Every wait has a deadline.
//!
//! The library that speaks the protocol panics, and may exhaust its stack, on answers that are none: this is for
//! processes of their own, a helper or a task (docs/decisions/0020-ldap.md).

use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use ldap3::controls::{ControlType, PagedResults, RawControl};
use ldap3::{LdapConn, LdapConnSettings, LdapResult, Scope, SearchEntry, StdStream};

use super::error::text;
use super::settings::{Directory, Mode, Proof, Searcher};
use super::{LdapError, tls};

/// Longest wait for a server: for the connection with its TLS, and for each answer (reference 02 §7.3).
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most entries of one search: more than any directory of users has, few enough for the memory of a task.
const MAX_ENTRIES: usize = 500_000;
/// What is asked for where no attribute is wanted (RFC 4511 §4.5.1.8).
const NO_ATTRIBUTES: [&str; 1] = ["1.1"];

/// A connection to one of a directory's servers.
pub(super) struct Connection {
    ldap: LdapConn,
    /// When all of it is to be over.
    until: Instant,
}

impl Connection {
    /// Connects to the first server that answers. What is then asked must be answered by `until`, too.
    pub(super) fn open(directory: &Directory, until: Instant) -> Result<Self, LdapError> {
        let mut failures = Vec::new();
        for server in &directory.servers {
            match connect(directory, server, wait(until)) {
                Ok(ldap) => return Ok(Self { ldap, until }),
                Err(reason) => {
                    let port = directory.port;
                    failures.push(format!("unable to connect to '{server}:{port}' - {reason}"));
                }
            }
        }
        Err(LdapError::Connect(failures))
    }

    /// The connection for one more request.
    fn next(&mut self) -> &mut LdapConn {
        self.ldap.with_timeout(wait(self.until));
        &mut self.ldap
    }

    /// Lets the server know who searches.
    pub(super) fn bind_searcher(&mut self, searcher: &Searcher) -> Result<(), LdapError> {
        let (dn, password) = match searcher {
            Searcher::Certificate => return Ok(()),
            Searcher::Anonymous => ("", ""),
            Searcher::Named { dn, password } => (dn.as_str(), password.as_str()),
        };
        self.bind(dn, password).map_err(LdapError::Bind)
    }

    fn bind(&mut self, dn: &str, password: &str) -> Result<(), String> {
        let result = self.next().simple_bind(dn, password);
        let result = result.and_then(LdapResult::success);
        result.map(|_| ()).map_err(|error| text(&error))
    }

    /// Whether a password is a user's.
    pub(super) fn prove(mut self, searcher: &Searcher, proof: &Proof, password: &str) -> Result<(), LdapError> {
        // Without a password or a name the bind would be an anonymous one, and succeed.
        if password.is_empty() {
            return Err(LdapError::Proof("no password".to_owned()));
        }
        let name = match proof {
            Proof::Name(name) => name.clone(),
            Proof::Entry { base, filter } => {
                self.bind_searcher(searcher)?;
                self.first(base, filter)?
            }
        };
        if name.is_empty() {
            return Err(LdapError::NoUser);
        }
        self.bind(&name, password).map_err(LdapError::Proof)
    }

    /// The name of the first entry that is found.
    fn first(&mut self, base: &str, filter: &str) -> Result<String, LdapError> {
        let result = self.next().search(base, Scope::Subtree, filter, NO_ATTRIBUTES);
        let found = result.map_err(|error| LdapError::Search(text(&error)))?;
        // Also of a search that ended early: its limit, say.
        if let Some(entry) = found.0.into_iter().next() {
            return Ok(SearchEntry::construct(entry).dn);
        }
        let result = found.1.success();
        result.map_err(|error| LdapError::Search(text(&error)))?;
        Err(LdapError::NoUser)
    }

    /// Where a directory keeps its entries, by its own word.
    pub(super) fn default_base(&mut self) -> Result<String, LdapError> {
        const ATTRIBUTE: &str = "defaultNamingContext";
        let entry = self.entry("", ATTRIBUTE)?;
        let base = entry.and_then(|entry| values(&entry, ATTRIBUTE).first().cloned());
        base.ok_or(LdapError::NoBase)
    }

    /// An attribute of one entry; `None` if there is no such entry to see.
    pub(super) fn entry(&mut self, dn: &str, attribute: &str) -> Result<Option<SearchEntry>, LdapError> {
        let search = Search {
            base: dn,
            filter: "(objectClass=*)",
            attributes: &[attribute],
            page: 1,
        };
        let mut entries = Vec::new();
        self.read(&search, Scope::Base, 1, &mut entries)?;
        Ok(entries.pop())
    }

    /// All entries that a filter finds, page by page; `told` hears how many there are after each.
    pub(super) fn search(
        &mut self,
        search: &Search<'_>,
        told: &mut dyn FnMut(usize),
    ) -> Result<Vec<SearchEntry>, LdapError> {
        let mut entries = Vec::new();
        let mut cookie = Vec::new();
        loop {
            let before = entries.len();
            let page = PagedResults {
                size: search.page,
                cookie,
            };
            self.ldap.with_controls(RawControl::from(page));
            let result = self.read(search, Scope::Subtree, MAX_ENTRIES, &mut entries)?;
            told(entries.len());
            cookie = next_page(&result);
            if cookie.is_empty() {
                return Ok(entries);
            }
            // Who asks on could do so for ever.
            if entries.len() == before {
                return Err(LdapError::EmptyPage);
            }
        }
    }

    /// Reads the entries of one answer as they come, while there are no more than `most` in all.
    fn read(
        &mut self,
        search: &Search<'_>,
        scope: Scope,
        most: usize,
        entries: &mut Vec<SearchEntry>,
    ) -> Result<LdapResult, LdapError> {
        let until = self.until;
        let failed = |error: ldap3::LdapError| LdapError::Search(text(&error));
        let stream = self
            .next()
            .streaming_search(search.base, scope, search.filter, search.attributes);
        let mut stream = stream.map_err(failed)?;
        while let Some(entry) = stream.next().map_err(failed)? {
            if Instant::now() > until {
                return Err(LdapError::Late);
            }
            // Where else one might look is not followed.
            if entry.is_ref() || entry.is_intermediate() {
                continue;
            }
            if entries.len() >= most {
                return Err(LdapError::TooMany(most));
            }
            entries.push(SearchEntry::construct(entry));
        }
        stream.result().success().map_err(failed)
    }
}

/// Longest wait for the next answer.
fn wait(until: Instant) -> Duration {
    TIMEOUT.min(until.saturating_duration_since(Instant::now()))
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search<'a> {
    /// Where.
    pub(super) base: &'a str,
    /// How to tell it (RFC 4515).
    pub(super) filter: &'a str,
    /// What is to be told of it.
    pub(super) attributes: &'a [&'a str],
    /// How many at a time.
    pub(super) page: i32,
}

/// What the server wants to be told to go on; nothing at the end.
fn next_page(result: &LdapResult) -> Vec<u8> {
    let control = result
        .ctrls
        .iter()
        .find(|control| matches!(control.0, Some(ControlType::PagedResults)));
    control.map_or_else(Vec::new, |control| control.1.parse::<PagedResults>().cookie)
}

/// The values of an attribute, in whatever case the server spells it.
pub(super) fn values<'a>(entry: &'a SearchEntry, name: &str) -> &'a [String] {
    let mut attributes = entry.attrs.iter();
    attributes
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map_or(&[], |(_, values)| values.as_slice())
}

fn connect(directory: &Directory, server: &str, timeout: Duration) -> Result<LdapConn, String> {
    let mut settings = LdapConnSettings::new().set_conn_timeout(timeout);
    if directory.mode != Mode::Ldap {
        let config = tls::config(&directory.tls, server).map_err(|error| error.to_string())?;
        settings = settings.set_config(config);
    }
    let mut host = server;
    // An address of version 6 is no name that the library can hand to TLS.
    if let Ok(address) = server.parse::<Ipv6Addr>() {
        let address = SocketAddr::from((address, directory.port));
        let stream = TcpStream::connect_timeout(&address, timeout).map_err(|error| error.to_string())?;
        settings = settings.set_std_stream(StdStream::Tcp(stream));
        host = "ipv6.invalid";
    }
    let scheme = match directory.mode {
        Mode::Ldaps => "ldaps",
        Mode::Ldap | Mode::StartTls => "ldap",
    };
    settings = settings.set_starttls(directory.mode == Mode::StartTls);
    let url = format!("{scheme}://{host}:{}", directory.port);
    LdapConn::with_settings(settings, &url).map_err(|error| text(&error))
}
