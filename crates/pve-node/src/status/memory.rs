//! Memory, swap, shared pages, ZFS's cache.

/// Size of a page that the kernel shares (KSM works with small pages only).
const PAGE: u64 = 4096;

/// Memory of the host in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// All there is.
    pub total: u64,
    /// What nobody uses.
    pub free: u64,
    /// What programs could still get.
    pub available: u64,
    /// Swap: all.
    pub swap_total: u64,
    /// Swap: free.
    pub swap_free: u64,
    /// Saved by sharing equal pages.
    pub shared: u64,
    /// Size of ZFS's cache; 0 without ZFS.
    pub arc_size: u64,
    /// What that cache keeps at least.
    pub arc_min: u64,
    /// What that cache takes at most.
    pub arc_max: u64,
}

impl Memory {
    /// Reads what the kernel tells.
    pub fn read() -> Self {
        let pages = super::text("/sys/kernel/mm/ksm/pages_sharing");
        let arc = super::text("/proc/spl/kstat/zfs/arcstats");
        Self {
            shared: pages.trim().parse::<u64>().unwrap_or(0).saturating_mul(PAGE),
            arc_size: arc_figure(&arc, "size"),
            arc_min: arc_figure(&arc, "c_min"),
            arc_max: arc_figure(&arc, "c_max"),
            ..Self::parse(&super::text("/proc/meminfo"))
        }
    }

    /// The text of `/proc/meminfo`.
    pub fn parse(text: &str) -> Self {
        let mut memory = Self::default();
        for line in text.lines() {
            let Some((key, value)) = line.split_once(':') else {
                continue;
            };
            let kib = value.split_ascii_whitespace().next();
            let bytes = kib
                .and_then(|kib| kib.parse::<u64>().ok())
                .unwrap_or(0)
                .saturating_mul(1024);
            match key {
                "MemTotal" => memory.total = bytes,
                "MemFree" => memory.free = bytes,
                "MemAvailable" => memory.available = bytes,
                "SwapTotal" => memory.swap_total = bytes,
                "SwapFree" => memory.swap_free = bytes,
                _ => {}
            }
        }
        memory
    }

    /// What is in use: what no program could get any more.
    pub fn used(&self) -> u64 {
        self.total.saturating_sub(self.available)
    }

    /// Swap in use.
    pub fn swap_used(&self) -> u64 {
        self.swap_total.saturating_sub(self.swap_free)
    }
}

/// One of the rows of name, type and value.
fn arc_figure(text: &str, name: &str) -> u64 {
    let mut rows = text
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    let figure = rows.find_map(|row| match row.as_slice() {
        [found, _, value] if *found == name => value.parse().ok(),
        _ => None,
    });
    figure.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 04 §20, vector 11.
    #[test]
    fn kibibytes_become_bytes() {
        let text = "MemTotal:       16384000 kB\nMemFree:         2048000 kB\nMemAvailable:    8192000 kB\nBuffers: 1 kB\n\
            SwapTotal:       1048576 kB\nSwapFree:         524288 kB\nHugePages_Total:       0\n";
        let memory = Memory::parse(text);
        assert_eq!((memory.total, memory.free), (16_777_216_000, 2_097_152_000));
        assert_eq!((memory.available, memory.used()), (8_388_608_000, 8_388_608_000));
        assert_eq!((memory.swap_total, memory.swap_used()), (1_073_741_824, 536_870_912));
        assert!(Memory::read().total > 0);
    }

    #[test]
    fn the_cache_of_zfs_is_found() {
        let text = "13 1 0x01 147 39984 123 456\nname                            type data\nhits  4    1\nc_min 4 5\nc_max 4 6\n\
             size  4    1234\n";
        assert_eq!(
            ["size", "c_min", "c_max"].map(|name| arc_figure(text, name)),
            [1234, 5, 6]
        );
        assert_eq!(arc_figure("", "size"), 0);
    }
}
