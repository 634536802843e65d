//! Between which ages a ticket is good (reference 02 §6.2, §6.3).

/// Seconds that a log-in ticket lives.
pub const TICKET_LIFETIME: i64 = 7200;
/// Seconds that clocks may differ, and that a ticket outlives a change of key.
pub const GRACE: i64 = 300;
/// Seconds after which the key is replaced.
pub const KEY_LIFETIME: i64 = 86_400;

/// Ages in seconds, both exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Youngest; negative for tickets from the future.
    pub min: i64,
    /// Oldest.
    pub max: i64,
}

/// The window of consoles and tunnels, and of SPICE.
pub const SHORT: Window = Window { min: -20, max: 40 };

/// The window of CSRF prevention tokens.
pub const CSRF: Window = Window {
    min: -GRACE,
    max: TICKET_LIFETIME,
};

/// The window of log-in tickets for the current key; `None` if it accepts nothing. Whether there is a quorum is asked
/// only of a key that is overdue.
pub fn current(now: i64, key_mtime: i64, quorate: impl FnOnce() -> bool) -> Option<Window> {
    let key_age = (now - key_mtime).max(0);
    let mut window = Window {
        min: -GRACE,
        max: TICKET_LIFETIME,
    };
    if key_age > KEY_LIFETIME {
        if quorate() {
            window.min = key_age - KEY_LIFETIME;
        } else {
            log::warn!("no quorum - using outdated auth key to verify ticket");
        }
    } else if key_age < TICKET_LIFETIME {
        // Nothing is older than the key, but for the grace.
        window.max = key_age + GRACE;
    }
    (window.min <= TICKET_LIFETIME).then_some(window)
}

/// The window of log-in tickets for the key before the last rotation; `key_mtime` is the time of that rotation.
pub fn old(now: i64, key_mtime: i64) -> Option<Window> {
    let key_age = (now - key_mtime).max(0);
    let window = Window {
        min: key_age - GRACE,
        max: TICKET_LIFETIME,
    };
    (window.min <= TICKET_LIFETIME).then_some(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 02 §16, vectors 38 to 42.
    #[test]
    fn windows_follow_the_keys_age() {
        let window = |min, max| Some(Window { min, max });
        for (now, mtime, expected) in [
            (1000, 1000, window(-300, 300)),
            (4600, 1000, window(-300, 3900)),
            (8199, 1000, window(-300, 7499)),
            (8200, 1000, window(-300, 7200)),
            (87_400, 1000, window(-300, 7200)),
            (87_401, 1000, window(1, 7200)),
            (100_000, 1000, None),
            (1000, 2000, window(-300, 300)),
        ] {
            assert_eq!(current(now, mtime, || true), expected, "{now} {mtime}");
        }
        assert_eq!(current(100_000, 1000, || false), window(-300, 7200));
        assert_eq!(old(1100, 1000), window(-200, 7200));
        assert_eq!(old(8500, 1000), window(7200, 7200));
        assert_eq!(old(8501, 1000), None);
    }
}
