//! `/nodes/{node}/status`: what the machine is doing (reference 04 §14.4), and turning it off (09 §8).

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Instant;

use pve_cfs::Cfs;
use pve_metrics::told::node;
use pve_metrics::{Subject, ToldRecords};
use pve_node::power::{self, Power};
use pve_node::status::{self, BootInfo, CpuInfo, CpuMeter, CpuTimes, CpuUsage, FileSystem, Kernel, Memory};
use pve_rest::{ApiError, ApiResult, Call, Reply, blocking};
use pve_web_api::version::manager_version;
use serde_json::{Value, json};

use crate::access::audit;

/// What this process measured; it lasts as long as the process.
static METER: LazyLock<(Instant, Mutex<CpuMeter>)> = LazyLock::new(|| (Instant::now(), Mutex::default()));

pub(super) async fn read(call: Call) -> ApiResult {
    blocking(move || {
        let usage = match measure() {
            Some(usage) => usage,
            None => told(&call)?,
        };
        Ok::<_, ApiError>(Host::look().page(usage).into())
    })
    .await
}

/// `POST …/status`: reboots the machine, or turns it off. The guests are stopped by the unit that stops with it.
pub(super) async fn command(call: Call) -> ApiResult {
    audit::change(call, |call| {
        let word = call.params.required("command");
        let wrong = || {
            ApiError::parameter(
                "command",
                format!("value '{word}' does not have a value in the enumeration"),
            )
        };
        power::request(&call.context.site, Power::from_word(word).ok_or_else(wrong)?)?;
        Ok(Reply::null())
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

/// What the page is made of.
struct Host {
    uptime: u64,
    load: [String; 3],
    kernel: Kernel,
    boot: BootInfo,
    cpu: CpuInfo,
    user_hz: f64,
    memory: Memory,
    root: FileSystem,
}

impl Host {
    fn look() -> Self {
        Self {
            uptime: status::uptime(),
            load: status::load_average(),
            kernel: Kernel::read(),
            boot: BootInfo::read(),
            cpu: CpuInfo::of_machine().clone(),
            user_hz: status::clock_ticks(),
            memory: Memory::read(),
            root: FileSystem::root(),
        }
    }

    fn page(&self, usage: CpuUsage) -> Value {
        let Self {
            kernel, memory, root, ..
        } = self;
        json!({
            "uptime": self.uptime,
            // Upstream does not use what the kernel tells.
            "idle": 0,
            "cpu": number(usage.cpu),
            "wait": number(usage.wait),
            "loadavg": self.load,
            "kversion": format!("{} {} {}", kernel.system, kernel.release, kernel.version),
            "current-kernel": {
                "sysname": kernel.system,
                "release": kernel.release,
                "version": kernel.version,
                "machine": kernel.machine,
            },
            "boot-info": boot_info(self.boot),
            "cpuinfo": cpu_info(&self.cpu, self.user_hz),
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
}

fn number(figure: f64) -> Value {
    pve_metrics::figure::json(figure).unwrap_or_else(|| 0.into())
}

fn boot_info(boot: BootInfo) -> Value {
    let mut info = json!({ "mode": boot.mode() });
    if let Some(secure) = boot.secure_boot {
        info["secureboot"] = u8::from(secure).into();
    }
    info
}

fn cpu_info(cpu: &CpuInfo, user_hz: f64) -> Value {
    json!({
        "user_hz": number(user_hz),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of reference 04 §14.4.
    #[test]
    fn the_page_has_the_layout_that_clients_know() {
        let text = |text: &str| text.to_owned();
        let cpu = "processor : 0\nvendor_id : GenuineIntel\ncpu family : 6\nmodel name : Xeon\ncpu MHz : 2000.123\n\
            physical id : 0\ncpu cores : 4\nflags : fpu vmx sse\nprocessor : 1\n";
        let host = Host {
            uptime: 86400,
            load: ["0.50", "0.40", "0.30"].map(text),
            kernel: Kernel {
                system: text("Linux"),
                release: text("6.17.2-1-pve"),
                version: text("#1 SMP"),
                machine: text("x86_64"),
            },
            boot: BootInfo {
                efi: true,
                secure_boot: Some(false),
            },
            cpu: CpuInfo::parse(cpu),
            user_hz: 100.0,
            memory: Memory {
                total: 16_777_216_000,
                free: 2_097_152_000,
                available: 8_388_608_000,
                swap_total: 1_073_741_824,
                swap_free: 536_870_912,
                ..Memory::default()
            },
            root: FileSystem {
                total: 270_553_174_016,
                used: 13_955_678_208,
                free: 256_597_495_808,
                available: 83_617_071_104,
                ..FileSystem::default()
            },
        };
        let mut expected = json!({
            "uptime": 86400, "idle": 0, "wait": 0.001, "cpu": 0.125, "loadavg": ["0.50", "0.40", "0.30"],
            "kversion": "Linux 6.17.2-1-pve #1 SMP",
            "current-kernel": {"sysname": "Linux", "release": "6.17.2-1-pve", "version": "#1 SMP", "machine": "x86_64"},
            "boot-info": {"mode": "efi", "secureboot": 0},
            "cpuinfo": {"user_hz": 100, "vendor": "GenuineIntel", "family": "6", "model": "Xeon", "mhz": "2000.123",
                "cpus": 2, "sockets": 1, "cores": 4, "flags": "fpu vmx sse", "hvm": "1"},
            "memory": {"total": 16_777_216_000_u64, "free": 2_097_152_000, "available": 8_388_608_000_u64,
                "used": 8_388_608_000_u64},
            "ksm": {"shared": 0},
            "swap": {"total": 1_073_741_824, "free": 536_870_912, "used": 536_870_912},
            "pveversion": manager_version(),
            "rootfs": {"total": 270_553_174_016_u64, "avail": 83_617_071_104_u64, "used": 13_955_678_208_u64,
                "free": 256_597_495_808_u64},
        });
        let usage = CpuUsage {
            cpu: 0.125,
            wait: 0.001,
        };
        assert_eq!(host.page(usage), expected);

        let legacy = Host {
            boot: BootInfo {
                efi: false,
                secure_boot: None,
            },
            ..host
        };
        expected["boot-info"] = json!({"mode": "legacy-bios"});
        assert_eq!(legacy.page(usage), expected);
    }
}
