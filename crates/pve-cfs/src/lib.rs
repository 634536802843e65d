//! pve-cfs
