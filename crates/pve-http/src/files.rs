//! The static files of a web interface and its documentation (reference 01 §3.5).
//!
//! A request names a directory that was there when the daemon started, and a file in it; so nothing in a path can lead
//! elsewhere. What a link leads to is sent if it is below `/usr/share` too, where packages put files for everybody – the
//! fonts of a web interface, for one, are links to the system's. Files are read while they are sent; nothing is cached but
//! by the client, which asks by `If-Modified-Since`.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, IF_MODIFIED_SINCE, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use nix::fcntl::OFlag;
use pve_schema::{Site, errno_text};
use tokio::task::spawn_blocking;

use crate::answer::{Answer, Payload};
use crate::compress::{COMPRESS_FROM, Packing};
use crate::refusal::Refusal;
use crate::stream;

/// Whatever is sent is below this directory.
const BASE: &str = "/usr/share";
/// What is where: the prefix of a URL, and its directory below [`BASE`], with all that is below it.
const ALIASES: [(&str, &str); 18] = [
    ("/bootstrap5/", "bootstrap-html"),
    ("/novnc/", "novnc-pve"),
    ("/pve-docs/", "pve-docs"),
    ("/pve-docs/api-viewer/extjs/", "javascript/extjs"),
    ("/pve2/css/", "pve-manager/css"),
    ("/pve2/ext6/", "javascript/extjs"),
    ("/pve2/fa/css/", "fonts-font-awesome/css"),
    ("/pve2/fa/fonts/", "fonts-font-awesome/fonts"),
    ("/pve2/font-logos/", "fonts-font-logos"),
    ("/pve2/images/", "pve-manager/images"),
    ("/pve2/js/", "pve-manager/js"),
    ("/pve2/locale/", "pve-i18n"),
    ("/pwt/css/", "javascript/proxmox-widget-toolkit/css"),
    ("/pwt/images/", "javascript/proxmox-widget-toolkit/images"),
    ("/pwt/themes/", "javascript/proxmox-widget-toolkit/themes"),
    ("/xtermjs/", "pve-xtermjs"),
    ("/yew-mobile/", "pve-yew-mobile-gui"),
    ("/yew-mobile/i18n/", "pve-yew-mobile-i18n"),
];
/// Files with a URL of their own.
const SINGLE: [(&str, &str); 3] = [
    ("/favicon.ico", "pve-manager/images/favicon.ico"),
    ("/proxmoxlib.js", "javascript/proxmox-widget-toolkit/proxmoxlib.js"),
    ("/qrcode.min.js", "javascript/qrcodejs/qrcode.min.js"),
];
/// What a file is, by its ending, and whether it shrinks when it is compressed.
const TYPES: [(&str, &str, bool); 21] = [
    ("css", "text/css", true),
    ("html", "text/html", true),
    ("js", "application/javascript", true),
    ("json", "application/json", true),
    ("map", "application/json", true),
    ("svg", "image/svg+xml", true),
    ("wasm", "application/wasm", true),
    ("mo", "application/x-gettext-translation", true),
    ("png", "image/png", false),
    ("ico", "image/x-icon", false),
    ("gif", "image/gif", false),
    ("jar", "application/java-archive", false),
    ("woff", "application/font-woff", false),
    ("woff2", "application/font-woff2", false),
    ("ttf", "application/font-snft", false),
    ("pdf", "application/pdf", false),
    ("epub", "application/epub+zip", false),
    ("mp3", "audio/mpeg", false),
    ("oga", "audio/ogg", false),
    ("tgz", "application/x-compressed-tar", false),
    ("gz", "application/gzip", false),
];
/// Most directories of one alias: documentation has a few hundred.
const MAX_DIRECTORIES: usize = 4096;
/// Most of a page's template that is read; those that there are have a few KiB.
const MAX_TEMPLATE: u64 = 1 << 20;
/// Files up to this size are sent from memory.
const WHOLE: u64 = 64 * 1024;

/// Which directories there are.
#[derive(Debug, Default)]
pub struct Files {
    /// `/usr/share` of the site, without links.
    base: PathBuf,
    /// By the prefix of the URL, with a slash at the end.
    directories: HashMap<String, PathBuf>,
}

/// A file to send.
struct Found {
    file: File,
    length: u64,
    /// Seconds since the Unix epoch.
    modified: Option<u64>,
}

impl Files {
    /// Looks which directories there are; what is made later is served after a reload. Most are missing where no
    /// interface is installed.
    pub fn scan(site: &Site) -> Self {
        let Ok(base) = fs::canonicalize(site.path(BASE)) else {
            return Self::default();
        };
        let mut files = Self {
            base,
            directories: HashMap::new(),
        };
        for (prefix, directory) in ALIASES {
            files.add(prefix, directory);
        }
        files
    }

    /// Adds a directory and all below it.
    fn add(&mut self, prefix: &str, directory: &str) {
        let mut seen = HashSet::new();
        let mut next = vec![(prefix.to_owned(), self.base.join(directory))];
        while let Some((prefix, directory)) = next.pop() {
            let Ok(real) = fs::canonicalize(&directory) else {
                log::debug!("static directory '{}' is not there", directory.display());
                continue;
            };
            if !real.is_dir() || !real.starts_with(&self.base) || !seen.insert(real.clone()) {
                continue;
            }
            if seen.len() > MAX_DIRECTORIES {
                log::warn!("'{}' has too many directories, not all are served", directory.display());
                return;
            }
            let entries = fs::read_dir(&real).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| entry.path().is_dir()) {
                if let Some(name) = entry.file_name().to_str() {
                    next.push((format!("{prefix}{name}/"), entry.path()));
                }
            }
            self.directories.insert(prefix, real);
        }
    }

    /// Where the file of a path would be.
    fn place(&self, path: &str) -> Option<PathBuf> {
        if let Some((_, file)) = SINGLE.iter().find(|(url, _)| *url == path) {
            return self.below(file);
        }
        let (prefix, name) = path.split_at(path.rfind('/')? + 1);
        let is_name = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || !name.bytes().all(is_name) {
            return None;
        }
        Some(self.directories.get(prefix)?.join(name))
    }

    /// The template of a page, in a directory below `/usr/share`: read each time, so that what was installed just now is
    /// there. `None` where there is none.
    pub(crate) fn template(&self, directory: &str) -> Option<String> {
        let path = format!("{directory}/index.html.tpl");
        let file = self.own(&path)?;
        let mut text = String::new();
        match file.take(MAX_TEMPLATE).read_to_string(&mut text) {
            Ok(_) => Some(text),
            Err(error) => {
                log::error!("unable to read '{BASE}/{path}' - {}", errno_text(&error));
                None
            }
        }
    }

    /// When something below `/usr/share` was changed.
    pub(crate) fn modified(&self, path: &str) -> Option<SystemTime> {
        fs::metadata(self.below(path)?).ok()?.modified().ok()
    }

    /// How a file below `/usr/share` begins.
    pub(crate) fn first_bytes(&self, path: &str, length: u64) -> Option<String> {
        let mut bytes = Vec::new();
        self.own(path)?.take(length).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// A path below `/usr/share`, if there is such a directory.
    fn below(&self, path: &str) -> Option<PathBuf> {
        (!self.base.as_os_str().is_empty()).then(|| self.base.join(path))
    }

    /// A regular file below `/usr/share`, opened.
    fn own(&self, path: &str) -> Option<File> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let file = options.open(self.below(path)?).ok()?;
        let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
        (is_file && self.holds(&file)).then_some(file)
    }

    /// Opens the file of a path.
    fn open(&self, path: &str) -> Result<Found, Refusal> {
        let missing = || Refusal::NoSuchFile(path.to_owned());
        let refused = |error: io::Error| Refusal::OpenFile {
            path: path.to_owned(),
            reason: errno_text(&error),
        };
        let place = self.place(path).ok_or_else(missing)?;
        // A pipe that lies there must not make anybody wait.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(&place);
        let file = match opened {
            Err(_) if SINGLE.iter().any(|(url, _)| *url == path) => return Err(missing()),
            opened => opened.map_err(refused)?,
        };
        let metadata = file.metadata().map_err(refused)?;
        if metadata.is_dir() {
            return Err(Refusal::IsDirectory(path.to_owned()));
        }
        if !metadata.is_file() || !self.holds(&file) {
            return Err(missing());
        }
        let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).ok();
        Ok(Found {
            file,
            length: metadata.len(),
            modified: metadata.modified().ok().and_then(since).map(|since| since.as_secs()),
        })
    }

    /// Whether what was opened is where it may be, wherever links have led.
    fn holds(&self, file: &File) -> bool {
        let real = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
        real.is_ok_and(|real| real.starts_with(&self.base))
    }
}

/// Sends the file of a path.
///
/// # Errors
/// There is none that may be sent.
pub(crate) async fn answer(
    files: &Arc<Files>,
    path: String,
    headers: &HeaderMap,
    accept_encoding: Option<&str>,
) -> Result<Answer, Refusal> {
    let (own, shown) = (Arc::clone(files), path.clone());
    let opened = spawn_blocking(move || own.open(&shown)).await;
    let found = opened.unwrap_or_else(|_| Err(Refusal::NoSuchFile(path.clone())))?;
    let (content_type, shrinks) = content_type(&path).ok_or(Refusal::UnknownType)?;
    let date = found
        .modified
        .map(|modified| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(modified)));
    let dated = |answer: Answer| match &date {
        Some(date) => answer.with_header(LAST_MODIFIED, date),
        None => answer,
    };
    if found.modified.is_some_and(|modified| is_known(headers, modified)) {
        return Ok(dated(Answer::new(StatusCode::NOT_MODIFIED, "NOT MODIFIED")));
    }
    let answer = dated(Answer::new(StatusCode::OK, "").with_type(content_type));
    let packing = Packing::accepted(accept_encoding).filter(|_| shrinks && found.length > COMPRESS_FROM as u64);
    if found.length <= WHOLE {
        return whole(answer, found, packing, path).await;
    }
    let reader = found.file.take(found.length);
    Ok(match packing {
        Some(packing) => answer
            .with_header(CONTENT_ENCODING, packing.name())
            .with_body(Payload::Stream(stream::body(packing.reader(reader)), None)),
        None => answer.with_body(Payload::Stream(stream::body(Box::new(reader)), Some(found.length))),
    })
}

/// A small file, read and compressed at once.
async fn whole(answer: Answer, found: Found, packing: Option<Packing>, path: String) -> Result<Answer, Refusal> {
    let read = spawn_blocking(move || {
        let mut bytes = Vec::new();
        found.file.take(WHOLE).read_to_end(&mut bytes)?;
        match packing {
            Some(packing) => packing.pack(&bytes),
            None => Ok(Bytes::from(bytes)),
        }
    });
    let outcome = read.await.map_err(io::Error::from).and_then(|outcome| outcome);
    let bytes = outcome.map_err(|error| Refusal::OpenFile {
        path,
        reason: errno_text(&error),
    })?;
    let mut answer = match packing {
        Some(packing) => answer.with_header(CONTENT_ENCODING, packing.name()),
        None => answer,
    };
    answer.incompressible = true;
    Ok(answer.with_body(Payload::Whole(bytes)))
}

/// Whether the client has what was modified then.
fn is_known(headers: &HeaderMap, modified: u64) -> bool {
    let value = headers.get(IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
    let since = value.and_then(|value| httpdate::parse_http_date(value).ok());
    since.is_some_and(|since| UNIX_EPOCH + Duration::from_secs(modified) <= since)
}

/// What a file is, and whether it shrinks.
fn content_type(path: &str) -> Option<(&'static str, bool)> {
    let ending = Path::new(path).extension()?.to_str()?;
    let found = TYPES.iter().find(|(known, _, _)| *known == ending);
    found.map(|(_, content_type, shrinks)| (*content_type, *shrinks))
}
