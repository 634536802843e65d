//! How long each monitor command may take (reference 06b §5).

use std::time::Duration;

/// Commands that only ask or set something.
const DEFAULT: Duration = Duration::from_secs(5);
/// Commands after which a device appears or disappears.
const DEVICE: Duration = Duration::from_secs(60);
/// `guest-fsfreeze-thaw`: file systems write back what waited.
const THAW: Duration = Duration::from_secs(180);
/// Block jobs, and commands that wait until I/O in flight is done.
const BLOCK_JOB: Duration = Duration::from_secs(600);
/// Commands that wait for a guest's file systems or for a whole migration.
const HOUR: Duration = Duration::from_secs(3600);
/// Human monitor commands.
pub(super) const HUMAN: Duration = Duration::from_secs(25);
/// `guest-ping`: an agent that needs longer is no help.
const PING: Duration = Duration::from_secs(3);

/// How long a command may take.
pub(super) fn of(command: &str) -> Duration {
    match command {
        "eject"
        | "change"
        | "blockdev-add"
        | "blockdev-insert-medium"
        | "block-export-add"
        | "device_add"
        | "device_del"
        | "netdev_add"
        | "netdev_del"
        | "object-add"
        | "object-del"
        | "quit"
        | "block_resize" => DEVICE,
        "guest-fsfreeze-thaw" => THAW,
        "block-commit"
        | "block-stream"
        | "blockdev-del"
        | "blockdev-mirror"
        | "blockdev-reopen"
        | "blockdev-remove-medium"
        | "block-export-del"
        | "block-job-cancel"
        | "job-complete"
        | "drive-mirror"
        | "guest-fstrim"
        | "guest-shutdown"
        | "query-block-jobs"
        | "query-savevm"
        | "backup-cancel"
        | "query-backup" => BLOCK_JOB,
        "query-migrate"
        | "guest-fsfreeze-freeze"
        | "blockdev-snapshot-internal-sync"
        | "blockdev-snapshot-delete-internal-sync" => HOUR,
        "guest-ping" => PING,
        "human-monitor-command" | "nbd-server-stop" => HUMAN,
        _ if command.starts_with("savevm-") => BLOCK_JOB,
        _ => DEFAULT,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_have_their_own_limits() {
        let cases = [
            ("query-status", 5),
            ("quit", 60),
            ("blockdev-add", 60),
            ("guest-fsfreeze-thaw", 180),
            ("savevm-start", 600),
            ("guest-shutdown", 600),
            ("query-migrate", 3600),
            ("guest-ping", 3),
            ("human-monitor-command", 25),
        ];
        for (command, seconds) in cases {
            assert_eq!(of(command).as_secs(), seconds, "{command}");
        }
    }
}
