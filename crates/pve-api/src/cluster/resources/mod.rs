//! `GET /cluster/resources` (reference 04 §15.2): everything there is, in one list that all clients poll.

pub(crate) mod ha;
mod networks;

use std::collections::BTreeMap;

use pve_access::AccessControl;
use pve_cfs::{Cfs, GuestEntry, GuestKind};
use pve_metrics::told::{guest, storage};
use pve_metrics::{Subject, Told, ToldRecords};
use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_schema::ids::{AuthId, NodeName};
use pve_storage::{StorageConfig, Storages};
use serde_json::{Map, Value, json};

use crate::nodes::node_row::node_row;
use ha::HaStates;
use networks::Networks;

type Row = Map<String, Value>;

/// The figures of a guest's row: key, and place in the record.
const GUEST_FIGURES: [(&str, usize); 12] = [
    ("uptime", guest::UPTIME),
    ("template", guest::TEMPLATE),
    ("maxcpu", guest::CPUS),
    ("cpu", guest::CPU),
    ("maxmem", guest::MEMORY_TOTAL),
    ("mem", guest::MEMORY_USED),
    ("maxdisk", guest::DISK_TOTAL),
    ("disk", guest::DISK_USED),
    ("netin", guest::RECEIVED),
    ("netout", guest::SENT),
    ("diskread", guest::READ),
    ("diskwrite", guest::WRITTEN),
];

/// `GET /cluster/resources`
pub(super) async fn list(call: Call) -> ApiResult {
    blocking(move || {
        let view = View::open(&call)?;
        let wanted = call.params.text("type");
        let shows = |kind: &str| wanted.is_none_or(|wanted| wanted == kind);
        let mut rows = Vec::new();
        if wanted.is_none() {
            view.add_pools(&mut rows);
        }
        if shows("vm") {
            view.add_guests(&mut rows)?;
        }
        if shows("node") {
            view.add_nodes(&mut rows)?;
        }
        if shows("storage") {
            view.add_storages(&mut rows, &Storages::open(&call.context)?);
        }
        if shows("sdn") {
            let networks = Networks::load(&view.cfs.status())?;
            let may = |privilege: &str, path: &str| view.may(privilege, path);
            rows.extend(networks.sdn_rows(may));
            if wanted.is_none() {
                rows.extend(networks.rows(&view.nodes, may));
            }
        }
        Ok::<_, ApiError>(Value::from(rows).into())
    })
    .await
}

/// What the rows are made of, and for whom.
struct View {
    access: AccessControl,
    who: AuthId,
    cfs: Cfs,
    ha: HaStates,
    nodes: Vec<NodeName>,
    guests: Vec<GuestEntry>,
    records: ToldRecords,
}

impl View {
    fn open(call: &Call) -> Result<Self, ApiError> {
        let cfs = Cfs::new(&call.context);
        Ok(Self {
            access: AccessControl::load(&call.context)?,
            who: call.auth_id(),
            ha: HaStates::load(&cfs)?,
            nodes: cfs.nodes()?,
            guests: cfs.guests()?,
            records: ToldRecords::load(&cfs, call.context.now())?,
            cfs,
        })
    }

    fn may(&self, privilege: &str, path: &str) -> bool {
        self.access.has(&self.who, path, &[privilege])
    }

    fn guest_record(&self, entry: &GuestEntry) -> Option<&Told> {
        self.records.get(&Subject::Guest(entry.vmid))
    }

    /// Pools with the sum of what their running guests use, whether the caller sees these or not.
    fn add_pools(&self, rows: &mut Vec<Row>) {
        for (name, pool) in &self.access.config().pools {
            if !self.may("Pool.Audit", &format!("/pool/{name}")) {
                continue;
            }
            let members = self
                .guests
                .iter()
                .filter(|entry| pool.vms.contains(&entry.vmid.get().into()));
            let records = members.filter_map(|entry| self.guest_record(entry));
            let mut row = object(json!({ "id": format!("/pool/{name}"), "pool": name, "type": "pool" }));
            if let Some(sum) = PoolSum::of(records) {
                row.append(&mut sum.fields());
            }
            rows.push(row);
        }
    }

    fn add_guests(&self, rows: &mut Vec<Row>) -> Result<(), ApiError> {
        let mut entries: Vec<_> = self
            .guests
            .iter()
            .map(|entry| (entry.vmid.to_string(), entry))
            .collect();
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        for (vmid, entry) in entries {
            if !self.may("VM.Audit", &format!("/vms/{vmid}")) {
                continue;
            }
            let options = self.cfs.listed_options(entry)?;
            let mut row = guest_row(entry, self.guest_record(entry), &options);
            if let Some(state) = self.ha.of_guest(entry) {
                row.insert("hastate".to_owned(), state.into());
            }
            let pool = self.access.config().pool_of(entry.vmid.get().into());
            if let Some(pool) = pool.filter(|pool| self.may("Pool.Audit", &format!("/pool/{pool}"))) {
                row.insert("pool".to_owned(), pool.into());
            }
            rows.push(row);
        }
        Ok(())
    }

    fn add_nodes(&self, rows: &mut Vec<Row>) -> Result<(), ApiError> {
        let facts = self.cfs.status().of_nodes("kv/static-info")?;
        for node in &self.nodes {
            let audit = self.may("Sys.Audit", &format!("/nodes/{node}"));
            let online = self.cfs.is_online(node.as_str())?;
            let record = self.records.get(&Subject::Node(node.clone()));
            let mut row = node_row(node.as_str(), record, online, audit);
            let told = facts
                .get(node)
                .and_then(|told| serde_json::from_slice::<Value>(told).ok());
            for key in ["cgroup-mode", "host-arch"] {
                if let Some(value) = told.as_ref().and_then(|told| told.get(key)) {
                    row.insert(key.to_owned(), value.clone());
                }
            }
            if let Some(state) = self.ha.of_node(node.as_str()) {
                row.insert("hastate".to_owned(), state.into());
            }
            rows.push(row);
        }
        Ok(())
    }

    fn add_storages(&self, rows: &mut Vec<Row>, storages: &Storages) {
        for config in storages.iter().filter(|config| !config.is_disabled()) {
            if !self.may("Datastore.Audit", &format!("/storage/{}", config.id)) {
                continue;
            }
            for node in self.nodes.iter().filter(|node| config.is_for_node(node)) {
                let subject = Subject::Storage(node.clone(), config.id.clone());
                rows.push(storage_row(config, node, self.records.get(&subject)));
            }
        }
    }
}

/// A guest's row. Without a record there is no name: nobody has looked at the guest yet.
pub(crate) fn guest_row(entry: &GuestEntry, record: Option<&Told>, options: &BTreeMap<String, String>) -> Row {
    let mut row = object(json!({
        "id": format!("{}/{}", entry.kind, entry.vmid),
        "vmid": entry.vmid.get(),
        "node": entry.node.as_str(),
        "type": entry.kind.as_str(),
        "status": record.and_then(|record| record.text(guest::STATUS)).unwrap_or("unknown"),
    }));
    row.extend(options.iter().map(|(key, value)| (key.clone(), value.as_str().into())));
    let Some(record) = record else { return row };
    if let Some(name) = record.text(guest::NAME) {
        row.insert("name".to_owned(), name.into());
    }
    row.extend(GUEST_FIGURES.map(|(key, at)| (key.to_owned(), record.number(at))));
    // Nodes of releases before 9.0 do not tell.
    if record.has(guest::HOST_MEMORY) {
        let host_memory = match entry.kind {
            GuestKind::Qemu => record.number(guest::HOST_MEMORY),
            GuestKind::Lxc => 0.into(),
        };
        row.insert("memhost".to_owned(), host_memory);
    }
    row
}

/// A storage's row for one node.
pub(crate) fn storage_row(config: &StorageConfig, node: &NodeName, record: Option<&Told>) -> Row {
    let mut row = object(json!({
        "id": format!("storage/{node}/{}", config.id),
        "storage": config.id.as_str(),
        "node": node.as_str(),
        "type": "storage",
        "plugintype": config.kind.as_str(),
        "content": config.get("content").unwrap_or_default(),
        "shared": u8::from(config.is_shared()),
        "status": if record.is_some() { "available" } else { "unknown" },
    }));
    if let Some(record) = record {
        row.insert("maxdisk".to_owned(), record.number(storage::TOTAL));
        row.insert("disk".to_owned(), record.number(storage::USED));
    }
    row
}

/// What the running guests of a pool use together.
#[derive(Default)]
struct PoolSum {
    uptime: f64,
    memory: f64,
    memory_total: f64,
    cpus: f64,
    cpu: f64,
}

impl PoolSum {
    /// `None` if none runs.
    fn of<'a>(records: impl Iterator<Item = &'a Told>) -> Option<Self> {
        let mut sum: Option<Self> = None;
        for record in records {
            let figure = |at| record.figure(at).unwrap_or(0.0);
            if figure(guest::UPTIME) <= 0.0 {
                continue;
            }
            let sum = sum.get_or_insert_default();
            sum.uptime = sum.uptime.max(figure(guest::UPTIME));
            sum.memory += figure(guest::MEMORY_USED);
            sum.memory_total += figure(guest::MEMORY_TOTAL);
            let cpus = sum.cpus + figure(guest::CPUS);
            if cpus > 0.0 {
                sum.cpu = (sum.cpu * sum.cpus + figure(guest::CPU) * figure(guest::CPUS)) / cpus;
            }
            sum.cpus = cpus;
        }
        sum
    }

    fn fields(&self) -> Row {
        let fields = [
            ("uptime", self.uptime),
            ("mem", self.memory),
            ("maxmem", self.memory_total),
            ("maxcpu", self.cpus),
            ("cpu", self.cpu),
        ];
        let json = |(key, figure): (&str, f64)| Some((key.to_owned(), pve_metrics::figure::json(figure)?));
        fields.into_iter().filter_map(json).collect()
    }
}

/// The map of a JSON object.
pub(super) fn object(value: Value) -> Row {
    match value {
        Value::Object(map) => map,
        _ => Row::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(vmid: u32) -> GuestEntry {
        GuestEntry {
            vmid: vmid.try_into().unwrap(),
            node: "pve1".parse().unwrap(),
            kind: GuestKind::Qemu,
        }
    }

    /// Reference 04 §20, vectors 32 to 34.
    #[test]
    fn a_guest_shows_what_its_record_says() {
        let record = "0:db:stopped:0:1700000000:2:U:2147483648:U:34359738368:0:U:U:U:U:U:U:U:U:U:U:U";
        assert_eq!(
            Value::from(guest_row(&vm(101), Told::parse(record).as_ref(), &BTreeMap::new())),
            json!({"cpu":0,"disk":0,"diskread":0,"diskwrite":0,"id":"qemu/101","maxcpu":2,
                "maxdisk":34_359_738_368_i64,"maxmem":2_147_483_648_i64,"mem":0,"memhost":0,"name":"db","netin":0,
                "netout":0,"node":"pve1","status":"stopped","template":0,"type":"qemu","uptime":0,"vmid":101})
        );
        let before_9 = "50:db:running:0:1700000000:2:0.5:10:5:20:0:1:2:3:4";
        let row = guest_row(&vm(102), Told::parse(before_9).as_ref(), &BTreeMap::new());
        assert_eq!(
            Value::from(row),
            json!({"cpu":0.5,"disk":0,"diskread":3,"diskwrite":4,"id":"qemu/102","maxcpu":2,"maxdisk":20,"maxmem":10,
                "mem":5,"name":"db","netin":1,"netout":2,"node":"pve1","status":"running","template":0,"type":"qemu",
                "uptime":50,"vmid":102})
        );
        assert_eq!(
            Value::from(guest_row(&vm(103), None, &BTreeMap::new())),
            json!({"id":"qemu/103","node":"pve1","status":"unknown","type":"qemu","vmid":103})
        );
    }

    #[test]
    fn a_pool_sums_up_its_running_guests() {
        let records = [
            "10:a:running:0:1:2:0.5:100:50:0:0",
            "20:b:running:0:1:6:0.1:200:60:0:0",
            "0:c:stopped:0:1:8:U:400:U:0:0",
        ]
        .map(|record| Told::parse(record).unwrap());
        let sum = PoolSum::of(records.iter()).unwrap();
        assert_eq!(
            Value::from(sum.fields()),
            json!({"uptime": 20, "mem": 110, "maxmem": 300, "maxcpu": 8, "cpu": 0.2})
        );
        assert!(PoolSum::of(records[2..].iter()).is_none());
    }
}
