//! pve-task
