//! Terminals in a browser, for one client: as text, which xterm.js speaks, and as pictures, which noVNC and other VNC
//! viewers do (reference 01 §4.5, 09 §19). The two differ only in the protocol.
//!
//! ```text
//!  browser ──websocket──▶ pveproxy ──TCP, loopback──▶ task: serve ──▶ pty of a shell, or a guest's serial port
//!                          ticket                      ticket again (pinned, then checked with the user's rights)
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`frames`] | what the client sends: keystrokes, sizes, pings |
//! | [`session`] | one client: its ticket, and then bytes both ways |
//! | [`rfb`] | one client of the other kind: its password, an emulated terminal, and pictures of it |
//! | `sides` | reading and writing without being held up |
//! | [`shell`] | a shell of the node as the other side |
//!
//! Serial ports of VMs are the other side in `pve_qemu::console::serial`.

pub mod frames;
pub mod rfb;
pub mod session;
pub mod shell;
mod sides;

pub use pve_sys::pty::Size;
pub use session::{Backend, Pass, TerminalError, serve};
pub use shell::{Errand, Place, Shell, ShellScreen};
