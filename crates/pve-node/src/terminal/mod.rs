//! Terminals for one client: as text, which xterm.js speaks, and as pictures, for noVNC and other VNC viewers, and for
//! remote-viewer over SPICE (reference 01 §4.5, 09 §19). They differ only in the protocol.
//!
//! ```text
//!  browser ──websocket──▶ pveproxy ──TCP, loopback──▶ task: serve ──▶ pty of a shell, or a guest's serial port
//!                          ticket                      ticket again (pinned, then checked with the user's rights)
//!  remote-viewer ────────▶ spiceproxy ──TLS, loopback──▶ the same
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`frames`] | what the client sends: keystrokes, sizes, pings |
//! | [`session`] | one client: its ticket, and then bytes both ways |
//! | [`screen`] | an emulated terminal, pictures of it, and keys for it |
//! | [`rfb`] | one client that wants pictures by VNC: its password, and messages both ways |
//! | [`spice`] | the same by SPICE |
//! | `sides` | reading and writing without being held up |
//! | [`shell`] | a shell of the node as the other side |
//!
//! Serial ports of VMs are the other side in `pve_qemu::console::serial`.

pub mod frames;
pub mod rfb;
pub mod screen;
pub mod session;
pub mod shell;
mod sides;
pub mod spice;

pub use pve_sys::pty::Size;
pub use session::{Backend, Pass, TerminalError, serve};
pub use shell::{Errand, Place, Shell, ShellScreen, ShellSpice};
