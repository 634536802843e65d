//! pve-daemon
