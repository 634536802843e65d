//! Where the 60 vectors of reference 04 §20 are tested, and the line of log texts that follows them; and the one that
//! stands nowhere else.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test states what must hold")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use pve_contract::{Verb, find};
use pve_schema::check;

/// First and last vector, the file that tests them, and the test in it.
const TABLE: &[(u32, u32, &str, &str)] = &[
    (1, 3, "crates/pve-cfs/src/lock/mod.rs", "lock_ids_of_files"),
    (
        4,
        5,
        "crates/pve-cfs/src/lock/cluster.rs",
        "waits_as_long_and_as_often_as_upstream",
    ),
    (
        4,
        4,
        "crates/pve-cfs/tests/locks.rs",
        "a_held_lock_times_out_and_errors_of_the_code_come_back_unchanged",
    ),
    (6, 6, "crates/pve-cfs/src/path.rs", "modes_depend_on_the_path"),
    (7, 7, "crates/pve-cfs/src/guests.rs", "config_names"),
    (
        8,
        8,
        "crates/pve-metrics/src/told.rs",
        "lines_with_fewer_than_two_values_are_ignored",
    ),
    (9, 9, "crates/pve-node/src/status/network.rs", "names_may_hold_colons"),
    (
        10,
        10,
        "crates/pve-node/src/status/pressure.rs",
        "the_last_ten_seconds_count",
    ),
    (11, 11, "crates/pve-node/src/status/memory.rs", "kibibytes_become_bytes"),
    (
        12,
        12,
        "crates/pve-node/src/status/cpu_info.rs",
        "sockets_and_cores_are_counted",
    ),
    (13, 13, "crates/pve-lxc/src/cpuset/set.rs", "sets_are_read_and_written"),
    (14, 14, "crates/pve-storage/src/dir/mod.rs", "fields_of_the_mount_table"),
    (
        15,
        17,
        "crates/pve-node/src/status/cpu.rs",
        "usage_comes_from_two_readings",
    ),
    (
        18,
        26,
        "daemons/pvestatd/src/ballooning.rs",
        "balloons_follow_the_vectors",
    ),
    (
        27,
        27,
        "daemons/pvestatd/src/ballooning.rs",
        "some_guests_are_left_alone",
    ),
    (
        28,
        31,
        "crates/pve-api/src/nodes/node_row.rs",
        "rows_show_what_the_caller_may_see",
    ),
    (
        32,
        34,
        "crates/pve-api/src/cluster/resources/mod.rs",
        "a_guest_shows_what_its_record_says",
    ),
    (
        35,
        35,
        "crates/pve-api/src/tests/figures.rs",
        "resources_are_what_the_caller_may_see",
    ),
    (
        36,
        37,
        "crates/pve-metrics/tests/rrd.rs",
        "charts_have_a_row_per_interval_and_no_unknown_values",
    ),
    (
        38,
        38,
        "crates/pve-metrics/tests/rrd.rs",
        "a_value_holds_since_the_sample_before",
    ),
    (
        39,
        39,
        "crates/pve-metrics/tests/rrd.rs",
        "a_counter_that_starts_anew_is_not_a_negative_rate",
    ),
    (40, 40, "crates/pve-metrics/tests/rrd.rs", "a_gap_is_unknown"),
    (
        41,
        41,
        "crates/pve-metrics/src/foreign.rs",
        "records_before_9_are_filled_up",
    ),
    (
        42,
        44,
        "crates/pve-cfs/src/corosync.rs",
        "what_is_wrong_is_said_in_upstreams_words",
    ),
    (
        45,
        45,
        "crates/pve-cfs/src/corosync.rs",
        "links_become_interfaces_and_addresses",
    ),
    (
        46,
        49,
        "crates/pve-api/src/cluster/options/change.rs",
        "the_file_is_written_in_one_form",
    ),
    (
        50,
        50,
        "daemons/pvestatd/tests/vectors.rs",
        "vector_50_first_bytes_of_addresses",
    ),
    (
        51,
        51,
        "crates/pve-metrics/src/servers/tests.rs",
        "graphite_is_told_lines_of_path_value_and_time",
    ),
    (
        52,
        52,
        "crates/pve-metrics/src/servers/tests.rs",
        "influx_is_told_a_node_by_parts",
    ),
    (
        53,
        53,
        "crates/pve-metrics/src/servers/tests.rs",
        "influx_is_told_names_and_tags_as_texts",
    ),
    (
        54,
        54,
        "crates/pve-metrics/src/servers/tests.rs",
        "influx_is_told_storages_that_are_active",
    ),
    (
        55,
        55,
        "crates/pve-metrics/src/servers/tests.rs",
        "influx_is_told_numbers_bare_and_texts_in_quotes",
    ),
    (56, 57, "crates/pve-metrics/src/servers/tests.rs", "urls_of_servers"),
    (
        58,
        58,
        "crates/pve-metrics/src/servers/tests.rs",
        "opentelemetry_is_told_gauges_and_sums",
    ),
    (59, 59, "crates/pve-metrics/src/servers/tests.rs", "graphite_paths"),
    (
        60,
        60,
        "crates/pve-metrics/src/pull/export.rs",
        "a_cycle_is_so_many_entries",
    ),
    (
        47,
        47,
        "crates/pve-schema/src/simple_config.rs",
        "a_file_is_read_and_written",
    ),
    LOG_TEXTS,
];

/// The line behind the table.
const LOG_TEXTS: (u32, u32, &str, &str) = (
    61,
    61,
    "crates/pve-cfs/src/cluster_log.rs",
    "entries_are_ascii_and_nothing_is_lost_of_them",
);

#[test]
fn every_vector_has_its_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut covered = BTreeSet::new();
    for (first, last, file, test) in TABLE {
        let text = fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        let (before, _) = text
            .split_once(&format!("fn {test}("))
            .unwrap_or_else(|| panic!("{file} has no test {test}"));
        let attributes: Vec<&str> = before.trim_end().lines().rev().take(2).map(str::trim).collect();
        assert!(attributes.contains(&"#[test]"), "{file}: {test} is no test");
        covered.extend(*first..=*last);
    }
    let missing: Vec<u32> = (1..=61).filter(|vector| !covered.contains(vector)).collect();
    assert!(missing.is_empty(), "vectors without a test: {missing:?}");
}

#[test]
fn vector_50_first_bytes_of_addresses() {
    let method = find("/cluster/options", Verb::Put).unwrap();
    let schema = method.parameter("mac_prefix").unwrap().schema;
    let is_valid = |text: &str| check::text(schema, text, "mac_prefix").is_ok();
    for good in ["BC:24:11", "bc:24:11:0", "aa", "02:aa:bb:c"] {
        assert!(is_valid(good), "{good}");
    }
    for bad in ["03:00", "0", "02:aa:bb:cc"] {
        assert!(!is_valid(bad), "{bad}");
    }
}
