//! pve-access
