//! Counters of things that come and go – the servers of a file – each under its name.
//!
//! ```text
//! a place:  NAME, 64 bytes padded with NULs, in eight cells   its count, in one
//! ```
//!
//! The names are beside the counts, since nobody knows them when the file is made. A thing that is new takes a place
//! that is free; when it is gone for good somebody says so ([`Family::keep_names`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Family, Kind};

/// How many things of a series are counted. What is beyond that is not.
const PLACES: usize = 32;
/// Cells of a name.
const NAME: usize = 8;
/// Bytes of a name; what is longer is cut.
const NAME_BYTES: usize = NAME * size_of::<u64>();
const PLACE: usize = NAME + 1;
/// Cells of a series.
pub(super) const WIDTH: usize = PLACES * PLACE;

/// One thread at a time takes or frees places.
static TAKING: Mutex<()> = Mutex::new(());

type Name = [u64; NAME];

impl Family {
    /// Counts an event of a series for the thing of this name.
    pub fn add_named(&self, series: usize, name: &str, amount: u64) {
        let wanted = cells_of(name);
        let count = self.place(series, &wanted).or_else(|| self.take(series, &wanted));
        if let Some(count) = count {
            count.fetch_add(amount, Ordering::Relaxed);
        }
    }

    /// Forgets the counts of all things but these.
    pub fn keep_names(&self, names: &[&str]) {
        let kept: Vec<Name> = names.iter().map(|name| cells_of(name)).collect();
        let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
        for place in self.places() {
            let Some((name, count)) = place.split_at_checked(NAME) else {
                continue;
            };
            if !kept.contains(&load(name)) {
                name.iter()
                    .chain(count)
                    .for_each(|cell| cell.store(0, Ordering::Relaxed));
            }
        }
    }

    /// The count of a thing.
    fn place(&self, series: usize, wanted: &Name) -> Option<&'static AtomicU64> {
        let places = self.places().skip(series.checked_mul(PLACES)?).take(PLACES);
        let mut named = places.filter_map(|place| place.split_at_checked(NAME));
        let (_, count) = named.find(|(name, _)| load(name) == *wanted)?;
        count.first()
    }

    /// A free place, with this name from now on.
    fn take(&self, series: usize, wanted: &Name) -> Option<&'static AtomicU64> {
        let _taking = TAKING.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread may have been here first.
        if let Some(count) = self.place(series, wanted) {
            return Some(count);
        }
        let places = self.places().skip(series.checked_mul(PLACES)?).take(PLACES);
        let mut named = places.filter_map(|place| place.split_at_checked(NAME));
        let (name, count) = named.find(|(name, _)| load(name) == Name::default())?;
        let count = count.first()?;
        count.store(0, Ordering::Relaxed);
        name.iter()
            .zip(wanted)
            .for_each(|(cell, part)| cell.store(*part, Ordering::Relaxed));
        Some(count)
    }

    /// All places of all series.
    fn places(&self) -> impl Iterator<Item = &'static [AtomicU64]> + use<> {
        let cells = match self.kind {
            Kind::Named => self.cells.get().copied().unwrap_or_default(),
            _ => &[],
        };
        cells.chunks_exact(PLACE)
    }
}

fn load(name: &[AtomicU64]) -> Name {
    let mut parts = Name::default();
    for (part, cell) in parts.iter_mut().zip(name) {
        *part = cell.load(Ordering::Relaxed);
    }
    parts
}

/// A name as cells hold it.
fn cells_of(name: &str) -> Name {
    let end = (0..=name.len().min(NAME_BYTES))
        .rev()
        .find(|end| name.is_char_boundary(*end));
    let bytes = name.as_bytes().get(..end.unwrap_or(0)).unwrap_or_default();
    let mut parts = Name::default();
    for (part, chunk) in parts.iter_mut().zip(bytes.chunks(size_of::<u64>())) {
        let mut padded = [0; size_of::<u64>()];
        for (to, from) in padded.iter_mut().zip(chunk) {
            *to = *from;
        }
        *part = u64::from_ne_bytes(padded);
    }
    parts
}

/// The names and counts of a series.
pub(super) fn read(cells: &[u64]) -> Vec<(String, u64)> {
    let places = cells.chunks_exact(PLACE).filter_map(|place| {
        let (name, count) = place.split_at_checked(NAME)?;
        let bytes: Vec<u8> = name.iter().flat_map(|part| part.to_ne_bytes()).collect();
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        let name = String::from_utf8_lossy(bytes.get(..end)?).into_owned();
        Some((name, *count.first()?)).filter(|(name, _)| !name.is_empty())
    });
    places.collect()
}

/// The labels of a thing's figure.
pub(super) fn labels(name: &str, labels: &str) -> String {
    let name = name.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let comma = if labels.is_empty() { "" } else { "," };
    format!("name=\"{name}\"{comma}{labels}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_survive_the_cells() {
        for (name, kept) in [
            ("g1", "g1".to_owned()),
            ("12345678", "12345678".to_owned()),
            (&"ä".repeat(40), "ä".repeat(32)),
            (&format!("x{}", "ä".repeat(40)), format!("x{}", "ä".repeat(31))),
        ] {
            let mut cells = cells_of(name).to_vec();
            cells.push(7);
            assert_eq!(read(&cells), [(kept, 7)]);
        }
        assert!(read(&[0; PLACE]).is_empty());
    }

    #[test]
    fn a_name_cannot_break_out_of_its_label() {
        assert_eq!(labels("a\"\n\\", "b=\"c\""), "name=\"a\\\"\\n\\\\\",b=\"c\"");
        assert_eq!(labels("a", ""), "name=\"a\"");
    }
}
