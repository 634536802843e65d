//! A connection to a directory. Every wait has a deadline.
//!
//! The library that speaks the protocol panics, and may exhaust its stack, on answers that are none: this is for
//! processes of their own, a helper or a task (docs/decisions/0020-ldap.md).

use std::net::{Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

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
pub(super) struct Connection(LdapConn);

impl Connection {
    /// Connects to the first server that answers.
    pub(super) fn open(directory: &Directory) -> Result<Self, LdapError> {
        let mut failures = Vec::new();
        for server in &directory.servers {
            match connect(directory, server) {
                Ok(connection) => return Ok(Self(connection)),
                Err(reason) => {
                    let port = directory.port;
                    failures.push(format!("unable to connect to '{server}:{port}' - {reason}"));
                }
            }
        }
        Err(LdapError::Connect(failures))
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
        let result = self.0.with_timeout(TIMEOUT).simple_bind(dn, password);
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
        let result = self
            .0
            .with_timeout(TIMEOUT)
            .search(base, Scope::Subtree, filter, NO_ATTRIBUTES);
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
        let result = self
            .0
            .with_timeout(TIMEOUT)
            .search(dn, Scope::Base, "(objectClass=*)", [attribute]);
        let (entries, _) = result
            .and_then(ldap3::SearchResult::success)
            .map_err(|error| LdapError::Search(text(&error)))?;
        Ok(entries.into_iter().next().map(SearchEntry::construct))
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
            let page = PagedResults {
                size: search.page,
                cookie,
            };
            let result = self
                .0
                .with_timeout(TIMEOUT)
                .with_controls(RawControl::from(page))
                .search(search.base, Scope::Subtree, search.filter, search.attributes);
            let (page, result) = result
                .and_then(ldap3::SearchResult::success)
                .map_err(|error| LdapError::Search(text(&error)))?;
            entries.extend(page.into_iter().map(SearchEntry::construct));
            if entries.len() > MAX_ENTRIES {
                return Err(LdapError::TooMany(MAX_ENTRIES));
            }
            told(entries.len());
            cookie = next_page(&result);
            if cookie.is_empty() {
                return Ok(entries);
            }
        }
    }
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

fn connect(directory: &Directory, server: &str) -> Result<LdapConn, String> {
    let mut settings = LdapConnSettings::new().set_conn_timeout(TIMEOUT);
    if directory.mode != Mode::Ldap {
        let config = tls::config(&directory.tls, server).map_err(|error| error.to_string())?;
        settings = settings.set_config(config);
    }
    let mut host = server;
    // An address of version 6 is no name that the library can hand to TLS.
    if let Ok(address) = server.parse::<Ipv6Addr>() {
        let address = SocketAddr::from((address, directory.port));
        let stream = TcpStream::connect_timeout(&address, TIMEOUT).map_err(|error| error.to_string())?;
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
