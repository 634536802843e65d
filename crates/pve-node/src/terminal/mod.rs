//! Terminals in a browser: what xterm.js speaks, for one client (reference 01 §4.5, 09 §19).
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
//! | [`shell`] | a shell of the node as the other side |
//!
//! Serial ports of VMs are the other side in `pve_qemu::console::serial`.

pub mod frames;
pub mod session;
pub mod shell;

pub use pve_sys::pty::Size;
pub use session::{Backend, Pass, TerminalError, serve};
pub use shell::{Errand, Shell};
