//! The points of charts (reference 04 §13.2).

use pve_sys::rrd;
use serde_json::{Map, Value};

use super::{Rrd, RrdError, daemon};
use crate::figure;
use crate::subject::Subject;
use crate::timeframe::{Consolidation, Timeframe};

/// A point: its time, and the values that are known.
type Row = Map<String, Value>;

impl Rrd {
    /// The points of a chart, oldest first. A value that is unknown is absent. Where a file of a release before 9.0
    /// covers the chart's begin, its points come first, in the steps of its own and from where charts of that release
    /// began: up to half as far back again.
    ///
    /// # Errors
    /// `RRD error: opening '…': No such file or directory` for a subject that nobody told of yet.
    pub fn rows(&self, subject: &Subject, timeframe: Timeframe, how: Consolidation) -> Result<Vec<Row>, RrdError> {
        let file = self.file(subject);
        daemon::flush(&self.context, &file);
        let (start, end) = timeframe.window(self.context.now());
        let found = rrd::fetch(&file, how, start, end, timeframe.step()).map_err(RrdError::Read)?;
        let (mut rows, since) = self.rows_before_9(subject, timeframe, how, start);
        let step = i64::from(timeframe.step());
        let times = (1..=i64::from(timeframe.points())).map(|n| start + n * step);
        rows.extend(times.filter(|time| *time > since).map(|time| row(&found, time)));
        // The newest interval may not be over yet.
        if rows.last().is_some_and(|row| row.len() == 1) {
            rows.pop();
        }
        Ok(rows)
    }

    /// The points of a file that a release before 9.0 kept, to its last sample, and when that was. None if there is no
    /// such file, or it ends before `start`, the chart's begin.
    fn rows_before_9(
        &self,
        subject: &Subject,
        timeframe: Timeframe,
        how: Consolidation,
        start: i64,
    ) -> (Vec<Row>, i64) {
        let nothing = (Vec::new(), start);
        let Some(file) = self.file_before_9(subject) else {
            return nothing;
        };
        daemon::flush(&self.context, &file);
        let Ok(last) = rrd::last(&file) else { return nothing };
        if last <= start {
            return nothing;
        }
        let (step, points) = timeframe.before_9();
        let (width, points) = (i64::from(step), i64::from(points));
        let end = last.div_euclid(width) * width;
        // As many points as there were then, which begin before the chart does as a rule.
        let start = (self.context.now().div_euclid(width) - points) * width;
        match rrd::fetch(&file, how, start, end, step) {
            Ok(found) => {
                let times = (1..=(end - start) / width).map(|n| start + n * width);
                let rows = times.map(|time| renamed(row(&found, time)));
                (rows.collect(), last)
            }
            Err(error) => {
                log::warn!("RRD error: {error}");
                nothing
            }
        }
    }
}

/// A point of an old file under today's names.
fn renamed(mut row: Row) -> Row {
    if let Some(free) = row.get("memfree").cloned() {
        row.entry("memavailable").or_insert(free);
    }
    row
}

/// The point whose interval ends at a time.
fn row(found: &rrd::Fetched, time: i64) -> Row {
    let mut row = Row::from_iter([("time".to_owned(), time.into())]);
    let since = time - found.first;
    if since % found.step != 0 {
        return row;
    }
    let values = usize::try_from(since / found.step)
        .ok()
        .and_then(|index| found.values.chunks_exact(found.names.len().max(1)).nth(index));
    for (name, value) in found.names.iter().zip(values.unwrap_or_default()) {
        if let Some(value) = figure::json(*value) {
            row.insert(name.clone(), value);
        }
    }
    row
}
