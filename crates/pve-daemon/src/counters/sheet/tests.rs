use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use super::*;

static EVENTS: Family = Family::new("x_events", "Events.", Kind::Counter, &["a=\"1\"", "a=\"2\""]);
static OPEN: Family = Family::new("x_open", "Open.", Kind::PerProcess, &[""]);
static TOOK: Family = Family::new("x_took_seconds", "Took.", Kind::Histogram(&[1000, 5000]), &[""]);
static SENT: Family = Family::new("x_sent", "Sent.", Kind::Named, &["ok=\"1\"", "ok=\"0\""]);
static FAMILIES: [&Family; 6] = [
    &EVENTS,
    &OPEN,
    &TOOK,
    &SENT,
    &super::super::own::PIDS,
    &super::super::own::BEATS,
];

fn value(reading: &Reading, name: &str, labels: &str) -> Value {
    let found = reading.series.iter().find(|s| s.name == name && s.labels == labels);
    found.unwrap().value.clone()
}

/// One test: a family has one place per process.
#[test]
fn what_is_counted_is_read_and_outlives_processes_restarts_and_new_tables() {
    let directory = tempfile::tempdir().unwrap();
    let site = pve_testing::site(directory.path(), "node1");
    let file = directory.path().join("d.metrics");
    EVENTS.increment(0);
    assert!(read(&file).is_none(), "counting without a file is no error");

    let open =
        |families: &[&'static Family], fresh| master_opens(&file, &site, ("1.2.3", RunAs::Root), families, fresh);
    open(&FAMILIES, true).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
    EVENTS.increment(0);
    EVENTS.add(1, 5);
    EVENTS.increment(2);
    TOOK.observe(0, Duration::from_micros(1000));
    TOOK.observe(0, Duration::from_millis(7));
    let child = Pid::from_raw(4242);
    let row = slots::free();
    slots::assign(row, child);
    slots::enter(row);
    let held = OPEN.hold(0);
    std::mem::forget(OPEN.hold(0));
    slots::beat();

    let reading = read(&file).unwrap();
    assert!(reading.is_running);
    assert_eq!(reading.version, "1.2.3");
    assert_eq!(reading.help["x_open"], "Open.");
    assert_eq!(value(&reading, "x_events", "a=\"1\""), Value::Counter(1));
    assert_eq!(value(&reading, "x_events", "a=\"2\""), Value::Counter(5));
    assert_eq!(value(&reading, "x_open", ""), Value::Gauge(2));
    let histogram = Histogram {
        buckets: vec![(1000, 1), (5000, 0)],
        above: 1,
        sum: 8000,
    };
    assert_eq!(value(&reading, "x_took_seconds", ""), Value::Histogram(histogram));
    assert!(reading.series.iter().all(|series| !series.name.starts_with('_')));

    SENT.add_named(0, "g1", 2);
    SENT.add_named(1, "g1", 5);
    SENT.add_named(1, "i", 7);
    let sent = || -> Vec<(String, Value)> {
        let series = read(&file).unwrap().series.into_iter();
        let sent = series.filter(|series| series.name == "x_sent");
        sent.map(|series| (series.labels, series.value)).collect()
    };
    let of = |name: &str, ok: u8, count| (format!("name=\"{name}\",ok=\"{ok}\""), Value::Counter(count));
    assert_eq!(sent(), [of("g1", 1, 2), of("g1", 0, 5), of("i", 0, 7)]);
    SENT.keep_names(&["i"]);
    SENT.add_named(0, "new", 1);
    assert_eq!(sent(), [of("new", 1, 1), of("i", 0, 7)]);
    for n in 0..40 {
        SENT.add_named(0, &format!("s{n}"), 1);
    }
    assert_eq!(
        sent().len(),
        33,
        "as many as there are places, and that of the other series"
    );
    SENT.keep_names(&["i"]);

    drop(held);
    assert_eq!(value(&read(&file).unwrap(), "x_open", ""), Value::Gauge(1));
    assert_eq!(slots::beats(child), 1);
    slots::release(child, &FAMILIES);
    assert_eq!(value(&read(&file).unwrap(), "x_open", ""), Value::Gauge(0), "killed");
    assert_eq!(slots::free(), row);

    // Another table: an upgrade. What is still counted goes on.
    static NEW: Family = Family::new("x_new", "New.", Kind::Counter, &[""]);
    let mut more = FAMILIES.to_vec();
    more.insert(0, &NEW);
    open(&more, true).unwrap();
    let reading = read(&file).unwrap();
    assert_eq!(value(&reading, "x_events", "a=\"2\""), Value::Counter(5));
    assert_eq!(value(&reading, "x_new", ""), Value::Counter(0));

    // A daemon that is gone has nothing open.
    let opened = OpenOptions::new().write(true).open(&file).unwrap();
    opened.write_all_at(&1_u64.to_ne_bytes(), 24).unwrap();
    assert!(!read(&file).unwrap().is_running);
}

use nix::unistd::Pid;

proptest::proptest! {
    #[test]
    fn any_file_is_read_without_harm(start in 0_u64..200, bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let mut file = MAGIC.to_vec();
        file.extend((start * 8).to_ne_bytes());
        file.extend(bytes);
        let _ = Content::parse(&file);
    }

    #[test]
    fn any_table_is_read_without_harm(text in "([a-z_]{1,3}\t(counter|process [0-9]{1,20}|named [0-9]{1,20}|histogram [0-9 ]{0,9})\t[a-z]*\n){0,5}") {
        let _ = rows(&text);
    }
}
