//! What a test's own thread has logged.

use std::cell::RefCell;
use std::sync::Once;

struct Lines;

static BEGUN: Once = Once::new();

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
    }

    fn flush(&self) {}
}

/// Begins anew.
pub(crate) fn forget() {
    BEGUN.call_once(|| {
        log::set_logger(&Lines).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    LINES.take();
}

/// All lines since, warnings and errors.
pub(crate) fn lines() -> Vec<String> {
    LINES.with_borrow(Clone::clone)
}
