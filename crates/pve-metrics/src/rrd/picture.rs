//! Charts as pictures (reference 04 §13.3).

use std::path::Path;

use pve_sys::rrd;

use super::{Rrd, RrdError, daemon};
use crate::subject::Subject;
use crate::timeframe::{Consolidation, Timeframe};

/// Size of the whole picture, in pixels.
const SIZE: (u32, u32) = (800, 200);
/// The colours of the lines, one for each source.
const COLORS: [&str; 2] = ["#00ddff", "#ff0000"];
/// Sources that are shares, and shown as per cent.
const SHARES: [&str; 2] = ["cpu", "iowait"];

/// A drawn chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// What its file would be called; none is written.
    pub filename: String,
    /// A PNG picture.
    pub image: Vec<u8>,
}

impl Rrd {
    /// Draws a chart of one or two sources.
    ///
    /// # Errors
    /// [`RrdError::Colors`] for more; [`RrdError::Read`] for a source that the file does not have, and for a subject
    /// that nobody told of yet.
    pub fn picture(
        &self,
        subject: &Subject,
        sources: &[&str],
        timeframe: Timeframe,
        how: Consolidation,
    ) -> Result<Picture, RrdError> {
        let file = self.file(subject);
        let (start, end) = timeframe.window(self.context.now());
        let mut arguments = vec!["--imgformat=PNG".to_owned(), "--lower-limit=0".to_owned()];
        arguments.extend(["--full-size-mode".to_owned(), "--border=0".to_owned()]);
        arguments.push(format!("--start={start}"));
        arguments.push(format!("--end={end}"));
        arguments.push(format!("--width={}", SIZE.0));
        arguments.push(format!("--height={}", SIZE.1));
        for (at, source) in sources.iter().enumerate() {
            let color = COLORS.get(at).ok_or(RrdError::Colors)?;
            // Anything else could end the definition.
            if !subject.sources().contains(source) {
                let text = format!("No DS called '{source}' in '{}'", file.display());
                return Err(RrdError::Read(rrd::RrdError::Refused(text)));
            }
            arguments.extend(line(&file, at, source, how, color));
        }
        daemon::flush(&self.context, &file);
        let image = rrd::graph(&arguments).map_err(RrdError::Read)?;
        Ok(Picture {
            filename: format!("{}_{}.png", file.display(), sources.join("_")),
            image,
        })
    }
}

/// What draws one line.
fn line(file: &Path, at: usize, source: &str, how: Consolidation, color: &str) -> [String; 3] {
    let file = file.to_string_lossy().replace('\\', "\\\\").replace(':', "\\:");
    let factor = if SHARES.contains(&source) { 100 } else { 1 };
    [
        format!("DEF:d{at}={file}:{source}:{}", how.as_str()),
        format!("CDEF:v{at}=d{at},{factor},*"),
        format!("LINE2:v{at}{color}:{source}"),
    ]
}
