//! Why a request is refused before any handler sees it (reference 01 §3.2, §3.11, §4.4).
//!
//! These answers have no format: the message is the reason phrase and the body.

use http::StatusCode;

/// Why a request is refused by the HTTP layer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// A method other than GET, POST, PUT, DELETE.
    #[error("method '{0}' not available")]
    Method(String),
    /// The body's length is not announced.
    #[error("chunked transfer encoding not supported")]
    Chunked,
    /// A transfer encoding that nobody knows.
    #[error("Unknown transfer encoding '{0}'")]
    TransferEncoding(String),
    /// More header bytes than the limit.
    #[error("request header too large")]
    HeadTooLarge,
    /// A redirect needs a `Host` header to point to.
    #[error("bad request")]
    NoHost,
    /// Below `/api2`, but no API path.
    #[error("no such uri")]
    NoSuchUri,
    /// No page and no file.
    #[error("no such file '{0}'\n")]
    NoSuchFile(String),
    /// A directory where a file is wanted.
    #[error("unable to open file '{0}' because it is a directory\n")]
    IsDirectory(String),
    /// A file that is not there, or not to be read. The path is the URL's: where that is on this machine is our matter.
    #[error("unable to open file '{path}' - {reason}\n")]
    OpenFile {
        /// The URL's path.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A file whose ending says nothing.
    #[error("unable to detect content type\n")]
    UnknownType,
    /// A format that nobody knows.
    #[error("no formatter for uri {uri}, {format}")]
    NoFormatter {
        /// The path after `/api2/FORMAT`.
        uri: String,
        /// The format.
        format: String,
    },
    /// GET and DELETE carry their parameters in the query.
    #[error("Unexpected content for method '{0}'")]
    UnexpectedContent(&'static str),
    /// The body exceeds the limit.
    #[error("for data too large")]
    TooLarge,
    /// The same user's other large bodies take all the room that there is for them.
    #[error("too many large requests at once")]
    Busy,
    /// The body's type is none we decode (the unbalanced quote is upstream's).
    #[error("upload 'Content-Type '{0}' not implemented")]
    ContentType(String),
    /// The JSON body is no JSON object.
    #[error(transparent)]
    Json(pve_schema::decode::BodyError),
    /// An upload must announce its length.
    #[error("Length Required")]
    LengthRequired,
    /// An upload must be multipart.
    #[error("upload 'Content-Type '{0}' not implemented")]
    NotMultipart(String),
    /// The file's field has another name.
    #[error("wrong field name '{0}' for file upload, expected 'filename'")]
    FieldName(String),
    /// A field that the upload does not have.
    #[error("unexpected field '{0}' in upload")]
    UnknownField(String),
    /// The name of the spooled file is ours to choose.
    #[error("parameter 'tmpfilename' is not allowed in an upload")]
    TmpFileName,
    /// The multipart body is broken or ends early.
    #[error("upload failed")]
    Upload,
    /// The spool directory is full or not writable.
    #[error("unable to write upload: {0}")]
    Spool(String),
    /// The client wants another protocol than websocket.
    #[error("unable to upgrade to protocol '{0}'")]
    UpgradeProtocol(String),
    /// Another version of the websocket protocol.
    #[error("unsupported websocket-version '{0}'")]
    WebsocketVersion(String),
    /// The handshake lacks its key.
    #[error("missing websocket-key")]
    WebsocketKey,
    /// The console's own end cannot be reached.
    #[error("connect to '{target}' failed: {reason}")]
    Backend {
        /// The address, as clients know it.
        target: String,
        /// What the system said.
        reason: String,
    },
    /// The request target is no path that can be passed on.
    #[error("invalid proxy uri")]
    ProxyUri,
    /// The client is gone or silent: there is nobody to answer.
    #[error("{0}")]
    Vanished(&'static str),
}

impl Refusal {
    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        let code = match self {
            Self::NoHost | Self::Json(_) | Self::UnknownField(_) | Self::TmpFileName | Self::ProxyUri => 400,
            Self::LengthRequired => 411,
            Self::HeadTooLarge => 431,
            Self::Busy => 503,
            Self::NoSuchFile(_)
            | Self::IsDirectory(_)
            | Self::OpenFile { .. }
            | Self::UnknownType
            | Self::FieldName(_)
            | Self::Upload
            | Self::Spool(_)
            | Self::UpgradeProtocol(_)
            | Self::WebsocketVersion(_)
            | Self::WebsocketKey
            | Self::Backend { .. }
            | Self::Vanished(_) => 500,
            Self::Method(_)
            | Self::Chunked
            | Self::TransferEncoding(_)
            | Self::NoSuchUri
            | Self::NoFormatter { .. }
            | Self::UnexpectedContent(_)
            | Self::TooLarge
            | Self::NotMultipart(_) => 501,
            Self::ContentType(_) => 506,
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body: the message, except that an unknown method gets none.
    pub(crate) fn body(&self) -> String {
        match self {
            Self::Method(_) => String::new(),
            _ => self.to_string(),
        }
    }
}
