//! Tries changed copies of the committed inputs: a fuzzer for toolchains without libFuzzer.
//!
//! It does not see which branches an input reaches, so it goes less deep than `make fuzz`; but it needs nothing except
//! `cargo`, and finds what is a few changes away from something real. The same seed makes the same inputs.
//!
//! ```text
//! cargo run --release -p fuzz-targets --bin mutate -- EXECUTIONS SECONDS [TARGET…]
//! ```
//!
//! Each target gets so many executions or seconds, whichever ends first; the seed is in `MUTATE_SEED`. What breaks is left
//! in `fuzz/artifacts/TARGET`, and the exit status is 1; it is 2 where a target is not known.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a tool for developers"
)]

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use fuzz_targets::{TARGETS, Target};

/// Most bytes of an input.
const MAX_INPUT: usize = 4096;
/// Bytes that mean something to one parser or another.
const SPECIAL: &[u8] = b"\n\r \t:,;=0\0#%\x80/!@-+[]{}\"'\\";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let mut number = |default: u64| words.next().map_or(default, |word| word.parse().expect("a number"));
    let (executions, seconds) = (number(1_000_000), number(60));
    let names: Vec<String> = words.collect();
    if let Some(name) = names
        .iter()
        .find(|name| TARGETS.iter().all(|target| target.name != **name))
    {
        eprintln!("mutate: no target '{name}' (the names are those of the folders in fuzz/corpus)");
        return ExitCode::from(2);
    }
    let seed = std::env::var("MUTATE_SEED").map_or(1, |seed| seed.parse().expect("a number"));
    // What is found is told below, with its target.
    std::panic::set_hook(Box::new(|_| {}));

    println!("| target | executions | per s | outcome |\n|---|---|---|---|");
    let chosen = |target: &&Target| names.is_empty() || names.iter().any(|name| name == target.name);
    let mut failed = false;
    for target in TARGETS.iter().filter(chosen) {
        let begun = Instant::now();
        let (count, broken) = run(target, seed, executions, Duration::from_secs(seconds));
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        let outcome = broken.as_deref().unwrap_or("passed");
        println!("| {} | {count} | {rate:.0} | {outcome} |", target.name);
        failed |= broken.is_some();
    }
    ExitCode::from(u8::from(failed))
}

/// Runs a target; how often, and what broke it.
fn run(target: &Target, seed: u64, executions: u64, time: Duration) -> (u64, Option<String>) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let mut files: Vec<PathBuf> = std::fs::read_dir(fuzz.join("corpus").join(target.name))
        .expect("inputs")
        .map(|entry| entry.expect("an input").path())
        .collect();
    files.sort();
    let inputs: Vec<Vec<u8>> = files
        .iter()
        .map(|file| std::fs::read(file).expect("an input"))
        .collect();
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let begun = Instant::now();
    for count in 0..executions {
        if begun.elapsed() > time {
            return (count, None);
        }
        let input = mutated(&inputs, &mut random);
        let Err(panic) = catch_unwind(|| (target.run)(&input)) else {
            continue;
        };
        let folder = fuzz.join("artifacts").join(target.name);
        let file = folder.join(format!("mutate-{seed}-{count}"));
        std::fs::create_dir_all(&folder)
            .and_then(|()| std::fs::write(&file, &input))
            .expect("an artifact");
        let said = panic.downcast_ref::<String>().map_or("", String::as_str);
        let said = said.lines().next().unwrap_or_default();
        return (count + 1, Some(format!("FAILED: {said} ({})", file.display())));
    }
    (executions, None)
}

/// A copy of some input with one to six changes: single bytes, pieces of another input, whole lines.
fn mutated(inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut input = inputs[random.below(inputs.len())].clone();
    for _ in 0..=random.below(6) {
        let at = random.below(input.len());
        match random.below(7) {
            0 if !input.is_empty() => input[at] = random.byte(),
            1 if !input.is_empty() => drop(input.remove(at)),
            2 => input.insert(at, SPECIAL[random.below(SPECIAL.len())]),
            3 => {
                let other = &inputs[random.below(inputs.len())];
                let from = random.below(other.len());
                let to = (from + random.below(16)).min(other.len());
                input.splice(at..at, other[from..to].iter().copied());
            }
            4 => {
                let to = (at + random.below(8)).min(input.len());
                drop(input.drain(at..to));
            }
            change => input = with_other_lines(&input, change == 5, inputs, random),
        }
    }
    input.truncate(MAX_INPUT);
    input
}

/// The same with a line more, or with one less.
fn with_other_lines(input: &[u8], more: bool, inputs: &[Vec<u8>], random: &mut Random) -> Vec<u8> {
    let mut lines: Vec<&[u8]> = input.split(|byte| *byte == b'\n').collect();
    let at = random.below(lines.len());
    if more {
        let other = &inputs[random.below(inputs.len())];
        let others: Vec<&[u8]> = other.split(|byte| *byte == b'\n').collect();
        lines.insert(at, others[random.below(others.len())]);
    } else {
        lines.remove(at);
    }
    lines.join(&b'\n')
}

/// Numbers that look random (xorshift).
struct Random(u64);

impl Random {
    /// A number below `limit`, or 0.
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }
}
