//! pve-http
