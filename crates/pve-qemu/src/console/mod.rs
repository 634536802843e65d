//! Consoles of VMs (reference 06b §13): [`vnc`] and [`serial`] on a port of the node, SPICE by QEMU itself, which [`spice`]
//! asks to let a viewer in. Ports and relays are `pve_node::console`'s.

pub mod serial;
pub mod spice;
pub mod vnc;
