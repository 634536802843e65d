//! What lists and status pages show of VMs (reference 06b §4).
pub mod cpu;
pub mod monitor;
pub mod traffic;
