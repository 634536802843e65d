//! The order in which guests start with their node (reference 06a §3.4).

use std::str::FromStr;

use crate::error::GuestError;

/// `[[order=]N][,up=N][,down=N]`
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Startup {
    /// Guests start in rising order and stop in falling order.
    pub order: Option<u32>,
    /// Seconds to wait after the start before the next guest starts.
    pub up: Option<u32>,
    /// Seconds that a shutdown may take.
    pub down: Option<u32>,
}

impl FromStr for Startup {
    type Err = GuestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text == "0" {
            return Err(GuestError::Startup);
        }
        let mut startup = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, number) = part.split_once('=').unwrap_or(("order", part));
            let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
            let number = digits
                .then(|| number.parse().ok())
                .flatten()
                .ok_or(GuestError::Startup)?;
            match key {
                "order" => startup.order = Some(number),
                "up" => startup.up = Some(number),
                "down" => startup.down = Some(number),
                _ => return Err(GuestError::Startup),
            }
        }
        Ok(startup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_may_come_alone() {
        let startup = |order, up, down| Startup { order, up, down };
        let cases = [
            ("3", startup(Some(3), None, None)),
            ("order=3,up=30,down=60", startup(Some(3), Some(30), Some(60))),
            ("up=5", startup(None, Some(5), None)),
        ];
        for (text, expected) in cases {
            assert_eq!(text.parse::<Startup>().unwrap(), expected, "{text}");
        }
        for bad in ["order=x", "", "0", "later=3", "-1"] {
            assert!(bad.parse::<Startup>().is_err(), "{bad}");
        }
    }
}
