//! A file upload is spooled into a file of its own before the call is dispatched (reference 01 §3.11).
//!
//! `POST /nodes/{node}/storage/{storage}/upload` carries an image of any size. It streams to
//! `/var/tmp/pveupload-<32 hex digits>` with constant memory; the call then goes on as an ordinary one whose parameters
//! name the file. The file goes away unless the handler took it over.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use hyper::body::Incoming;
use pve_schema::Site;
use serde_json::{Map, Value};

use crate::head::joined;
use crate::multipart::{self, Event, Malformed, Parser};
use crate::params::{content_length, next_chunk};
use crate::refusal::Refusal;

/// Where uploads are spooled: both sides may use it, and it is on a disk, unlike `/tmp`.
const SPOOL: &str = "/var/tmp/pveupload-";
/// Bytes gathered before they are written: few system calls, little memory.
const WRITE_SIZE: usize = 1 << 20;
/// Most bytes of all small fields together.
const MAX_FIELDS: usize = 64 * 1024;
/// The small fields of an upload.
const FIELDS: [&str; 3] = ["content", "checksum-algorithm", "checksum"];
/// The field of the file.
const FILE_FIELD: &str = "filename";
/// The parameter that tells the handler where the file is.
const TMP_FIELD: &str = "tmpfilename";

/// A received upload.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The parameters of the call that goes on.
    pub(crate) params: Map<String, Value>,
    /// The file, if one came.
    pub(crate) spool: Option<SpoolFile>,
}

/// A spooled file; it is removed when this is dropped, unless it was handed over.
#[derive(Debug)]
pub(crate) struct SpoolFile {
    /// The built-in path, as the parameter carries it.
    name: String,
    path: PathBuf,
    file: Option<File>,
}

impl SpoolFile {
    /// Creates a file that nobody could have put there before.
    fn create(site: &Site) -> io::Result<Self> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let name = format!("{SPOOL}{}", hex::encode(random));
        let path = site.path(&name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Self {
            name,
            path,
            file: Some(file),
        })
    }

    /// Leaves the file to its new owner.
    pub(crate) fn hand_over(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if self.path.as_os_str().is_empty() {
            return;
        }
        // A handler that moved the file away took it over in its own way.
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("unable to remove upload '{}': {error}", self.path.display());
        }
    }
}

/// Receives the body of an upload.
///
/// # Errors
/// The request is no upload, breaks the rules of one, or the client left.
pub(crate) async fn receive(
    site: &Site,
    query: &Map<String, Value>,
    headers: &HeaderMap,
    mut body: Incoming,
    idle: Duration,
) -> Result<Upload, Refusal> {
    if query.contains_key(TMP_FIELD) {
        return Err(Refusal::TmpFileName);
    }
    if content_length(headers).is_none() {
        return Err(Refusal::LengthRequired);
    }
    let declared = joined(headers, &CONTENT_TYPE);
    let boundary = multipart::boundary(&declared).ok_or_else(|| Refusal::NotMultipart(declared.clone()))?;
    let mut parser = Parser::new(boundary);
    let mut receiver = Receiver::default();
    while let Some(chunk) = next_chunk(&mut body, idle).await? {
        parser.feed(&chunk);
        while let Some(event) = parser.next_event().map_err(|Malformed| Refusal::Upload)? {
            receiver.take(site, event)?;
            receiver.write_if(WRITE_SIZE).await?;
        }
    }
    receiver.finish().await
}

/// What is being received.
#[derive(Debug)]
struct Receiver {
    params: Map<String, Value>,
    spool: Option<SpoolFile>,
    field: Option<Field>,
    pending: BytesMut,
    fields_size: usize,
    file_size: u64,
    started: Instant,
    ended: bool,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            params: Map::new(),
            spool: None,
            field: None,
            pending: BytesMut::new(),
            fields_size: 0,
            file_size: 0,
            started: Instant::now(),
            ended: false,
        }
    }
}

/// The part that is being received.
#[derive(Debug)]
enum Field {
    Small { name: String, value: Vec<u8> },
    File,
}

impl Receiver {
    fn take(&mut self, site: &Site, event: Event) -> Result<(), Refusal> {
        match event {
            Event::Part { name, filename } => {
                self.close_field();
                self.field = Some(self.open_field(site, name, filename)?);
            }
            Event::Data(data) => match &mut self.field {
                Some(Field::File) => {
                    self.file_size += data.len() as u64;
                    self.pending.extend_from_slice(&data);
                }
                Some(Field::Small { value, .. }) => {
                    self.fields_size += data.len();
                    if self.fields_size > MAX_FIELDS {
                        return Err(Refusal::TooLarge);
                    }
                    value.extend_from_slice(&data);
                }
                None => return Err(Refusal::Upload),
            },
            Event::End => {
                self.close_field();
                self.ended = true;
            }
        }
        Ok(())
    }

    fn open_field(&mut self, site: &Site, name: String, filename: Option<String>) -> Result<Field, Refusal> {
        match filename {
            None if FIELDS.contains(&name.as_str()) => Ok(Field::Small {
                name,
                value: Vec::new(),
            }),
            None => Err(Refusal::UnknownField(name)),
            Some(_) if name != FILE_FIELD => Err(Refusal::FieldName(name)),
            Some(_) if self.spool.is_some() => Err(Refusal::UnknownField(name)),
            Some(filename) => {
                let spool = SpoolFile::create(site).map_err(spool_error)?;
                self.params.insert(FILE_FIELD.into(), filename.into());
                self.params.insert(TMP_FIELD.into(), spool.name.clone().into());
                self.spool = Some(spool);
                Ok(Field::File)
            }
        }
    }

    fn close_field(&mut self) {
        if let Some(Field::Small { name, value }) = self.field.take() {
            let text = String::from_utf8_lossy(&value).trim().to_owned();
            self.params.insert(name, text.into());
        }
    }

    /// Writes what is pending once there is that much of it.
    async fn write_if(&mut self, enough: usize) -> Result<(), Refusal> {
        if self.pending.len() < enough || self.pending.is_empty() {
            return Ok(());
        }
        let Some(mut file) = self.spool.as_mut().and_then(|spool| spool.file.take()) else {
            return Ok(());
        };
        let mut bytes = std::mem::take(&mut self.pending);
        let written = tokio::task::spawn_blocking(move || {
            let outcome = file.write_all(&bytes);
            bytes.clear();
            outcome.map(|()| (file, bytes))
        });
        let (file, buffer) = written
            .await
            .map_err(io::Error::from)
            .and_then(|outcome| outcome)
            .map_err(spool_error)?;
        self.pending = buffer;
        if let Some(spool) = &mut self.spool {
            spool.file = Some(file);
        }
        Ok(())
    }

    async fn finish(mut self) -> Result<Upload, Refusal> {
        if !self.ended {
            return Err(Refusal::Upload);
        }
        self.write_if(0).await?;
        if let Some(spool) = &mut self.spool {
            spool.file = None;
            self.report();
        }
        Ok(Upload {
            params: self.params,
            spool: self.spool,
        })
    }

    fn report(&self) {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = self.file_size as f64 / seconds.max(0.000_1) / f64::from(1 << 20);
        let name = self.params.get(FILE_FIELD).and_then(Value::as_str).unwrap_or_default();
        log::info!(
            "multipart upload complete (size: {}B time: {seconds:.3}s rate: {rate:.2}MiB/s filename: {})",
            self.file_size,
            name.escape_default()
        );
    }
}

fn spool_error(error: io::Error) -> Refusal {
    Refusal::Spool(pve_schema::errno_text(&error))
}
