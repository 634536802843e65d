//! Texts that follow from the time of day, made once a second rather than once a request.

use std::sync::{Mutex, PoisonError};

/// The last one, and the second that it is of.
#[derive(Debug)]
pub(crate) struct OfSecond<T>(Mutex<Option<(i64, T)>>);

impl<T: Clone> OfSecond<T> {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// What `make` makes of a time in Unix seconds, or made of it before.
    pub(crate) fn get(&self, now: i64, make: impl FnOnce(i64) -> T) -> T {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((second, text)) if *second == now => text.clone(),
            _ => {
                let text = make(now);
                *last = Some((now, text.clone()));
                text
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_own_text() {
        let texts = OfSecond::new();
        let shown: Vec<String> = [7, 7, 8, 7].map(|now| texts.get(now, |now| now.to_string())).into();
        assert_eq!(shown, ["7", "7", "8", "7"]);
        assert_eq!(texts.get(7, |_| "never asked".to_owned()), "7");
    }
}
