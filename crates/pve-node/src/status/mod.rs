//! What the host is doing: CPU, memory, file system, network, kernel (reference 04 §14.1, §14.4).
//!
//! | module | holds |
//! |---|---|
//! | [`cpu`] | how busy the CPUs are, from two readings of `/proc/stat` |
//! | [`cpu_info`] | what CPUs there are |
//! | [`memory`] | memory, swap, shared pages, ZFS's cache |
//! | [`network`] | counters of interfaces, and which of them are hardware |
//! | [`pressure`] | how long tasks wait |
//! | [`file_system`] | how full the root file system is |
//! | [`kernel`] | which kernel runs, and how the machine was started |
//!
//! All figures are the machine's, also in a lab: its guests use the same CPUs. Parsers take any text; what cannot be read
//! counts as zero or unknown, because a status that lacks one figure is better than none.

pub mod cpu;
pub mod cpu_info;
pub mod file_system;
pub mod kernel;
pub mod memory;
pub mod network;
pub mod pressure;

use std::path::Path;

pub use cpu::{CpuMeter, CpuTimes, CpuUsage, clock_ticks};
pub use cpu_info::CpuInfo;
pub use file_system::FileSystem;
pub use kernel::{BootInfo, Kernel};
pub use memory::Memory;
pub use network::{Hardware, Interface, Traffic};
pub use pressure::Pressure;

/// A file of `/proc` or `/sys`; empty when it cannot be read.
fn text(path: impl AsRef<Path>) -> String {
    std::fs::read(path).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

/// Whole seconds since the machine started.
pub fn uptime() -> u64 {
    parse_uptime(&text("/proc/uptime"))
}

fn parse_uptime(text: &str) -> u64 {
    let whole = text.split(['.', ' ']).next();
    whole.and_then(|whole| whole.parse().ok()).unwrap_or(0)
}

/// The load averages of 1, 5 and 15 minutes, as the kernel prints them.
pub fn load_average() -> [String; 3] {
    parse_load_average(&text("/proc/loadavg"))
}

fn parse_load_average(text: &str) -> [String; 3] {
    let mut words = text.split_ascii_whitespace();
    [(); 3].map(|()| {
        let word = words.next().filter(|word| word.parse::<f64>().is_ok());
        word.unwrap_or("0.00").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_and_load_are_read() {
        assert_eq!(parse_uptime("6499.99 5737.39\n"), 6499);
        assert_eq!(
            parse_load_average("5.70 3.80 3.86 8/157 30101\n"),
            ["5.70", "3.80", "3.86"]
        );
        assert_eq!(parse_load_average(""), ["0.00"; 3]);
        assert!(uptime() > 0);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_taken(text in "(?s)[a-z0-9 .:=_\\n\\t]{0,200}") {
            parse_uptime(&text);
            parse_load_average(&text);
            if let Some(times) = CpuTimes::parse(&text) {
                times.total();
            }
            CpuInfo::parse(&text);
            Memory::parse(&text);
            Pressure::parse(&text);
            network::parse(&text);
        }
    }
}
