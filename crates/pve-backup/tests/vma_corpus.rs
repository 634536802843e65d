//! Archives kept as files: each `NAME.vma` of `tests/corpus/vma` beside a `NAME.txt` that tells what a reader says of
//! it. A new find goes there as a file; `UPDATE_CORPUS=1` writes the texts, to be looked at before they are kept.

#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write;
use std::fs;
use std::path::Path;

use jiff::tz::TimeZone;
use pve_backup::vma::{Reader, VmaError, report, verify};

fn tell(archive: &[u8]) -> String {
    let mut text = String::new();
    let mut read = || -> Result<(), VmaError> {
        let mut reader = Reader::open(archive)?;
        for line in report::contents(reader.header(), &TimeZone::UTC) {
            let _ = writeln!(text, "{line}");
        }
        let stats = verify(&mut reader, &mut |_| Ok(()))?;
        for line in report::summary(&stats) {
            let _ = writeln!(text, "{line}");
        }
        Ok(())
    };
    let result = read();
    if let Err(error) = result {
        let _ = writeln!(text, "ERROR: {error}");
    }
    text
}

#[test]
fn the_corpus_is_told_as_before() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/vma");
    let mut count = 0;
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "vma") {
            continue;
        }
        let told = tell(&fs::read(&path).unwrap());
        let expected = path.with_extension("txt");
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            fs::write(&expected, &told).unwrap();
        }
        assert_eq!(told, fs::read_to_string(&expected).unwrap(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 8, "{count} files");
}
