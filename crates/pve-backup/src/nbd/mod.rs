//! The network block device protocol (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>), as far as
//! backups need it: fixed newstyle handshake, simple replies, no TLS, over unix sockets.
//!
//! | module | holds |
//! |---|---|
//! | [`wire`] | magic numbers, commands, flags and the shapes of messages, for either side |
//! | [`server`] | the side that QEMU's backup jobs write to: socket, connections |
//! | `handshake` | choosing an export |
//! | `transmission` | the commands of one connection |
//!
//! Why this is written here is told in `docs/decisions/0012-nbd.md`.

mod handshake;
pub mod server;
mod transmission;
pub mod wire;

pub use server::{Export, Server};
pub use transmission::{MAX_PIECE, Target};
