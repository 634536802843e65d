//! pve-storage
