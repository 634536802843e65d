//! The network block device protocol (<https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md>), as far as
//! backups need it: fixed newstyle handshake, simple replies, no TLS, over unix sockets.
//!
//! | module | holds |
//! |---|---|
//! | [`wire`] | magic numbers, commands, flags and the shapes of messages, for either side |
//! | [`server`] | the side that QEMU's backup jobs write to: socket, connections |
//! | [`handshake`] | choosing an export |
//! | [`transmission`] | the commands of one connection |
//! | [`client`] | the side that writes to and reads from a server |
//! | [`image`] | an image file behind a `qemu-nbd` of its own |
//!
//! Why this is written here is told in `docs/decisions/0012-nbd.md`.

pub mod client;
pub mod handshake;
pub mod image;
pub mod server;
pub mod transmission;
pub mod wire;

pub use client::Client;
pub use image::{Access, Image};
pub use server::{Export, Server};
pub use transmission::{MAX_PIECE, Target};
