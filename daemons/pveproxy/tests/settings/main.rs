//! Every setting of `/etc/default/pveproxy` through real sockets: the daemon as it is installed – `/`, port 8006, all
//! addresses – in a root directory and a network of its own. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

mod answers;
mod check;
mod life;
mod listening;
mod node;
mod tls;
