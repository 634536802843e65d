//! Figures for those who ask for all of them at once: those of this node over the last half hour, by cycle
//! (reference 04 §17).
//!
//! | module | holds |
//! |---|---|
//! | [`cache`](Cache) | the file that remembers |
//! | `line` | one cycle as a line of it |
//! | [`export`](entries) | one cycle as a list of figures |

mod cache;
mod export;
mod line;

pub use cache::{Cache, PullError};
pub use export::{Entry, answered, entries};
