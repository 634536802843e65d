//! What else has to be done regularly.

use std::sync::atomic::{AtomicI64, Ordering};

use pve_access::ticket;
use pve_cfs::Cfs;
use pve_daemon::BoxError;
use pve_schema::Context;
use pve_task::TaskList;

use crate::counters;
use crate::errands::Found;

/// Seconds.
const MINUTE: i64 = 60;

/// Notices tasks that ended without saying so, and tells the other nodes.
pub(crate) fn refresh_tasks(context: &Context) -> Result<Found, BoxError> {
    let entries = TaskList::new(context).refresh(None)?;
    counters::running_tasks(entries.iter().filter(|entry| entry.endtime.is_none()).count());
    Ok(().into())
}

/// Replaces the key that signs tickets, once a day.
pub(crate) fn rotate_key(context: &Context) -> Result<Found, BoxError> {
    Ok(ticket::rotate_if_stale(context)?.into())
}

/// When old records were last looked for, Unix seconds.
pub(crate) type LastLook = AtomicI64;

/// Takes records out of the status store that nobody believes any more: of guests and storages that are gone. All of
/// them are read for that, so once a minute has to do: nobody believes an old record in the meantime.
pub(crate) fn forget_old(context: &Context, last: &LastLook) -> Result<Found, BoxError> {
    let now = context.now();
    // A clock that was set back counts as a minute.
    if (0..MINUTE).contains(&(now - last.load(Ordering::Relaxed))) {
        return Ok(().into());
    }
    pve_metrics::told::forget_old(&Cfs::new(context), now)?;
    last.store(now, Ordering::Relaxed);
    Ok(().into())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use pve_schema::clock::ManualClock;

    use super::*;

    #[test]
    fn old_records_are_forgotten_once_a_minute() {
        let directory = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(0));
        let context = pve_testing::context(directory.path(), "n1").with_clock(clock.clone());
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_secs()).unwrap();
        let store = Cfs::new(&context).status();
        let last = LastLook::new(0);
        let mut left = Vec::new();
        // The records are of now, and 300 seconds are not too old yet.
        for later in [0, 301, 302, 361, 362] {
            store.set("rrd/pve-vm-9.0/100", b"1:2").unwrap();
            clock.set(now + later + 2);
            forget_old(&context, &last).unwrap();
            left.push((later, store.get("rrd/pve-vm-9.0/100").unwrap().is_some()));
        }
        assert_eq!(left, [(0, true), (301, false), (302, true), (361, false), (362, true)]);
    }
}
