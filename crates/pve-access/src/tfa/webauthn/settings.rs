//! Who asks: the option `webauthn` of `datacenter.cfg`.

use std::time::Duration;

use pve_cfs::{Cfs, Datacenter};
use pve_schema::Context;
use url::Url;
use webauthn_rs_core::WebauthnCore;

use super::super::attempts::LIFETIME;
use crate::error::AccessError;

/// This cluster, as keys know it.
#[derive(Debug)]
pub struct RelyingParty(pub(super) WebauthnCore);

impl RelyingParty {
    /// The option as it is now; `None` if it is not set, or makes no sense. Without an origin in it, that is the host
    /// which the request was sent to.
    ///
    /// # Errors
    /// The option cannot be read.
    pub fn of(context: &Context, host: Option<&str>) -> Result<Option<Self>, AccessError> {
        let datacenter = Datacenter::read(&Cfs::new(context))?;
        let option = datacenter.properties("webauthn");
        let (Some(name), Some(id)) = (option.get("rp"), option.get("id")) else {
            return Ok(None);
        };
        let origin = match option.get("origin") {
            Some(origin) => origin.to_owned(),
            None => format!("https://{}", host.unwrap_or_default()),
        };
        let Ok(url) = Url::parse(&origin) else {
            log::warn!("webauthn: {origin:?} is no origin - check 'webauthn' in datacenter.cfg");
            return Ok(None);
        };
        let subdomains = option.flag("allow-subdomains").unwrap_or(true);
        Ok(Some(Self::new(name, id, url, subdomains)))
    }

    /// A relying party of some name, known to keys as `id`, whose pages are at `origin`, or below its host as well.
    pub fn new(name: &str, id: &str, origin: Url, allow_subdomains: bool) -> Self {
        let timeout = Duration::from_secs(LIFETIME.unsigned_abs());
        let (subdomains, any_port) = (Some(allow_subdomains), Some(false));
        Self(WebauthnCore::new_unsafe_experts_only(
            name,
            id,
            vec![origin],
            timeout,
            subdomains,
            any_port,
        ))
    }
}
