//! What is counted of log-ins, by the daemon that checks passwords.

use pve_daemon::counters::{Family, Kind};

use crate::limits::Refused;

/// All of them, for [`pve_daemon::Program::counters`].
pub static ALL: [&Family; 2] = [&LOGINS, &REFUSED];

static LOGINS: Family = Family::new(
    "pve_logins",
    "Log-ins by outcome; half: the password was right, and a second factor is asked for.",
    Kind::Counter,
    &["outcome=\"ok\"", "outcome=\"half\"", "outcome=\"failed\""],
);
static REFUSED: Family = Family::new(
    "pve_logins_refused",
    "Log-ins that failed without a look at the password, by whose failures were too many.",
    Kind::Counter,
    &[
        "limit=\"user-at-address\"",
        "limit=\"address\"",
        "limit=\"user\"",
        "limit=\"crowd\"",
    ],
);

/// What became of a log-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    Half,
    Failed,
}

/// A log-in came to an end.
pub(crate) fn login(outcome: Outcome) {
    LOGINS.increment(outcome as usize);
}

/// A log-in was not looked at.
pub(crate) fn refused(why: Refused) {
    REFUSED.increment(match why {
        Refused::Pair => 0,
        Refused::Address => 1,
        Refused::User => 2,
        Refused::Crowd => 3,
    });
}
