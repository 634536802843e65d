//! How fast a VM's disk becomes an archive, beside `qemu-img convert` of the same disk: `cargo bench -p pve-backup`.
//!
//! Prints the time of each and their ratio, for a disk full of data and for one that is mostly holes. Both write a file;
//! both read from the page cache, so that the machine's disk counts as little as it can. `BENCH_MIB` sets the size.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark states what must hold"
)]

#[path = "../tests/common/lab.rs"]
mod lab;

use std::fs::{self, File};
use std::time::{Duration, Instant};

use lab::{Lab, Notes};
use pve_backup::copy::{Limits, copy};
use pve_testing::noise;

/// Rounds of each; the fastest counts.
const ROUNDS: usize = 3;

fn main() {
    // `cargo test --benches` runs this, too: then it is enough that it runs.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let asked = std::env::var("BENCH_MIB").ok().and_then(|size| size.parse().ok());
    let mib: usize = asked.unwrap_or(if is_test { 8 } else { 512 });
    let full = noise(1, mib << 20);
    let mut sparse = full.clone();
    for (number, part) in sparse.chunks_mut(1 << 20).enumerate() {
        if number % 10 != 0 {
            part.fill(0);
        }
    }
    for (name, content) in [("full", full), ("90% holes", sparse)] {
        let Some(lab) = Lab::start(vec![("raw", content)], &[]) else {
            return;
        };
        let convert = fastest(|| convert(&lab));
        let ours = fastest(|| archive(&lab));
        println!(
            "{name}, {mib} MiB: copy {:.0} MiB/s, qemu-img convert {:.0} MiB/s, ratio of speeds {:.2}",
            speed(mib, ours),
            speed(mib, convert),
            convert.as_secs_f64() / ours.as_secs_f64(),
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn speed(mib: usize, time: Duration) -> f64 {
    mib as f64 / time.as_secs_f64()
}

fn fastest(mut round: impl FnMut() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| round()).min().unwrap()
}

fn convert(lab: &Lab) -> Duration {
    let target = lab.root().join("converted");
    let begin = Instant::now();
    // -U: the VM has the disk open.
    lab::qemu_img(
        &["convert", "-U", "-f", "raw", "-O", "raw"],
        &lab.images[0].path,
        &target,
    );
    let time = begin.elapsed();
    fs::remove_file(target).unwrap();
    time
}

fn archive(lab: &Lab) -> Duration {
    let target = lab.root().join("archive.vma");
    let begin = Instant::now();
    let mut file = File::create(&target).unwrap();
    copy(
        &lab.context,
        &lab.source(),
        &Limits::default(),
        &mut file,
        &mut Notes::default(),
    )
    .unwrap();
    let time = begin.elapsed();
    fs::remove_file(target).unwrap();
    time
}
