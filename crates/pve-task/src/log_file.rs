//! Reading a task's log (reference 03 §5.6).

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use pve_schema::errno_text;
use pve_schema::ids::Upid;

use crate::TaskList;

/// A part of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Line numbers, from 1, and the lines.
    pub lines: Vec<(u64, String)>,
    /// Lines in all.
    pub total: u64,
}

impl Page {
    /// A part of a log file: `limit` lines from the 0-based line `start`, all of them if `limit` is 0. A missing file is
    /// told of in the lines.
    pub fn read(path: &Path, start: u64, limit: u64) -> Self {
        match File::open(path) {
            Ok(file) => read_lines(BufReader::new(file), start, limit).unwrap_or_else(|error| unreadable(&error)),
            Err(error) => unreadable(&error),
        }
    }

    /// A single line that says something about the log rather than from it.
    fn note(text: String) -> Self {
        Self {
            lines: vec![(1, text)],
            total: 1,
        }
    }
}

impl TaskList {
    /// A part of a task's log, as [`Page::read`] has it.
    pub fn read_log(&self, upid: &Upid, start: u64, limit: u64) -> Page {
        Page::read(&self.log_path(upid), start, limit)
    }

    /// Whether a task has a log at all.
    pub fn has_log(&self, upid: &Upid) -> bool {
        self.log_path(upid).is_file()
    }

    /// A task's log as it is, and its length at this moment.
    ///
    /// # Errors
    /// Whatever keeps it from being read.
    pub fn open_log(&self, upid: &Upid) -> io::Result<(File, u64)> {
        let file = File::open(self.log_path(upid))?;
        let length = file.metadata()?.len();
        Ok((file, length))
    }
}

fn unreadable(error: &io::Error) -> Page {
    Page::note(format!("unable to open file - {}", errno_text(error)))
}

fn read_lines(mut reader: impl BufRead, start: u64, limit: u64) -> io::Result<Page> {
    let mut page = Page {
        lines: Vec::new(),
        total: 0,
    };
    let end = if limit == 0 {
        u64::MAX
    } else {
        start.saturating_add(limit)
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        if (start..end).contains(&page.total) {
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            page.lines
                .push((page.total + 1, String::from_utf8_lossy(text).into_owned()));
        }
        page.total += 1;
    }
    if page.total == 0 {
        return Ok(Page::note("no content".to_owned()));
    }
    Ok(page)
}

/// The name under which a log is saved: `task-NODE-TYPE-2023-11-14T22:13:20Z.log`.
pub fn download_name(upid: &Upid) -> String {
    let time = jiff::Timestamp::from_second(i64::from(upid.starttime)).unwrap_or_default();
    format!("task-{}-{}-{time}.log", upid.node, upid.worker_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 03 §8.7, vector 74.
    #[test]
    fn logs_are_read_by_lines() {
        let numbers = |text: &str, start, limit| {
            let page = read_lines(text.as_bytes(), start, limit).unwrap();
            (page.lines.iter().map(|(n, _)| *n).collect::<Vec<_>>(), page.total)
        };
        let log = "l1\nl2\nl3\nl4\nl5\n";
        assert_eq!(numbers(log, 0, 2), (vec![1, 2], 5));
        assert_eq!(numbers(log, 3, 50), (vec![4, 5], 5));
        assert_eq!(numbers(log, 0, 0), (vec![1, 2, 3, 4, 5], 5));
        assert_eq!(numbers(log, 9, 50), (vec![], 5));
        assert_eq!(numbers(log, u64::MAX, u64::MAX), (vec![], 5));
        assert_eq!(
            read_lines(&b"a\n\nb"[..], 0, 0).unwrap().lines,
            [(1, "a".to_owned()), (2, String::new()), (3, "b".to_owned())]
        );
        assert_eq!(
            read_lines(&b""[..], 0, 50).unwrap(),
            Page::note("no content".to_owned())
        );
    }

    /// Reference 03 §8.7, vector 75.
    #[test]
    fn a_saved_log_is_named_after_its_task() {
        let upid = "UPID:pve1:0000BBEF:0012D687:6553F100:qmstart:101:root@pam:"
            .parse()
            .unwrap();
        assert_eq!(download_name(&upid), "task-pve1-qmstart-2023-11-14T22:13:20Z.log");
    }
}
