//! Bringing a VM up (reference 06b §6.1).

pub mod timeout;
