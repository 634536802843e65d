//! qmeventd

fn main() {}
