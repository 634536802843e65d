//! Single drives and network cards, for a guest that runs already: the same texts as at its start.

use serde_json::Value;

use super::block::{self, Opening};
use super::builder::Builder;
use super::error::CommandError;
use super::facts::{Backing, Request};
use super::machine::RunningMachine;
use super::{drives, net};
use crate::config::{Drive, Net};

/// What a drive consists of, in the order in which it is to be added.
#[derive(Debug, Clone, PartialEq)]
pub struct DriveParts {
    /// The throttle group, an `object-add`.
    pub throttle: Value,
    /// The block graph, a `blockdev-add`; none for an empty CD-ROM drive.
    pub graph: Option<Value>,
    /// The device as `-device` takes it.
    pub device: String,
}

/// The parts of one drive.
///
/// # Errors
/// As [`super::build`].
pub fn drive(request: Request<'_>, drive: &Drive, backing: Option<&Backing>) -> Result<DriveParts, CommandError> {
    let mut builder = Builder::new(request, RunningMachine::of(&request)?);
    let graph = match backing {
        None => None,
        Some(backing) => {
            let opening = Opening {
                read_only: drive.is_cdrom() || drive.options.flag("ro").unwrap_or(false),
                io_uring: request.host.io_uring,
                size: None,
                bare: drives::is_passed_through(drive, backing),
            };
            Some(block::graph(drive, backing, opening)?)
        }
    };
    Ok(DriveParts {
        throttle: block::sorted(block::throttle_object(drive)),
        graph,
        device: drives::device(&mut builder, drive, backing)?,
    })
}

/// What a network card consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetParts {
    /// The host's side as `-netdev` takes it.
    pub netdev: String,
    /// The guest's side as `-device` takes it.
    pub device: String,
}

/// The parts of one network card.
///
/// # Errors
/// As [`super::build`].
pub fn net(request: Request<'_>, number: u8, card: &Net) -> Result<NetParts, CommandError> {
    let mut builder = Builder::new(request, RunningMachine::of(&request)?);
    Ok(NetParts {
        netdev: net::netdev(&request, number, card)?,
        device: net::device(&mut builder, number, card)?,
    })
}
