//! The vectors of reference 04 §20 that are about metric servers, and rules that they leave out.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use super::config::{Servers, Settings};
use super::value::{Look, is_plain, is_scientific, look};
use super::{Origin, Server};
use crate::snapshot::{Object, Objects, Snapshot};

const TIME: i64 = 1_700_000_000;

fn server(text: &str) -> Server {
    let servers = Servers::parse(text.as_bytes());
    servers.iter().next().unwrap().clone()
}

fn graphite() -> Server {
    server("graphite: g\n\tserver 10.0.0.5\n")
}

fn influx() -> Server {
    server("influxdb: i\n\tserver inf.example\n\tport 8089\n")
}

fn otlp(options: &str) -> Server {
    server(&format!(
        "opentelemetry: o\n\tserver otel.example\n\totel-compression none\n{options}"
    ))
}

fn origin() -> Origin {
    Origin {
        node: "pve1".parse().unwrap(),
        cluster: None,
        version: "9.2.11/0123abcd".to_owned(),
    }
}

fn object(value: Value) -> Object {
    value.as_object().unwrap().clone()
}

fn snapshot(objects: Objects) -> Snapshot {
    Snapshot { time: TIME, objects }
}

fn node(value: Value) -> Snapshot {
    snapshot(Objects::Node(object(value)))
}

fn vm(value: Value) -> Snapshot {
    snapshot(Objects::Qemu(BTreeMap::from([(
        100.try_into().unwrap(),
        object(value),
    )])))
}

fn storages(rows: &[(&str, Value)]) -> Snapshot {
    let row = |(id, value): &(&str, Value)| (id.parse().unwrap(), object(value.clone()));
    snapshot(Objects::Storage(rows.iter().map(row).collect()))
}

/// Everything that a server is told, as text.
fn told(server: &Server, snapshot: &Snapshot) -> String {
    String::from_utf8(server.encode(&origin(), snapshot).concat()).unwrap()
}

/// Vector 51.
#[test]
fn graphite_is_told_lines_of_path_value_and_time() {
    assert_eq!(
        told(
            &graphite(),
            &node(json!({"nics": {"vmbr0.10": {"receive": 111, "type": "physical"}}}))
        ),
        "proxmox.nodes.pve1.nics.vmbr0-10.receive 111 1700000000\n"
    );
    let row = json!({"vmid": 100, "name": "12", "status": "running", "pid": 7, "template": 1, "serial": 1, "cpu": 0.25,
        "agent": 1, "big": 1e18, "tiny": 0.000_000_1, "exp": "1e3", "on": true, "none": null, "list": [1],
        "blockstat": {"scsi0": {"rd_bytes": 5, "pid": 3}}});
    assert_eq!(
        told(&server("graphite: g\n\tserver h\n\tpath lab.pve\n"), &vm(row)),
        "lab.pve.qemu.100.big 1000000000000000000 1700000000\n\
         lab.pve.qemu.100.blockstat.scsi0.rd_bytes 5 1700000000\n\
         lab.pve.qemu.100.cpu 0.25 1700000000\n\
         lab.pve.qemu.100.name 12 1700000000\n\
         lab.pve.qemu.100.on 1 1700000000\n\
         lab.pve.qemu.100.tiny 0.0000001 1700000000\n\
         lab.pve.qemu.100.vmid 100 1700000000\n"
    );
    let rows = storages(&[
        ("local", json!({"total": 9, "active": 1, "type": "dir"})),
        ("nfs", json!({"total": 0, "active": 0})),
    ]);
    assert_eq!(
        told(&graphite(), &rows),
        "proxmox.storages.pve1.local.active 1 1700000000\nproxmox.storages.pve1.local.total 9 1700000000\n"
    );
}

/// Vector 52.
#[test]
fn influx_is_told_a_node_by_parts() {
    let row = json!({"uptime": 86400, "nics": {"eno1": {"receive": 333, "transmit": 444, "type": "physical"}}});
    assert_eq!(
        told(&influx(), &node(row)),
        "nics,object=nodes,host=pve1,instance=eno1 receive=333,transmit=444,type=\"physical\" 1700000000000000000\n\
         system,object=nodes,host=pve1 uptime=86400 1700000000000000000\n"
    );
}

/// Vector 53.
#[test]
fn influx_is_told_names_and_tags_as_texts() {
    let row = json!({"vmid": 100, "name": "web 01", "cpus": 2, "lock": "backup", "tags": "prod;web",
        "running-qemu": "10.1.2"});
    assert_eq!(
        told(&influx(), &vm(row)),
        "system,object=qemu,vmid=100,nodename=pve1,host=web\\ 01 cpus=2,lock=\"backup\",name=\"web 01\",\
         running-qemu=\"10.1.2\",tags=\"prod;web\" 1700000000000000000\n"
    );
    // Numbers only by their looks; what is deeper than an instance loses its path.
    let row = json!({"vmid": 100, "name": "7", "tags": "8", "blockstat": {"scsi0": {"rd_bytes": 1, "x": {"deep": 2}}}});
    assert_eq!(
        told(&influx(), &vm(row)),
        "blockstat,object=qemu,vmid=100,nodename=pve1,host=7,instance=scsi0 rd_bytes=1,deep=2 1700000000000000000\n\
         system,object=qemu,vmid=100,nodename=pve1,host=7 name=\"7\",tags=\"8\" 1700000000000000000\n"
    );
}

/// Vector 54.
#[test]
fn influx_is_told_storages_that_are_active() {
    let row = json!({"total": 1000, "avail": 600, "used": 400, "active": 1, "enabled": 1, "shared": 0, "type": "dir",
        "content": "iso,vztmpl"});
    let rows = storages(&[("local", row), ("nfs", json!({"active": 0, "total": 0}))]);
    assert_eq!(
        told(&influx(), &rows),
        "system,object=storages,nodename=pve1,host=local,type=dir active=1,avail=600,content=\"iso,vztmpl\",enabled=1,\
         shared=0,total=1000,type=\"dir\",used=400 1700000000000000000\n"
    );
}

/// Vector 55, and what would break the protocol.
#[test]
fn influx_is_told_numbers_bare_and_texts_in_quotes() {
    let field = |value: &str| {
        let line = told(&influx(), &node(json!({"a": value, "z": 1})));
        let fields = line.strip_prefix("system,object=nodes,host=pve1 ").unwrap();
        let fields = fields.strip_suffix(" 1700000000000000000\n").unwrap();
        let field = fields.strip_suffix("z=1").unwrap().trim_end_matches(',');
        field.strip_prefix("a=").map(str::to_owned)
    };
    for (value, expected) in [
        ("1e3", Some("1e3")),
        ("0x10", Some("\"0x10\"")),
        ("a\"b", Some("\"a\\\"b\"")),
        ("nan", None),
        ("-Infinity", None),
        (".5", Some(".5")),
        ("5.", Some("5.")),
        ("+5", Some("5")),
        ("-5", Some("-5")),
        ("", None),
        ("1_000", Some("\"1_000\"")),
        ("e3", Some("\"e3\"")),
        ("a\\", Some("\"a\\\\\"")),
    ] {
        assert_eq!(field(value).as_deref(), expected, "{value}");
    }
    let odd = json!({"a b": {"c,d\\": {"e=f": 1}}});
    assert_eq!(
        told(&influx(), &node(odd)),
        "a\\ b,object=nodes,host=pve1,instance=c\\,d/ e\\=f=1 1700000000000000000\n"
    );
}

/// Vectors 56 and 57.
#[test]
fn urls_of_servers() {
    let url = |text: &str| match server(text).settings {
        Settings::Influx(settings) => match settings.way {
            super::config::InfluxWay::Http(http) => (http.write_url(), http.health_url()),
            super::config::InfluxWay::Udp { .. } => panic!("no HTTP"),
        },
        Settings::Otlp(settings) => (settings.url, String::new()),
        Settings::Graphite(_) => panic!("no HTTP"),
    };
    let inf = |options: &str| url(&format!("influxdb: i\n\tserver inf.example\n\tport 8086\n{options}"));
    assert_eq!(
        inf("\tinfluxdbproto https\n"),
        (
            "https://inf.example:8086/api/v2/write?org=proxmox&bucket=proxmox".to_owned(),
            "https://inf.example:8086/health".to_owned()
        )
    );
    for prefix in ["influx", "/influx", "//influx/"] {
        let options = format!("\tinfluxdbproto http\n\tapi-path-prefix {prefix}\n\torganization o\n\tbucket b\n");
        assert_eq!(
            inf(&options),
            (
                "http://inf.example:8086/influx/api/v2/write?org=o&bucket=b".to_owned(),
                "http://inf.example:8086/influx/health".to_owned()
            )
        );
    }
    let otel = |options: &str| url(&format!("opentelemetry: o\n\tserver otel.example\n{options}")).0;
    assert_eq!(otel(""), "https://otel.example:4318/v1/metrics");
    assert_eq!(otel("\totel-protocol http\n"), "http://otel.example:4317/v1/metrics");
    assert_eq!(otel("\tport 1\n\totel-path x/y\n"), "https://otel.example:1/x/y");
    assert_eq!(
        url("opentelemetry: o\n\tserver 2001:db8::1\n").0,
        "https://[2001:db8::1]:4318/v1/metrics"
    );
}

fn metrics(server: &Server, snapshot: &Snapshot) -> Vec<Value> {
    let body: Value = serde_json::from_str(&told(server, snapshot)).unwrap();
    body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
        .as_array()
        .unwrap()
        .clone()
}

/// Vector 58.
#[test]
fn opentelemetry_is_told_gauges_and_sums() {
    let row = json!({"uptime": 86400, "cpustat": {"user": 1000, "cpu": 0.5}, "blockstat": {"per": 40},
        "nics": {"eno1": {"receive": 333, "type": "physical"}}});
    let text = told(&otlp(""), &node(row.clone()));
    let head = r#"{"resourceMetrics":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"proxmox-ve"}},{"key":"service.version","value":{"stringValue":"9.2.11/0123abcd"}},{"key":"proxmox.cluster","value":{"stringValue":"single-node"}},{"key":"proxmox.node","value":{"stringValue":"pve1"}}]},"scopeMetrics":[{"scope":{},"metrics":["#;
    assert_eq!(text.get(..head.len()), Some(head));
    let uptime = r#"{"name":"proxmox_node_uptime","unit":"seconds","gauge":{"dataPoints":[{"timeUnixNano":1700000000000000000,"asInt":86400,"attributes":[{"key":"node","value":{"stringValue":"pve1"}}]}]}}"#;
    assert!(text.contains(uptime), "{text}");
    let user = r#"{"name":"proxmox_node_cpustat_user_total","unit":"seconds","sum":{"dataPoints":[{"timeUnixNano":1700000000000000000,"asInt":1000,"attributes":[{"key":"node","value":{"stringValue":"pve1"}}]}],"aggregationTemporality":2,"isMonotonic":true}}"#;
    assert!(text.contains(user), "{text}");

    let point = |metric: &Value, kind: &str| {
        let mut point = metric[kind]["dataPoints"][0].clone();
        let attributes = point["attributes"].take();
        let attribute = |pair: &Value| (pair["key"].clone(), pair["value"]["stringValue"].clone());
        let attributes: Vec<_> = attributes.as_array().unwrap().iter().map(attribute).collect();
        (
            metric["name"].clone(),
            metric["unit"].clone(),
            point["asInt"].clone(),
            attributes,
        )
    };
    let metrics = metrics(&otlp(""), &node(row));
    assert_eq!(metrics.len(), 5);
    assert_eq!(
        point(&metrics[0], "gauge"),
        (
            json!("proxmox_node_blockstat_per"),
            json!("percent"),
            json!(40),
            vec![(json!("node"), json!("pve1"))]
        )
    );
    assert_eq!(metrics[1]["gauge"]["dataPoints"][0]["asDouble"], json!(0.5));
    assert_eq!(
        point(&metrics[4], "sum"),
        (
            json!("proxmox_node_network_receive_total"),
            json!("bytes"),
            json!(333),
            vec![(json!("node"), json!("pve1")), (json!("device"), json!("eno1"))]
        )
    );
}

#[test]
fn opentelemetry_is_told_who_a_guest_and_a_storage_are() {
    let row = json!({"vmid": 100, "name": "web", "status": "running", "pid": 7, "diskread": 5, "tags": "1", "ctime": 9,
        "blockstat": {"scsi0": {"wr_total_time_ns": 3, "failed_rd_operations": 0, "account_failed": true}}});
    let found = metrics(&otlp(""), &vm(row));
    let names: Vec<&str> = found.iter().map(|metric| metric["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "proxmox_vm_blockstat_scsi0_account_failed",
            "proxmox_vm_blockstat_scsi0_failed_rd_operations_total",
            "proxmox_vm_blockstat_scsi0_wr_total_time_ns_total",
            "proxmox_vm_diskread_total",
        ]
    );
    let attribute = |key: &str, text: &str| json!({"key": key, "value": {"stringValue": text}});
    assert_eq!(
        found[3]["sum"]["dataPoints"][0]["attributes"],
        json!([
            attribute("vmid", "100"),
            attribute("node", "pve1"),
            attribute("name", "web"),
            attribute("type", "qemu")
        ])
    );
    let found = metrics(
        &otlp(""),
        &storages(&[("local", json!({"active": 1, "total": 9, "type": "dir"}))]),
    );
    assert_eq!(found.len(), 2);
    assert_eq!(
        found[1]["gauge"]["dataPoints"][0]["attributes"],
        json!([attribute("node", "pve1"), attribute("storage", "local")])
    );
}

#[test]
fn opentelemetry_requests_stay_below_the_limit() {
    let many: serde_json::Map<String, Value> = (0..200).map(|n| (format!("k{n:03}"), json!(n))).collect();
    let many = node(Value::Object(many));
    let small = otlp("\totel-max-body-size 2048\n");
    let bodies = small.encode(&origin(), &many);
    assert!(bodies.len() > 10 && bodies.iter().all(|body| body.len() <= 2048));
    let names = |bodies: &[Vec<u8>]| -> Vec<Value> {
        let metrics = bodies.iter().flat_map(|body| {
            let body: Value = serde_json::from_slice(body).unwrap();
            let metrics = body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"]
                .as_array()
                .unwrap();
            metrics.iter().map(|metric| metric["name"].clone()).collect::<Vec<_>>()
        });
        metrics.collect()
    };
    let whole = otlp("").encode(&origin(), &many);
    assert_eq!(whole.len(), 1);
    assert_eq!(names(&bodies), names(&whole), "each is told once");

    // One metric alone is larger than the limit: they go one by one.
    let attributes =
        "\totel-max-body-size 1024\n\totel-resource-attributes ".to_owned() + &base64(&json!({"a": "x".repeat(700)}));
    let single = otlp(&(attributes + "\n")).encode(&origin(), &many);
    assert_eq!(single.len(), 200);
    assert_eq!(names(&single), names(&whole));
}

fn base64(value: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(value.to_string())
}

#[test]
fn opentelemetry_bodies_are_compressed_unless_told_otherwise() {
    let server = server(&format!(
        "opentelemetry: o\n\tserver h\n\totel-resource-attributes {}\n",
        base64(&json!({"site": "lab", "rack": 7}))
    ));
    let bodies = server.encode(&origin(), &node(json!({"uptime": 1})));
    let mut text = String::new();
    GzDecoder::new(bodies[0].as_slice()).read_to_string(&mut text).unwrap();
    let body: Value = serde_json::from_str(&text).unwrap();
    let attributes = body["resourceMetrics"][0]["resource"]["attributes"].as_array().unwrap();
    assert_eq!(
        attributes.get(4..).unwrap(),
        [
            json!({"key": "rack", "value": {"stringValue": "7"}}),
            json!({"key": "site", "value": {"stringValue": "lab"}})
        ]
    );
}

#[test]
fn batches_end_below_the_limit_and_lines_stay_whole() {
    let many: serde_json::Map<String, Value> = (0..300).map(|n| (format!("key{n:03}"), json!(n))).collect();
    let many = node(json!({"cpustat": many}));
    for (options, limit) in [("", 1450), ("\tmtu 512\n", 462), ("\tproto tcp\n", 56_000)] {
        let server = server(&format!("graphite: g\n\tserver h\n{options}"));
        let batches = server.encode(&origin(), &many);
        assert!(
            batches
                .iter()
                .all(|batch| batch.len() < limit && batch.ends_with(b"\n")),
            "{options}"
        );
        let lines = batches.concat().iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, 300, "{options}");
        // As full as may be: another line would reach the limit.
        let longest = 60;
        let full = batches.split_last().unwrap().1;
        assert!(full.iter().all(|batch| batch.len() + longest > limit), "{options}");
    }
    let long = server("influxdb: i\n\tserver h\n\tport 1\n\tmtu 512\n");
    let batches = long.encode(&origin(), &many);
    assert_eq!(batches.len(), 1, "a line that is too long goes alone, whole");
    assert!(batches[0].len() > 512);
}

#[test]
fn nothing_to_tell_is_no_request() {
    for server in [graphite(), influx(), otlp("")] {
        assert!(server.encode(&origin(), &storages(&[])).is_empty());
        assert!(server.encode(&origin(), &node(json!({"name": []}))).is_empty());
    }
}

#[test]
fn numbers_are_told_from_texts() {
    for (text, plain, scientific, number) in [
        ("5", true, true, true),
        ("+.5", true, true, true),
        ("5.", false, false, true),
        ("-1.25", true, true, true),
        ("1e3", false, true, true),
        ("1.5E-3", false, true, true),
        ("1e", false, false, false),
        ("", false, false, false),
        (".", false, false, false),
        ("1.2.3", false, false, false),
        ("--1", false, false, false),
        ("1 ", false, false, false),
        ("٣", false, false, false),
    ] {
        assert_eq!(is_plain(text), plain, "{text}");
        assert_eq!(is_scientific(text), scientific, "{text}");
        assert_eq!(look(text) == Look::Number, number, "{text}");
    }
}

/// Vector 59, by the check that the method's parameter has.
#[test]
fn graphite_paths() {
    let format = |path: &str| Servers::parse(format!("graphite: g\n\tserver h\n\tpath {path}\n").as_bytes());
    let path = |servers: &Servers| match &servers.iter().next().unwrap().settings {
        Settings::Graphite(settings) => settings.path.clone(),
        _ => panic!("no Graphite"),
    };
    assert_eq!(path(&format("a.b-c")), "a.b-c");
    for bad in ["-a", "a-", "a..b", "a_b", ""] {
        assert_eq!(path(&format(bad)), "proxmox", "{bad}");
    }
    let schema = pve_contract::method(pve_contract::id::POST_CLUSTER_METRICS_SERVER_ID)
        .parameter("path")
        .unwrap()
        .schema;
    let check = |text: &str| pve_schema::check::text(schema, text, "path");
    check("a.b-c").unwrap();
    for bad in ["-a", "a-", "a..b", "a_b", ""] {
        let error = check(bad).unwrap_err();
        assert!(
            error.contains("value does not look like a valid graphite path"),
            "{bad}: {error}"
        );
    }
}

#[test]
fn an_old_token_comes_back_when_the_change_fails() {
    use super::{ServerError, edit};
    let root = tempfile::tempdir().unwrap();
    let cfs = pve_cfs::Cfs::new(&pve_testing::context(root.path(), "n1"));
    cfs.ensure_tree().unwrap();
    cfs.write(&edit::token_file("i"), b"old").unwrap();
    let failed = || Err(ServerError::NoSuchServer("i".to_owned()));
    for new in [Some("new"), None] {
        assert!(edit::replace_token(&cfs, "i", new, failed).is_err());
        assert_eq!(edit::token(&cfs, "i").unwrap().as_deref(), Some("old"));
    }
    edit::replace_token(&cfs, "i", Some("new"), || Ok(())).unwrap();
    assert_eq!(edit::token(&cfs, "i").unwrap().as_deref(), Some("new"));
}
