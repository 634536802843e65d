//! Why keys and certificates could not be made.

use pve_cfs::CfsError;
use pve_schema::Failure;

/// Why keys and certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A file below `/etc/pve`.
    #[error(transparent)]
    Cfs(#[from] CfsError),
    /// The key pair that tickets are signed with.
    #[error(transparent)]
    TicketKey(#[from] pve_access::AccessError),
    /// Too few nodes see each other.
    #[error("no quorum - unable to update files")]
    NoQuorum,
    /// The cryptographic library refused.
    #[error("unable to generate key or certificate: {0}")]
    Crypto(String),
    /// A key file holds no RSA key that can be used.
    #[error("unable to read private key '{0}'")]
    BadKey(String),
    /// The CA's certificate does not parse.
    #[error("unable to read CA certificate '{0}'")]
    BadAuthority(String),
    /// The serial file holds no hexadecimal number.
    #[error("unable to read serial number from '{0}'")]
    BadSerial(String),
    /// Certificates of this CA would end too soon (reference 04 §7.3).
    #[error("CA expires in less than 2 weeks, unable to generate certificate.")]
    AuthorityExpires,
}

impl Failure for NodeError {}

impl From<rcgen::Error> for NodeError {
    fn from(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}
