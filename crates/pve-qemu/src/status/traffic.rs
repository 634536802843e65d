//! Network counters of a VM, from the host's view of its taps turned into the guest's (reference 06b §4).

use std::collections::BTreeMap;
use std::fs;
use std::ops::Bound;

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

/// The network devices of a VM on the host, `PREFIX0`, `PREFIX1`, …, with their numbers.
pub(crate) fn of<'a>(
    all: &'a BTreeMap<String, Traffic>,
    prefix: &'a str,
) -> impl Iterator<Item = (u8, Traffic)> + use<'a> {
    let begin = all
        .range::<str, _>((Bound::Included(prefix), Bound::Unbounded))
        .take_while(move |(name, _)| name.starts_with(prefix));
    begin.filter_map(move |(name, traffic)| {
        let number = name.strip_prefix(prefix)?;
        let is_plain = number.bytes().all(|byte| byte.is_ascii_digit());
        is_plain.then(|| number.parse().ok())?.map(|number| (number, *traffic))
    })
}

/// `NAME: rx-bytes … (8 fields) tx-bytes …`; the colon may touch the first number.
fn parse(text: &str) -> BTreeMap<String, Traffic> {
    text.lines()
        .filter_map(|line| {
            // A name may hold colons itself.
            let (name, counters) = line.rsplit_once(':')?;
            let mut counters = counters.split_ascii_whitespace();
            let sent = counters.next()?.parse().ok()?;
            let received = counters.nth(7)?.parse().ok()?;
            let traffic = Traffic { received, sent };
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

    #[test]
    fn a_vm_has_the_devices_with_its_number() {
        let device = |name: &str, bytes| format!("{name}: {bytes} 0 0 0 0 0 0 0 {} 0\n", bytes * 2);
        let names = [
            "tap10i0",
            "tap105i0",
            "tap105i1",
            "tap105i31",
            "tap105i2d",
            "tap1050i0",
            "fwpr105p0",
            "vmbr0:1",
        ];
        let text: String = names.iter().zip(1..).map(|(name, at)| device(name, at)).collect();
        let all = parse(&text);
        assert_eq!(
            all.get("vmbr0:1").map(|traffic| traffic.sent),
            Some(8),
            "reference 04 §20, vector 9"
        );
        let found: Vec<_> = of(&all, "tap105i")
            .map(|(number, traffic)| (number, traffic.sent, traffic.received))
            .collect();
        assert_eq!(found, [(0, 2, 4), (1, 3, 6), (31, 4, 8)]);
    }
}
