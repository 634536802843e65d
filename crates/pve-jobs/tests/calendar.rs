//! Calendar events: the vectors of reference 05 §18.1 and §18.2.

#![allow(clippy::unwrap_used)]

use jiff::tz::TimeZone;
use proptest::prelude::*;
use pve_jobs::calendar::{Event, InvalidEvent, next_event, upcoming, utc_text};

fn event(text: &str) -> Event {
    text.parse().unwrap()
}

/// `None` in the list: nothing comes after.
fn check(text: &str, zone: &TimeZone, last: i64, expected: &[Option<i64>]) {
    let event = event(text);
    let mut after = last;
    for next in expected {
        let got = next_event(&event, zone, after);
        assert_eq!(got, *next, "{text} after {after}");
        after = got.unwrap_or(after);
    }
}

/// The rules of the zones since 2007, so that no zone data need be installed.
fn vienna() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

fn new_york() -> TimeZone {
    TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap()
}

/// C1 to C38.
#[test]
fn events_in_utc() {
    let next = |texts: &[&str], last: i64, times: &[i64], ends: bool| {
        let mut expected: Vec<Option<i64>> = times.iter().copied().map(Some).collect();
        expected.extend(ends.then_some(None));
        for text in texts {
            check(text, &TimeZone::UTC, last, &expected);
        }
    };
    next(&["*"], 0, &[60, 120], false);
    next(&["*/15", "*:0/15"], 0, &[900, 1800, 2700], false);
    next(&["0", "hourly"], 0, &[3600, 7200], false);
    next(&["1,4,6"], 0, &[60, 240, 360, 3660], false);
    next(&["*/12:0"], 10, &[43200, 86400, 129_600], false);
    next(&["1/12:0/15"], 0, &[3600, 4500, 5400, 6300, 46800], false);
    next(
        &["mon", "Monday", "MONDAY", "weekly", "mon  UTC"],
        0,
        &[345_600, 950_400],
        false,
    );
    next(&["mon..fri 02:00"], 0, &[7200, 93600, 352_800], false);
    next(&["fri..mon"], 0, &[86400, 172_800, 259_200, 345_600, 691_200], false);
    next(&["Mon,Wed..Fri 22:30"], 0, &[81000, 167_400, 426_600, 599_400], false);
    next(&["mon..fri 22"], 0, &[1320, 4920, 8520], false);
    next(&["22/1:0"], 0, &[79200, 82800, 165_600], false);
    next(
        &["20..22:*/30"],
        0,
        &[72000, 73800, 75600, 77400, 79200, 81000, 158_400],
        false,
    );
    next(&["5..59/10"], 0, &[300, 900, 1500, 2100, 2700, 3300, 3900], false);
    next(&["*:5,10,15..20/2"], 0, &[300, 600, 900, 1020, 1140, 3900], false);
    next(&["02:30:15"], 0, &[9015, 95415], false);
    next(&["*:*:0/20"], 0, &[20, 40, 60, 80], false);
    next(&["8:00/15"], 0, &[28800, 29700, 30600, 31500, 115_200], false);
    next(&["5/0"], 0, &[300, 3900], false);
    next(&["24:00"], 0, &[1440], false);
    next(&["25:30"], 0, &[1530, 5130], false);
    next(&["monthly"], 0, &[2_678_400, 5_097_600, 7_776_000], false);
    next(&["quarterly"], 0, &[7_776_000], false);
    next(&["semi-annually", "semiannually"], 0, &[15_638_400], false);
    next(&["yearly", "annually"], 0, &[31_536_000], false);
    next(&["02-29"], 0, &[68_169_600, 194_400_000], false);
    next(&["*-05"], 0, &[345_600, 3_024_000, 5_443_200], false);
    next(&["*-01,07-15"], 0, &[1_209_600, 16_848_000, 32_745_600], false);
    next(&["sat *-1..7 15:00"], 0, &[226_800, 3_250_800, 5_670_000], false);
    next(&["*-*-31"], 0, &[2_592_000, 7_689_600, 12_960_000, 18_230_400], false);
    next(
        &["2026-8-1/10 6:00"],
        0,
        &[1_785_564_000, 1_786_428_000, 1_787_292_000, 1_788_156_000],
        true,
    );
    next(&["2020..2022-*-1 12:00"], 0, &[1_577_880_000, 1_580_558_400], false);
    next(&["*/2-1-1"], 0, &[63_072_000, 126_230_400], false);
    next(
        &["2024..2028/2-02-29 00:00"],
        1_700_000_000,
        &[1_709_164_800, 1_835_395_200],
        true,
    );
    next(&["2025-06-15 12:30"], 1_750_000_000, &[], true);
    next(&["2021-02-29", "02-30", "*-0-1", "*-2-30 10:00"], 0, &[], true);
    next(
        &["Mon..Wed,sat 8..16/4:15"],
        0,
        &[202_500, 216_900, 231_300, 375_300],
        false,
    );
    next(
        &["*-1..12/3-15 04:05:06"],
        1_750_000_000,
        &[1_752_552_306, 1_760_501_106, 1_768_449_906],
        false,
    );
    next(&["mon02:00"], 0, &[352_800], false);
    next(&["1970-01-01 00:00"], -1, &[0], true);
    next(&["minutely"], 0, &[60, 120], false);
    next(&["daily"], 0, &[86400, 172_800], false);
}

/// C39.
#[test]
fn what_is_no_event_is_refused() {
    assert_eq!("".parse::<Event>(), Err(InvalidEvent::Empty));
    assert_eq!(
        " \t".parse::<Event>().unwrap_err().to_string(),
        "unable to parse calendar event - event is empty"
    );
    for text in [
        "61",
        "*/61",
        "0..80",
        "8..5",
        "3..1:0",
        "0/90",
        "*/0",
        "10:*/0",
        "mon 0 0",
        "mon,",
        "mon..",
        "mon...fri",
        "mon, tue",
        "mon ,tue",
        "foo",
        "mond",
        "Daily",
        "daily 02:00",
        "UTC",
        "2200-1-1",
        "*-13-1",
        "1-32",
        "*-*-1..7 sat",
    ] {
        let error = text.parse::<Event>().map(|_| text).unwrap_err().to_string();
        assert!(error.starts_with("unable to parse calendar event"), "{text}: {error}");
    }
}

/// D1 to D13: Europe/Vienna.
#[test]
fn events_across_the_clock_changes_of_vienna() {
    for (text, last, expected) in [
        ("02:30", 1_774_695_600, &[1_774_830_600, 1_774_917_000][..]),
        ("03:00", 1_774_695_600, &[1_774_746_000, 1_774_832_400]),
        ("*/15", 1_774_744_200, &[1_774_745_100, 1_774_746_000, 1_774_746_900]),
        ("2..3:30", 1_774_695_600, &[1_774_747_800, 1_774_830_600, 1_774_834_200]),
        ("daily", 1_774_652_400, &[1_774_738_800, 1_774_821_600, 1_774_908_000]),
        ("mon..fri", 1_774_566_000, &[1_774_821_600, 1_774_908_000]),
        ("mon..fri UTC", 1_774_566_000, &[1_774_569_600, 1_774_828_800]),
        ("02:30", 1_792_836_000, &[1_792_888_200, 1_792_978_200]),
        ("hourly", 1_792_879_200, &[1_792_882_800, 1_792_886_400, 1_792_893_600]),
        (
            "*/15",
            1_792_885_500,
            &[
                1_792_886_400,
                1_792_887_300,
                1_792_888_200,
                1_792_889_100,
                1_792_893_600,
            ],
        ),
        ("*/15", 1_792_890_600, &[1_792_890_900, 1_792_891_800]),
        ("02:30", 1_792_890_600, &[1_792_891_800, 1_792_978_200]),
        ("daily", 1_792_792_800, &[1_792_879_200, 1_792_969_200, 1_793_055_600]),
    ] {
        let expected: Vec<Option<i64>> = expected.iter().copied().map(Some).collect();
        check(text, &vienna(), last, &expected);
    }
}

/// D14, D15: America/New_York.
#[test]
fn events_across_the_clock_changes_of_new_york() {
    check("02:30", &new_york(), 1_772_902_800, &[Some(1_773_037_800)]);
    check(
        "01:30",
        &new_york(),
        1_793_462_400,
        &[Some(1_793_511_000), Some(1_793_601_000)],
    );
}

/// Reference 05 §18.2, the example of `schedule-analyze`.
#[test]
fn schedules_are_analysed() {
    let times = upcoming(&event("*-*-1 06:00"), &TimeZone::UTC, 1_785_000_000, 1);
    assert_eq!(times, [1_785_564_000]);
    assert_eq!(utc_text(times[0]).unwrap(), "Sat Aug  1 06:00:00 2026");
    assert_eq!(upcoming(&event("2026-8-1/10 6:00"), &TimeZone::UTC, 0, 10).len(), 4);
    assert_eq!(utc_text(i64::MAX), None);
}

fn any_event() -> impl Strategy<Value = String> {
    let weekdays = prop_oneof![Just(""), Just("mon..fri "), Just("sat,sun "), Just("sun..tue ")];
    let date = prop_oneof![
        Just(""),
        Just("*-*-* "),
        Just("*-02-29 "),
        Just("*-*-28..31 "),
        Just("2020..2190/3-*-1/9 "),
        Just("3,10-24..31 "),
    ];
    let time = prop_oneof![
        Just("*"),
        Just("*/7"),
        Just("2:30"),
        Just("0..3:0/20:5"),
        Just("*/5:59:59"),
        Just("*:*:0/13"),
    ];
    let utc = prop_oneof![Just(""), Just(" UTC")];
    (weekdays, date, time, utc).prop_map(|(weekdays, date, time, utc)| format!("{weekdays}{date}{time}{utc}"))
}

/// Whether an event happens at a local time, told from the fields alone.
fn fits(event: &Event, local: &jiff::Zoned) -> bool {
    let fields = [
        (&event.year, i32::from(local.year())),
        (&event.month, local.month().into()),
        (&event.day, local.day().into()),
        (&event.hour, local.hour().into()),
        (&event.minute, local.minute().into()),
        (&event.second, local.second().into()),
    ];
    let weekday = usize::try_from(local.weekday().to_monday_zero_offset()).unwrap();
    fields
        .iter()
        .all(|(field, value)| field.contains(u16::try_from(*value).unwrap()))
        && (event.weekdays == [false; 7] || event.weekdays[weekday])
}

fn zones() -> impl Strategy<Value = TimeZone> {
    prop_oneof![Just(vienna()), Just(new_york()), Just(TimeZone::UTC)]
}

fn local(event: &Event, zone: &TimeZone, epoch: i64) -> jiff::Zoned {
    let zone = if event.utc { TimeZone::UTC } else { zone.clone() };
    jiff::Timestamp::from_second(epoch).unwrap().to_zoned(zone)
}

proptest! {
    #[test]
    fn what_comes_next_is_later_and_fits(text in any_event(), after in 0_i64..4_102_444_800, zone in zones()) {
        let event = event(&text);
        if let Some(next) = next_event(&event, &zone, after) {
            prop_assert!(next > after);
            let local = local(&event, &zone, next);
            prop_assert!(fits(&event, &local), "{} at {}", text, local);
        }
    }

    /// Where there is no overlap, nothing that fits lies between.
    #[test]
    fn nothing_is_left_out(text in any_event(), after in 0_i64..4_102_444_800) {
        let event = event(&text);
        let next = next_event(&event, &TimeZone::UTC, after).unwrap_or(i64::MAX);
        for moment in after + 1..next.min(after + 4000) {
            prop_assert!(!fits(&event, &local(&event, &TimeZone::UTC, moment)), "{} at {}", text, moment);
        }
    }

    #[test]
    fn any_time_is_answered(text in any_event(), after in any::<i64>(), zone in zones()) {
        let _ = next_event(&event(&text), &zone, after);
    }
}
