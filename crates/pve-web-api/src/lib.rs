//! pve-web-api
