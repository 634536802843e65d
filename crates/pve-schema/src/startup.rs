//! A guest's place in the order of starts: `order=3,up=10,down=5` (`formats.json`, `pve-startup-order`).

/// When a guest starts, relative to others, and how long to wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Startup {
    /// Lower starts first and stops last.
    pub order: Option<u32>,
    /// Seconds to wait after its start before the next.
    pub up: Option<u32>,
    /// Seconds to wait for its shutdown.
    pub down: Option<u32>,
}

/// A text that is no startup order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("unable to parse startup options")]
pub struct InvalidStartup;

impl std::str::FromStr for Startup {
    type Err = InvalidStartup;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text == "0" {
            return Err(InvalidStartup);
        }
        let mut startup = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or(("order", part));
            if value.is_empty() || !value.bytes().all(|b| b.is_ascii_digit()) {
                return Err(InvalidStartup);
            }
            let value = Some(value.parse().map_err(|_| InvalidStartup)?);
            match key {
                "order" => startup.order = value,
                "up" => startup.up = value,
                "down" => startup.down = value,
                _ => return Err(InvalidStartup),
            }
        }
        Ok(startup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reference 03 §8.5, vector 55.
    #[test]
    fn startup_orders_are_read() {
        let startup = |order, up, down| Ok(Startup { order, up, down });
        assert_eq!("order=3,up=10,down=5".parse(), startup(Some(3), Some(10), Some(5)));
        assert_eq!("3".parse(), startup(Some(3), None, None));
        assert_eq!("order=1,,order=2".parse(), startup(Some(2), None, None));
        for bad in ["x=1", "", "0", "order=", "up=-1", "order=99999999999"] {
            assert_eq!(bad.parse::<Startup>(), Err(InvalidStartup), "{bad}");
        }
    }
}
