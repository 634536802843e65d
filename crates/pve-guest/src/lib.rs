//! pve-guest
