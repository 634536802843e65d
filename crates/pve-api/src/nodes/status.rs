//! `GET /nodes/{node}/status` (reference 04 §14.4)

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use pve_cfs::Cfs;
use pve_metrics::told::node;
use pve_metrics::{Subject, ToldRecords};
use pve_node::status::{self, BootInfo, CpuInfo, CpuMeter, CpuTimes, CpuUsage, FileSystem, Kernel, Memory};
use pve_rest::{ApiError, ApiResult, Call, blocking};
use pve_web_api::version::manager_version;
use serde_json::{Value, json};

/// What this process measured; it lasts as long as the process.
static METER: LazyLock<(Instant, Mutex<CpuMeter>)> = LazyLock::new(|| (Instant::now(), Mutex::default()));

pub(super) async fn read(call: Call) -> ApiResult {
    blocking(move || {
        let usage = match measure() {
            Some(usage) => usage,
            None => told(&call)?,
        };
        Ok::<_, ApiError>(page(usage).into())
    })
    .await
}

/// How busy the CPUs were since the last question to this process.
fn measure() -> Option<CpuUsage> {
    let (since, meter) = &*METER;
    let mut meter = meter.lock().unwrap_or_else(PoisonError::into_inner);
    meter.measure(since.elapsed().as_secs_f64(), CpuTimes::read())
}

/// How busy the CPUs were when the statistics daemon looked: a worker that was just born has no reading to compare with.
fn told(call: &Call) -> Result<CpuUsage, ApiError> {
    let records = ToldRecords::load(&Cfs::new(&call.context), call.context.now())?;
    let record = records.get(&Subject::Node(call.context.site.node.clone()));
    let figure = |at| record.and_then(|record| record.figure(at)).unwrap_or(0.0);
    Ok(CpuUsage {
        cpu: figure(node::CPU),
        wait: figure(node::WAIT),
    })
}

fn page(usage: CpuUsage) -> Value {
    let (kernel, boot, cpu) = (Kernel::read(), BootInfo::read(), CpuInfo::read());
    let (memory, root) = (Memory::read(), FileSystem::root());
    let number = |share| pve_metrics::figure::json(share).unwrap_or_else(|| 0.into());
    let mut boot_info = json!({ "mode": boot.mode() });
    if let Some(secure) = boot.secure_boot {
        boot_info["secureboot"] = u8::from(secure).into();
    }
    json!({
        "uptime": status::uptime(),
        // Upstream does not use what the kernel tells.
        "idle": 0,
        "cpu": number(usage.cpu),
        "wait": number(usage.wait),
        "loadavg": status::load_average(),
        "kversion": format!("{} {} {}", kernel.system, kernel.release, kernel.version),
        "current-kernel": {
            "sysname": kernel.system,
            "release": kernel.release,
            "version": kernel.version,
            "machine": kernel.machine,
        },
        "boot-info": boot_info,
        "cpuinfo": cpu_info(&cpu),
        "memory": {
            "total": memory.total,
            "free": memory.free,
            "available": memory.available,
            "used": memory.used(),
        },
        "ksm": { "shared": memory.shared },
        "swap": { "total": memory.swap_total, "free": memory.swap_free, "used": memory.swap_used() },
        "pveversion": manager_version(),
        "rootfs": {
            "total": root.total,
            "used": root.used,
            "avail": root.available,
            "free": root.total.saturating_sub(root.used),
        },
    })
}

fn cpu_info(cpu: &CpuInfo) -> Value {
    json!({
        "user_hz": pve_metrics::figure::json(status::clock_ticks()),
        "vendor": cpu.vendor,
        "family": cpu.family,
        "model": cpu.model,
        "mhz": cpu.mhz,
        "cpus": cpu.cpus,
        "sockets": cpu.sockets,
        "cores": cpu.cores,
        "flags": cpu.flags,
        "hvm": if cpu.has_virtualisation() { "1" } else { "" },
    })
}
