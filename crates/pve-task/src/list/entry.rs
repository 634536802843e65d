//! One task of the list: its lines in the files, and its row for other nodes.

use pve_schema::ids::{TokenId, Upid};
use serde::{Deserialize, Serialize};

/// One task of the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The task.
    pub upid: Upid,
    /// Whether it is in the index.
    pub saved: bool,
    /// When it ended, Unix seconds; `None` while it runs.
    pub endtime: Option<u32>,
    /// How it ended; `None` while it runs.
    pub status: Option<String>,
}

impl Entry {
    /// A task that runs.
    pub(crate) fn running(upid: Upid) -> Self {
        Self {
            upid,
            saved: false,
            endtime: None,
            status: None,
        }
    }

    /// Reads a line of `active`: `UPID SAVED [ENDTIME [STATUS]]`.
    pub(crate) fn from_active(line: &str) -> Option<Self> {
        let (upid, rest) = word(line);
        let (saved, rest) = word(rest);
        let saved = match saved {
            "1" => true,
            "" | "0" => false,
            _ => return None,
        };
        Self::read(upid, saved, rest)
    }

    /// Reads a line of `index`: `UPID [ENDTIME [STATUS]]`.
    pub(crate) fn from_index(line: &str) -> Option<Self> {
        let (upid, rest) = word(line);
        Self::read(upid, true, rest)
    }

    fn read(upid: &str, saved: bool, rest: &str) -> Option<Self> {
        let upid = upid.parse().ok()?;
        let (endtime, status) = word(rest);
        let endtime = match endtime {
            "" => None,
            digits if digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()) => {
                Some(u32::from_str_radix(digits, 16).ok()?)
            }
            _ => return None,
        };
        Some(Self {
            upid,
            saved,
            endtime,
            status: Some(status.trim_start())
                .filter(|status| !status.is_empty())
                .map(str::to_owned),
        })
    }

    /// The line of `active`.
    pub(crate) fn active_line(&self) -> String {
        format!("{} {}{}\n", self.upid, u8::from(self.saved), self.end())
    }

    /// The line of `index`.
    pub(crate) fn index_line(&self) -> String {
        format!("{}{}\n", self.upid, self.end())
    }

    fn end(&self) -> String {
        match (self.endtime, &self.status) {
            (None, _) => String::new(),
            (Some(endtime), None) => format!(" {endtime:08X}"),
            (Some(endtime), Some(status)) => format!(" {endtime:08X} {status}"),
        }
    }

    /// The row that other nodes see.
    pub fn publish(&self) -> Published {
        let upid = &self.upid;
        Published {
            upid: upid.to_string(),
            node: upid.node.to_string(),
            worker_type: upid.worker_type.clone(),
            id: upid.id.clone(),
            user: upid.user.clone(),
            starttime: upid.starttime,
            saved: if self.saved { "1" } else { "0" }.to_owned(),
            pid: self.endtime.is_none().then_some(upid.pid),
            tokenid: None,
            endtime: self.endtime,
            status: self.status.clone(),
        }
    }
}

/// A task as nodes tell each other of it (reference 03 §5.5, 04 §15.6).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The task.
    pub upid: String,
    /// The node.
    pub node: String,
    /// The worker type.
    #[serde(rename = "type")]
    pub worker_type: String,
    /// The subject.
    pub id: String,
    /// Who asked for it: a user, or a token in full.
    pub user: String,
    /// Set by [`Published::split_token`] only: the token's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenid: Option<String>,
    /// When it started.
    pub starttime: u32,
    /// `"1"` if it is in the index.
    pub saved: String,
    /// The process, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endtime: Option<u32>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

impl Published {
    /// The same with a token's name apart from its user.
    #[must_use]
    pub fn split_token(mut self) -> Self {
        if let Ok(token) = self.user.parse::<TokenId>() {
            self.user = token.user.to_string();
            self.tokenid = Some(token.name);
        }
        self
    }
}

/// The first word, and what follows the blank behind it.
fn word(text: &str) -> (&str, &str) {
    text.split_once(char::is_whitespace).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPID: &str = "UPID:pve1:0000BBEF:0012D687:6553F100:qmstart:101:root@pam:";

    /// Reference 03 §8.7, vector 73.
    #[test]
    fn lines_round_trip() {
        let done = Entry {
            upid: UPID.parse().unwrap(),
            saved: true,
            endtime: Some(1_700_000_060),
            status: Some("OK".to_owned()),
        };
        assert_eq!(done.index_line(), format!("{UPID} 6553F13C OK\n"));
        assert_eq!(done.active_line(), format!("{UPID} 1 6553F13C OK\n"));
        assert_eq!(Entry::from_index(done.index_line().trim_end()), Some(done.clone()));
        assert_eq!(Entry::from_active(done.active_line().trim_end()), Some(done));
        let running = Entry::running(UPID.parse().unwrap());
        assert_eq!(running.active_line(), format!("{UPID} 0\n"));
        assert_eq!(Entry::from_active(&format!("{UPID} 0")), Some(running));
        let spaced = Entry::from_index(&format!("{UPID} 6553F13C got a  timeout")).unwrap();
        assert_eq!(spaced.status.as_deref(), Some("got a  timeout"));
        for bad in ["", "x", "UPID:x", &format!("{UPID} 2"), &format!("{UPID} 0 12")] {
            assert_eq!(Entry::from_active(bad), None, "{bad}");
        }
    }

    #[test]
    fn rows_for_other_nodes_have_their_keys() {
        let running = serde_json::to_value(Entry::running(UPID.parse().unwrap()).publish()).unwrap();
        assert_eq!(
            running,
            serde_json::json!({"upid": UPID, "node": "pve1", "type": "qmstart", "id": "101", "user": "root@pam",
                "starttime": 1_700_000_000, "saved": "0", "pid": 48111})
        );
        let mut row = Entry::running(UPID.parse().unwrap()).publish();
        row.user = "joe@pve!tok".to_owned();
        let row = row.split_token();
        assert_eq!((row.user.as_str(), row.tokenid.as_deref()), ("joe@pve", Some("tok")));
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_taken_or_refused(line in ".{0,120}", tail in "[ 01A-F]{0,20}") {
            let _ = Entry::from_active(&line);
            let _ = Entry::from_index(&line);
            let _ = Entry::from_active(&format!("{UPID}{tail}"));
        }
    }
}
