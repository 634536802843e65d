//! The text formats of Prometheus (version 0.0.4) and of OpenMetrics (1.0.0).
//!
//! Written here because the figures are: the libraries for this keep the figures of one process, and these come from all
//! processes of six daemons (docs/decisions/0014-metrics.md). What is written is read back by Prometheus' own parsers in
//! the tests.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use pve_daemon::counters::{self, Histogram, Reading, Series, Value};
use pve_schema::Site;

/// How the figures are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Prometheus' own, which everything understands.
    Plain,
    /// OpenMetrics.
    OpenMetrics,
}

impl Format {
    /// What a reader likes best of the two, by its `Accept`; one that does not say gets the plain one.
    pub(super) fn preferred(accept: &str) -> Self {
        let weight = |wanted: &[&str]| {
            let of = |range: &str| {
                let mut parts = range.split(';').map(str::trim);
                let media = parts.next()?;
                let quality = parts.find_map(|part| part.strip_prefix("q="));
                let quality = quality.map_or(Some(1.0), |text| text.parse::<f32>().ok())?;
                wanted.contains(&media).then_some(quality)
            };
            accept
                .split(',')
                .filter_map(|range| of(range.trim()))
                .fold(0.0, f32::max)
        };
        let open = weight(&["application/openmetrics-text"]);
        let plain = weight(&["text/plain", "text/*", "*/*"]);
        if open > 0.0 && open >= plain {
            Self::OpenMetrics
        } else {
            Self::Plain
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What all daemons of the node counted.
pub(super) fn text(site: &Site, format: Format) -> String {
    let all = counters::DAEMONS
        .iter()
        .filter_map(|(daemon, pid_file)| Some((*daemon, counters::read(site, pid_file)?)));
    render(&all.collect::<Vec<_>>(), format)
}

/// A family, and its series by daemon.
struct Family<'a> {
    help: &'a str,
    series: Vec<(&'a str, &'a Series)>,
}

fn render(all: &[(&str, Reading)], format: Format) -> String {
    let mut page = Page {
        text: String::new(),
        format,
    };
    page.head("pve_up", "gauge", "Whether the daemon runs.");
    for (daemon, reading) in all {
        page.line("pve_up", daemon, "", u64::from(reading.is_running));
    }
    page.head("pve_build_info", "gauge", "Which version the daemon is of.");
    for (daemon, reading) in all {
        let version = format!("version=\"{}\"", escaped(&reading.version));
        page.line("pve_build_info", daemon, &version, 1);
    }
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    for (daemon, reading) in all {
        for series in &reading.series {
            let help = reading.help.get(&series.name).map_or("", String::as_str);
            let empty = || Family {
                help,
                series: Vec::new(),
            };
            let family = families.entry(&series.name).or_insert_with(empty);
            family.series.push((daemon, series));
        }
    }
    for (name, family) in families {
        page.family(name, &family);
    }
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

struct Page {
    text: String,
    format: Format,
}

impl Page {
    fn family(&mut self, name: &str, family: &Family<'_>) {
        let kind = match family.series.first().map(|(_, series)| &series.value) {
            Some(Value::Counter(_) | Value::Micros(_)) => "counter",
            Some(Value::Histogram(_)) => "histogram",
            _ => "gauge",
        };
        // A counter's name ends so; OpenMetrics wants the family without it.
        let total = format!("{name}_total");
        let head = match (kind, self.format) {
            ("counter", Format::Plain) => total.as_str(),
            _ => name,
        };
        self.head(head, kind, family.help);
        for (daemon, series) in &family.series {
            let labels = &series.labels;
            match &series.value {
                Value::Counter(count) => self.line(&total, daemon, labels, count),
                Value::Micros(time) => self.line(&total, daemon, labels, seconds(*time)),
                Value::Gauge(value) => self.line(name, daemon, labels, value),
                Value::Histogram(histogram) => self.histogram(name, daemon, labels, histogram),
            }
        }
    }

    fn histogram(&mut self, name: &str, daemon: &str, labels: &str, histogram: &Histogram) {
        let bucket = format!("{name}_bucket");
        let comma = if labels.is_empty() { "" } else { "," };
        let mut count = 0_u64;
        for (bound, within) in &histogram.buckets {
            count = count.saturating_add(*within);
            let labels = format!("{labels}{comma}le=\"{}\"", seconds(*bound));
            self.line(&bucket, daemon, &labels, count);
        }
        count = count.saturating_add(histogram.above);
        self.line(&bucket, daemon, &format!("{labels}{comma}le=\"+Inf\""), count);
        self.line(&format!("{name}_sum"), daemon, labels, seconds(histogram.sum));
        self.line(&format!("{name}_count"), daemon, labels, count);
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail.
        let _ = write!(
            self.text,
            "# HELP {name} {}\n# TYPE {name} {kind}\n",
            help.replace('\\', "\\\\").replace('\n', "\\n")
        );
    }

    fn line(&mut self, name: &str, daemon: &str, labels: &str, value: impl std::fmt::Display) {
        let comma = if labels.is_empty() { "" } else { "," };
        let _ = writeln!(self.text, "{name}{{daemon=\"{daemon}\"{comma}{labels}}} {value}");
    }
}

/// Microseconds as seconds, exactly.
fn seconds(micros: u64) -> String {
    let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
    let short = text.trim_end_matches('0');
    // OpenMetrics wants bounds like 1.0.
    if short.ends_with('.') {
        format!("{short}0")
    } else {
        short.to_owned()
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading() -> Reading {
        let series = |name: &str, labels: &str, value| Series {
            name: name.to_owned(),
            labels: labels.to_owned(),
            value,
        };
        let histogram = Histogram {
            buckets: vec![(500, 2), (1_000_000, 1)],
            above: 1,
            sum: 1_234_567,
        };
        Reading {
            is_running: true,
            version: "1\"2".to_owned(),
            help: [("x_seen".to_owned(), "Seen.".to_owned())].into(),
            series: vec![
                series("x_seen", "a=\"b\"", Value::Counter(7)),
                series("x_open", "", Value::Gauge(3)),
                series("x_busy_seconds", "", Value::Micros(1_500_000)),
                series("x_took_seconds", "", Value::Histogram(histogram)),
            ],
        }
    }

    #[test]
    fn both_formats_name_counters_in_their_way() {
        let all = [("one", reading()), ("two", reading())];
        let plain = render(&all, Format::Plain);
        let expected = "\
# HELP x_seen_total Seen.
# TYPE x_seen_total counter
x_seen_total{daemon=\"one\",a=\"b\"} 7
x_seen_total{daemon=\"two\",a=\"b\"} 7
";
        assert!(plain.contains(expected), "{plain}");
        assert!(plain.contains("x_busy_seconds_total{daemon=\"two\"} 1.5\n"), "{plain}");
        assert!(
            plain.contains("pve_build_info{daemon=\"one\",version=\"1\\\"2\"} 1\n"),
            "{plain}"
        );
        assert!(!plain.contains("EOF"));
        let open = render(&all, Format::OpenMetrics);
        assert!(
            open.contains("# TYPE x_seen counter\nx_seen_total{daemon=\"one\",a=\"b\"} 7\n"),
            "{open}"
        );
        assert!(open.ends_with("# EOF\n"));
    }

    #[test]
    fn buckets_add_up() {
        let expected = "\
# TYPE x_took_seconds histogram
x_took_seconds_bucket{daemon=\"d\",le=\"0.0005\"} 2
x_took_seconds_bucket{daemon=\"d\",le=\"1.0\"} 3
x_took_seconds_bucket{daemon=\"d\",le=\"+Inf\"} 4
x_took_seconds_sum{daemon=\"d\"} 1.234567
x_took_seconds_count{daemon=\"d\"} 4
";
        let text = render(&[("d", reading())], Format::Plain);
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn the_reader_chooses_the_format() {
        for (accept, format) in [
            ("", Format::Plain),
            ("*/*", Format::Plain),
            ("text/html", Format::Plain),
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            ("text/plain;q=0.9, application/openmetrics-text; q=0.5", Format::Plain),
            ("application/openmetrics-text;q=0", Format::Plain),
        ] {
            assert_eq!(Format::preferred(accept), format, "{accept}");
        }
    }
}
