//! pve-node
