//! Figures over time: what the statistics daemon tells of nodes, guests and storages, and the files that remember it
//! (reference 04 §2.3, §10, §13).
//!
//! | module | holds |
//! |---|---|
//! | [`subject`] | what figures are about, and the key of its record |
//! | [`record`] | records as they are written: the values and their order |
//! | [`told`] | records as they are read back from the status store |
//! | [`foreign`] | records of nodes of other versions |
//! | [`rrd`] | round robin files: one per subject |
//! | [`timeframe`] | how far back a chart looks, and in which steps |
//! | [`figure`] | numbers as text and as JSON |
//! | [`snapshot`] | all that a step of a cycle saw, for those below |
//! | [`pull`] | the figures of the last half hour, for who asks for all at once |
//! | [`servers`] | external metric servers |
//!
//! Not here: where figures come from (`pve-node`, `pve-qemu`, `pve-storage`), and when they are taken (`pvestatd`).

pub mod figure;
pub mod foreign;
pub mod pull;
pub mod record;
pub mod rrd;
pub mod servers;
pub mod snapshot;
pub mod subject;
pub mod timeframe;
pub mod told;

pub use record::{GuestFigures, NodeFigures, Pressure, Record, StorageFigures};
pub use rrd::{Picture, Rrd, RrdError};
pub use snapshot::{Object, Objects, Snapshot};
pub use subject::Subject;
pub use timeframe::{Consolidation, Timeframe};
pub use told::{Told, ToldRecords};
