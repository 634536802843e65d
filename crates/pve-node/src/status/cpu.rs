//! How busy the CPUs are.

/// Fewer ticks than this between two readings say too little.
const MIN_TICKS: f64 = 1000.0;

/// A reading of `/proc/stat`: clock ticks over all CPUs since the machine started. Time of guests is not part of
/// `user` and `nice`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CpuTimes {
    /// Programs.
    pub user: u64,
    /// Programs of low priority.
    pub nice: u64,
    /// The kernel.
    pub system: u64,
    /// Nothing to do.
    pub idle: u64,
    /// Nothing to do but to wait for I/O.
    pub iowait: u64,
    /// Interrupts.
    pub irq: u64,
    /// The later parts of interrupts.
    pub softirq: u64,
    /// Taken by the hypervisor below.
    pub steal: u64,
    /// Guests.
    pub guest: u64,
    /// Guests of low priority.
    pub guest_nice: u64,
    /// Number of CPUs, at least one.
    pub cpus: u64,
}

/// Shares of the CPUs' time, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CpuUsage {
    /// Busy.
    pub cpu: f64,
    /// Waiting for I/O.
    pub wait: f64,
}

impl CpuTimes {
    /// Reads `/proc/stat`.
    pub fn read() -> Self {
        Self::parse(&super::text("/proc/stat")).unwrap_or_default()
    }

    /// The text of `/proc/stat`; `None` without a line of totals.
    pub fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let totals = lines.by_ref().find_map(|line| line.strip_prefix("cpu "))?;
        let mut numbers = totals.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0);
        let (user, nice, system, idle, iowait) = (next(), next(), next(), next(), next());
        let (irq, softirq, steal, guest, guest_nice) = (next(), next(), next(), next(), next());
        let is_cpu = |line: &&str| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        let cpus = u64::try_from(lines.filter(is_cpu).count()).unwrap_or(0).max(1);
        Some(Self {
            user: u64::saturating_sub(user, guest),
            nice: u64::saturating_sub(nice, guest_nice),
            system,
            idle,
            iowait,
            irq,
            softirq,
            steal,
            guest,
            guest_nice,
            cpus,
        })
    }

    /// Ticks of work.
    pub fn used(&self) -> u64 {
        let parts = [
            self.user,
            self.guest,
            self.nice,
            self.guest_nice,
            self.system,
            self.irq,
            self.softirq,
            self.steal,
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }

    /// All ticks.
    pub fn total(&self) -> u64 {
        self.used().saturating_add(self.iowait).saturating_add(self.idle)
    }
}

/// Compares readings.
#[derive(Debug, Default)]
pub struct CpuMeter {
    last: Option<Reading>,
}

#[derive(Debug, Clone, Copy)]
struct Reading {
    at: f64,
    times: CpuTimes,
    usage: Option<CpuUsage>,
}

impl CpuMeter {
    /// How busy the CPUs were since the reading before. `at` is in seconds of any steady clock. `None` until there are
    /// two readings; readings that follow too fast repeat the answer before.
    pub fn measure(&mut self, at: f64, times: CpuTimes) -> Option<CpuUsage> {
        let Some(last) = &mut self.last else {
            self.last = Some(Reading { at, times, usage: None });
            return None;
        };
        let ticks = (at - last.at) * clock_ticks() * float(times.cpus);
        if ticks > MIN_TICKS {
            let grown = |now: u64, before: u64| float(now.saturating_sub(before)).min(ticks);
            let total = grown(times.total(), last.times.total());
            let share = |part: f64| if total > 0.0 { part / total } else { 0.0 };
            let usage = CpuUsage {
                cpu: share(grown(times.used(), last.times.used())),
                wait: share(grown(times.iowait, last.times.iowait)),
            };
            *last = Reading {
                at,
                times,
                usage: Some(usage),
            };
        }
        last.usage
    }
}

/// Clock ticks per second.
pub fn clock_ticks() -> f64 {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
    // A small number.
    #[allow(clippy::cast_precision_loss)]
    ticks.map_or(100.0, |ticks| ticks as f64)
}

/// Ticks as a number to divide with: digits beyond the fifteenth do not matter.
#[allow(clippy::cast_precision_loss)]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(totals: &str) -> CpuTimes {
        let cpus = "cpu0 1 2\ncpu1 1 2\ncpu2 1 2\ncpu3 1 2\nintr 5 0\ncpux 1\n";
        CpuTimes::parse(&format!("cpu  {totals}\n{cpus}")).unwrap()
    }

    /// Reference 04 §20, vectors 15 to 17.
    #[test]
    fn usage_comes_from_two_readings() {
        let mut meter = CpuMeter::default();
        let first = stat("1000 200 300 40000 50 6 7 8 100 20");
        assert_eq!(
            (first.user, first.nice, first.used(), first.total(), first.cpus),
            (900, 180, 1521, 41571, 4)
        );
        assert_eq!(meter.measure(1000.0, first), None);
        let second = stat("2000 200 500 42600 250 6 7 8 300 20");
        assert_eq!((second.used(), second.total()), (2721, 45571));
        let usage = Some(CpuUsage { cpu: 0.3, wait: 0.05 });
        assert_eq!(meter.measure(1010.0, second), usage);
        let third = stat("2100 200 500 42900 250 6 7 8 300 20");
        assert_eq!(meter.measure(1011.0, third), usage);
    }

    #[test]
    fn readings_that_make_no_sense_are_no_usage() {
        let mut meter = CpuMeter::default();
        let times = stat("1000 200 300 40000 50 6 7 8 100 20");
        meter.measure(1000.0, times);
        assert_eq!(meter.measure(990.0, times), None, "a clock that went back");
        assert_eq!(
            meter.measure(1010.0, times),
            Some(CpuUsage { cpu: 0.0, wait: 0.0 }),
            "no tick passed"
        );
        assert_eq!(CpuTimes::parse("intr 1\n"), None);
        assert!(CpuTimes::read().total() > 0);
    }
}
