//! pve-qemu
