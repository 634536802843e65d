//! Network counters of a VM, from the host's view of its taps turned into the guest's (reference 06b §4).

use std::collections::BTreeMap;
use std::fs;

/// Bytes that went through one network device of a guest, or all of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Bytes that the guest received: what the tap sent.
    pub received: u64,
    /// Bytes that the guest sent: what the tap received.
    pub sent: u64,
}

impl std::iter::Sum for Traffic {
    fn sum<I: Iterator<Item = Self>>(traffic: I) -> Self {
        traffic.fold(Self::default(), |sum, one| Self {
            received: sum.received.saturating_add(one.received),
            sent: sum.sent.saturating_add(one.sent),
        })
    }
}

/// The host's network devices and what went through them, as a guest behind each would see it.
pub(crate) fn read() -> BTreeMap<String, Traffic> {
    parse(&fs::read_to_string("/proc/net/dev").unwrap_or_default())
}

/// `NAME: rx-bytes … (8 fields) tx-bytes …`; the colon may touch the first number.
fn parse(text: &str) -> BTreeMap<String, Traffic> {
    text.lines()
        .filter_map(|line| {
            let (name, counters) = line.split_once(':')?;
            let counters: Vec<&str> = counters.split_ascii_whitespace().collect();
            let counter = |at: usize| counters.get(at)?.parse::<u64>().ok();
            let traffic = Traffic {
                received: counter(8)?,
                sent: counter(0)?,
            };
            Some((name.trim().to_owned(), traffic))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 06b, vector 8.
    #[test]
    fn counters_are_the_guests() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets\n\
                    tap105i0:    1000       7    0    0    0     0          0         0     2000      7 0 0 0 0 0 0\n  \
                    lo:1 2 3 4 5 6 7 8 9 10\nbad: 1 2\n";
        let traffic = parse(text);
        let expected = Traffic {
            received: 2000,
            sent: 1000,
        };
        assert_eq!(traffic.get("tap105i0"), Some(&expected));
        assert_eq!(traffic.get("lo"), Some(&Traffic { received: 9, sent: 1 }));
        assert_eq!(traffic.len(), 2);
        assert_eq!(traffic.values().copied().sum::<Traffic>().sent, 1001);
    }
}
