//! pve-sys
