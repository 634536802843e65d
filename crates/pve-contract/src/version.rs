//! The release whose contract is spoken, as the API tells it (reference 10c, "version").

use crate::RELEASE;

/// The release as most clients compare it: `9.2`.
pub fn short_release() -> &'static str {
    let end = RELEASE.match_indices('.').nth(1).map_or(RELEASE.len(), |(at, _)| at);
    RELEASE.get(..end).unwrap_or(RELEASE)
}

/// Tells builds apart: this suite's own version, as the hex digits that clients expect.
pub fn build_id() -> String {
    let version = env!("CARGO_PKG_VERSION").bytes();
    let digits: String = version.map(|byte| format!("{byte:02x}")).collect();
    format!("{digits:0>8}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_can_read_the_version() {
        assert!(RELEASE.starts_with("9.") && RELEASE.split('.').all(|part| part.parse::<u32>().is_ok()));
        let short = short_release();
        assert!(RELEASE.starts_with(short) && short.split('.').count() == 2, "{short}");
        let id = build_id();
        assert!((8..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
}
