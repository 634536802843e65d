//! pve-lab

fn main() {}
