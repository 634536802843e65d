//! pveproxy

fn main() {}
