//! The server through real sockets: real handlers behind real ids of the contract, real users, tickets and tokens.

// Tests state what must hold.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod abuse;
mod calls;
mod connections;
mod door;
mod downloads;
mod files;
mod formats;
mod forwarding;
mod http2;
mod http2_abuse;
mod index;
mod nodes;
mod support;
mod tls;
mod tunnels;
mod uploads;
mod vectors;
mod websockets;
