//! How long QEMU may take to come up (reference 06b §6.1 step 7).

use std::time::Duration;

/// What the time depends on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// Memory in MiB.
    pub memory: u64,
    /// Number of network cards.
    pub nets: u64,
    /// Whether devices of the host are passed through: their memory is pinned, all of it, before the guest runs.
    pub passthrough: bool,
    /// Whether a saved state is loaded.
    pub resuming: bool,
    /// Whether memory comes from huge pages, which are zeroed first.
    pub hugepages: bool,
}

/// How long QEMU may take to come up.
pub(crate) fn of(load: Load) -> Duration {
    let mut seconds = if load.memory > 30720 { load.memory / 1024 } else { 30 };
    if load.passthrough {
        seconds = seconds.saturating_mul(4);
    }
    if load.resuming {
        seconds = seconds.max(300);
    }
    if load.hugepages {
        seconds = seconds.max(150);
    }
    Duration::from_secs(seconds.saturating_add(load.nets.saturating_mul(5)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 06b, vector 1.
    #[test]
    fn timeouts_follow_the_vectors() {
        let load = |memory, nets| Load {
            memory,
            nets,
            ..Load::default()
        };
        let passthrough = |load| Load {
            passthrough: true,
            ..load
        };
        let cases = [
            (load(2048, 2), 40),
            (load(65536, 2), 74),
            (passthrough(load(2048, 0)), 120),
            (passthrough(load(65536, 0)), 256),
            (
                Load {
                    resuming: true,
                    ..load(128, 0)
                },
                300,
            ),
            (load(30720, 0), 30),
            (load(30721, 0), 30),
            (load(40960, 0), 40),
            (
                Load {
                    hugepages: true,
                    ..load(512, 1)
                },
                155,
            ),
        ];
        for (load, seconds) in cases {
            assert_eq!(of(load).as_secs(), seconds, "{load:?}");
        }
    }
}
