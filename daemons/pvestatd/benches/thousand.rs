//! What a cycle over a thousand running machines costs: `cargo bench -p pvestatd --bench thousand`.
//!
//! Each machine has a process, a monitor behind a real socket, a control group, a record and a file of figures. Prints
//! the time of a cycle by the clock and of the processors, and the memory over a thousand cycles, and fails when that is
//! more than it may be. `BENCH_GUESTS` and `BENCH_CYCLES` set other numbers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark states what must hold"
)]

#[path = "../tests/common/crowd.rs"]
mod crowd;

use crowd::{Cost, Crowd};

/// Cycles until all files exist and all that is kept in memory is there.
const WARM_UP: usize = 20;
/// Most of a cycle's time for a thousand machines by the clock, microseconds.
const WALL: u64 = 1_000_000;
/// Most of a cycle's time for a thousand machines of the processors, microseconds.
const CPU: u64 = 300_000;
/// By how much memory may be higher at the end than after the warm-up, KiB.
const GROWTH: u64 = 4096;

fn main() {
    // `cargo test --benches` runs this, too: then it is enough that it runs.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let asked = |name: &str| std::env::var(name).ok().and_then(|number| number.parse().ok());
    let guests: u32 = asked("BENCH_GUESTS").unwrap_or(if is_test { 20 } else { 1000 });
    let cycles: u32 = asked("BENCH_CYCLES").unwrap_or(if is_test { 40 } else { 1000 });
    let crowd = Crowd::start(guests);
    let mut running = crowd.cycles(cycles);
    let mut costs: Vec<Cost> = running.by_ref().collect();
    eprint!("{}", running.log());
    let settled = costs.iter().skip(WARM_UP).position(|cost| cost.late == 0).unwrap() + WARM_UP;
    let costs = costs.split_off(settled);
    let (first, last) = (costs[0].memory, costs[costs.len() - 1].memory);
    println!("cycle over {} running machines, {} cycles:", crowd.count, costs.len());
    let wall = show("by the clock", costs.iter().map(|cost| cost.wall).collect());
    let cpu = show("processors", costs.iter().map(|cost| cost.cpu).collect());
    let calls = crowd.fleet.calls() / u64::from(cycles * guests);
    println!("  memory        {first} KiB at first, {last} KiB at last; {calls} calls of a monitor per cycle");
    if !is_test {
        let scale = |bar: u64| bar * u64::from(crowd.count) / 1000;
        assert!(wall <= scale(WALL), "a cycle takes at most a second by the clock");
        assert!(cpu <= scale(CPU), "a cycle takes at most 0.3 s of the processors");
    }
    assert!(last <= first + GROWTH, "memory is flat");
    assert!(costs.iter().all(|cost| cost.late == 0), "no step is late");
}

/// Prints how long cycles took; the outcome is the median, in microseconds.
#[expect(clippy::cast_precision_loss, reason = "a few digits are shown")]
fn show(what: &str, mut times: Vec<u64>) -> u64 {
    times.sort_unstable();
    let at = |hundredth: usize| times[(times.len() - 1) * hundredth / 100];
    let ms = |time: u64| time as f64 / 1000.0;
    println!(
        "  {what:<13} median {:.1} ms, 99 of 100 below {:.1} ms, longest {:.1} ms",
        ms(at(50)),
        ms(at(99)),
        ms(at(100))
    );
    at(50)
}
