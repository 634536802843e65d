//! Task identifiers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::NodeName;

/// A task's unique id (reference 03 §5.1):
/// `UPID:NODE:PID:PSTART:STARTTIME:TYPE:ID:USER:`, numbers in upper-case hex of at least eight digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Upid {
    /// The node that runs the task.
    pub node: NodeName,
    /// The task's process.
    pub pid: u32,
    /// When that process started: clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub pstart: u64,
    /// When the task started: Unix seconds.
    pub starttime: u32,
    /// What kind of work, `qmstart` for one.
    pub worker_type: String,
    /// What it works on, often a VMID; may be empty.
    pub id: String,
    /// Who asked for it: a user or a token, in full.
    pub user: String,
}

/// A text that is no UPID.
#[derive(Debug, thiserror::Error)]
#[error("unable to parse worker upid '{0}'")]
pub struct InvalidUpid(pub String);

impl Upid {
    /// Whether a text may stand as type, id or user.
    fn is_field(text: &str) -> bool {
        !text.chars().any(|c| c.is_whitespace() || c == ':' || c == '/')
    }

    fn decode(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.strip_prefix("UPID:")?.strip_suffix(':')?.split(':').collect();
        let [node, pid, pstart, starttime, worker_type, id, user] = fields[..] else {
            return None;
        };
        let hex = |digits: &str, lengths: std::ops::RangeInclusive<usize>| {
            let valid = lengths.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_hexdigit());
            if valid {
                u64::from_str_radix(digits, 16).ok()
            } else {
                None
            }
        };
        if worker_type.is_empty() || user.is_empty() || ![worker_type, id, user].into_iter().all(Self::is_field) {
            return None;
        }
        Some(Self {
            node: node.parse().ok()?,
            pid: u32::try_from(hex(pid, 8..=8)?).ok()?,
            pstart: hex(pstart, 8..=9)?,
            starttime: u32::try_from(hex(starttime, 8..=8)?).ok()?,
            worker_type: worker_type.to_owned(),
            id: id.to_owned(),
            user: user.to_owned(),
        })
    }
}

impl FromStr for Upid {
    type Err = InvalidUpid;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::decode(text).ok_or_else(|| InvalidUpid(text.to_owned()))
    }
}

impl TryFrom<String> for Upid {
    type Error = InvalidUpid;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Upid> for String {
    fn from(upid: Upid) -> Self {
        upid.to_string()
    }
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            pid,
            pstart,
            starttime,
            worker_type,
            id,
            user,
        } = self;
        write!(
            f,
            "UPID:{node}:{pid:08X}:{pstart:08X}:{starttime:08X}:{worker_type}:{id}:{user}:"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 03 §8.7, vectors 66 to 68.
    #[test]
    fn upids_round_trip() {
        let text = "UPID:pve1:0000BBEF:0012D687:6553F100:qmstart:101:root@pam:";
        let upid: Upid = text.parse().unwrap();
        assert_eq!(
            (upid.pid, upid.pstart, upid.starttime),
            (48111, 1_234_567, 1_700_000_000)
        );
        assert_eq!(upid.to_string(), text);

        let token = "UPID:a:00000001:12A05F200:00000001:x::joe@pve!tok:";
        assert_eq!(token.parse::<Upid>().unwrap().pstart, 5_000_000_000);
        assert_eq!(token.parse::<Upid>().unwrap().to_string(), token);

        for bad in [
            "UPID:pve1:0000BBEF:0012D687:6553F100:qmstart:101:root@pam",
            "UPID:p_1:0000BBEF:0012D687:6553F100:qmstart:101:root@pam:",
            "UPID:pve1:0000BBEF:0012D687:6553F100:qm/x:101:root@pam:",
            "UPID:pve1:0000BBEF:0012D68700:6553F100:qmstart:101:root@pam:",
        ] {
            assert!(bad.parse::<Upid>().is_err(), "{bad}");
        }
    }
}
