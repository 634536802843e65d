//! pvedaemon

fn main() {}
