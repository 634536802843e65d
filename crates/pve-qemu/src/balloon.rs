//! Setting the balloons of many VMs at once, as automatic ballooning does (reference 04 §11).

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use pve_schema::Site;
use pve_schema::ids::VmId;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::qmp::QmpError;
use crate::qmp::many::{self, Call, Line, Listener, Said, Script};
use crate::runtime::Runtime;

/// The command.
const COMMAND: &str = "balloon";
/// What setting one may take, and all of them: each is asked for the same thing again ten seconds later.
const BUDGET: Duration = Duration::from_secs(1);

/// Sets the balloons of VMs that run, in bytes. The outcome is whose could not be set, and why.
pub fn set_all(site: &Site, sizes: &BTreeMap<VmId, u64>) -> BTreeMap<VmId, QmpError> {
    let call = |(vmid, size): (&VmId, &u64)| Call {
        vmid: *vmid,
        socket: Runtime::new(site, *vmid).monitor(),
        script: Cow::Owned(Script::change(COMMAND, json!({ "value": size }))),
        budget: BUDGET,
    };
    let mut refused = Refused::default();
    let silent = many::ask(sizes.iter().map(call).collect(), BUDGET, &mut refused);
    refused.0.extend(silent);
    refused.0
}

#[derive(Default)]
struct Refused(BTreeMap<VmId, QmpError>);

impl Listener for Refused {
    fn take(&mut self, vmid: VmId, _place: usize, line: Line<'_>) -> Option<bool> {
        match line.parse::<IgnoredAny>()? {
            Said::Result(_) => {}
            Said::Refused(refusal) => {
                self.0.insert(vmid, refusal.error(vmid, COMMAND));
            }
            Said::Other => return Some(false),
        }
        Some(true)
    }
}
