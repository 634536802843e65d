//! Real QEMU takes the command lines: each guest comes up stopped, answers on its monitor, and goes.
//!
//! SKIP where `qemu-system-x86_64` is missing.

#![allow(clippy::unwrap_used)]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::Guest;
use pve_qemu::accel::Accel;
use pve_qemu::command::{BlockDriver, StartMode};
use pve_qemu::config::DriveKey;
use serde_json::{Value, json};

/// How long a stopped guest may take to come up or to go.
const LIMIT: Duration = Duration::from_secs(60);

/// The installed QEMU's version.
fn installed() -> Option<String> {
    let output = Command::new("qemu-system-x86_64").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split("version ")
        .nth(1)?
        .split_whitespace()
        .next()
        .map(str::to_owned)
}

/// Whether QEMU has its SPICE parts.
fn has_spice() -> bool {
    let output = Command::new("qemu-system-x86_64")
        .args(["-display", "none", "-device", "help"])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).contains("name \"qxl\"")
}

struct Lab {
    directory: tempfile::TempDir,
    qemu: String,
}

impl Lab {
    fn new() -> Option<Self> {
        let Some(qemu) = installed() else {
            println!("SKIP: qemu-system-x86_64 is not installed");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("run/qemu-server")).unwrap();
        Some(Self { directory, qemu })
    }

    /// Starts a config, asks the guest for its devices, and ends it.
    fn check(&self, name: &str, text: &str) {
        let mut guest = Guest::new(text).on(&self.qemu, Accel::Tcg);
        guest.host.program = PathBuf::from("qemu-system-x86_64");
        guest.host.spice = has_spice();
        guest.host.io_uring = false;
        guest.site.root = self.directory.path().to_path_buf();
        guest.site.address = pve_testing::loopback(1);
        guest.mode = StartMode::Paused;
        if pve_qemu::command::needs_spice(&guest.request()) && !self.make_certificates() {
            println!("SKIP: {name} needs openssl");
            return;
        }
        self.make_images(&mut guest);
        let command = guest.build().unwrap();
        let output = Command::new(&command.program)
            .args(&command.arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {errors}\n{}", command.for_shell());
        assert!(errors.lines().all(is_harmless), "{name}: {errors}");

        let drives: Vec<DriveKey> = guest.backings.keys().copied().filter(|key| key.is_bootable()).collect();
        let mut monitor = Monitor::connect(&self.directory.path().join("run/qemu-server/8006.qmp"));
        assert_eq!(
            monitor.ask(json!({ "execute": "query-status" }))["status"],
            "prelaunch",
            "{name}"
        );
        let nodes = monitor.ask(json!({ "execute": "query-named-block-nodes" })).to_string();
        for key in drives {
            assert!(nodes.contains(&format!("\"drive-{key}\"")), "{name}: {nodes}");
        }
        monitor.ask(json!({ "execute": "quit" }));
        self.wait_for_end(name);
    }

    /// Puts a small image where the config expects a volume.
    fn make_images(&self, guest: &mut Guest) {
        for (key, backing) in &mut guest.backings {
            let path = self.directory.path().join(format!("{key}.img"));
            let status = Command::new("qemu-img")
                .args(["create", "-q", "-f", &backing.format, path.to_str().unwrap(), "1M"])
                .status()
                .unwrap();
            assert!(status.success());
            backing.driver = BlockDriver::File(path);
        }
    }

    /// A certificate for SPICE.
    fn make_certificates(&self) -> bool {
        let local = self.directory.path().join("etc/pve/local");
        std::fs::create_dir_all(&local).unwrap();
        let (key, certificate) = (local.join("pve-ssl.key"), local.join("pve-ssl.pem"));
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=n1", "-days", "2", "-keyout",
            ])
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .output()
            .is_ok_and(|output| output.status.success());
        made && std::fs::copy(&certificate, self.directory.path().join("etc/pve/pve-root-ca.pem")).is_ok()
    }

    fn wait_for_end(&self, name: &str) {
        let pid_file = self.directory.path().join("run/qemu-server/8006.pid");
        pve_testing::wait_for(&format!("the end of {name}"), || !pid_file.exists());
    }
}

/// What QEMU may say without being at fault.
fn is_harmless(line: &str) -> bool {
    line.trim().is_empty() || line.contains("TCG doesn't support requested feature") || line.contains("deprecated")
}

struct Monitor(BufReader<UnixStream>);

impl Monitor {
    fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut monitor = Self(BufReader::new(stream));
        assert!(monitor.read()["QMP"].is_object());
        monitor.ask(json!({ "execute": "qmp_capabilities" }));
        monitor
    }

    fn read(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// The answer of a command; events are passed over.
    fn ask(&mut self, command: Value) -> Value {
        self.0.get_mut().write_all(format!("{command}\n").as_bytes()).unwrap();
        loop {
            let mut answer = self.read();
            assert!(answer.get("error").is_none(), "{command}: {answer}");
            if answer.get("event").is_none() {
                return answer["return"].take();
            }
        }
    }
}

#[test]
fn real_qemu_takes_the_command_lines() {
    let Some(lab) = Lab::new() else { return };
    let cases = [
        ("nothing", "memory: 64\n"),
        (
            "linux",
            "agent: 1\nboot: order=scsi0;ide2;net0\ncores: 2\ncpu: x86-64-v2-AES\nide2: local:iso/d.iso,media=cdrom\n\
             memory: 64\nname: web1\nnet0: virtio=BC:24:11:00:00:01\nostype: l26\nrng0: source=/dev/urandom\n\
             scsi0: l-x:d,discard=on,iothread=1,ssd=1,serial=a%2Cb\nscsihw: virtio-scsi-single\n\
             smbios1: base64=1,manufacturer=QWNtZSwgSW5j,uuid=0b0ad0f4-5f1b-4d94-9e4b-3a0f6a2b1c3d\n\
             vmgenid: 8f0b5c1e-2c44-4f0b-9a3c-2d1f8f6a5b4c\nwatchdog: model=i6300esb,action=reset\n",
        ),
        (
            "q35",
            "machine: q35\nide0: l-x:a\nide2: none,media=cdrom\nsata0: l-x:b,cache=writeback\nmemory: 64\n\
             net0: e1000=BC:24:11:00:00:01\nostype: win10\nscsi0: l-x:c\nscsi20: l-x:e\nvirtio0: l-x:f.qcow2,iothread=1,mbps=10,mbps_max=20\n\
             virtio9: l-x:g\nnet7: virtio=BC:24:11:00:00:02,queues=4\nivshmem: size=1\n",
        ),
        (
            "serial",
            "memory: 64\nserial0: socket\nvga: serial0\nkvm: 0\nvirtio0: l-x:d,aio=threads\n\
             net0: virtio=BC:24:11:00:00:01,link_down=1\n",
        ),
        (
            "headless",
            "memory: 64\nvga: none\nkeyboard: de\nfreeze: 1\nacpi: 0\nreboot: 0\nballoon: 0\n",
        ),
        (
            "hotplug",
            "memory: 2048\nnuma: 1\nsockets: 2\ncores: 2\nvcpus: 3\nhotplug: cpu,memory,disk\n",
        ),
        (
            "numa",
            "memory: 128\nnuma: 1\ncores: 4\nnuma0: cpus=0-1,memory=64\nnuma1: cpus=2;3,memory=64\nostype: l26\n",
        ),
        (
            "controllers",
            "memory: 64\nscsihw: virtio-scsi-pci\nscsi0: l-x:d,product=abc,vendor=x,wwn=0x5000c50015ea71ad\n\
             scsi3: none,media=cdrom\nvga: virtio,memory=32\nusb0: spice\nostype: l26\naudio0: device=ich9-intel-hda\n",
        ),
        (
            "lsi",
            "memory: 64\nscsihw: lsi53c810\nscsi0: l-x:d\nscsi8: l-x:e\nvga: cirrus\nwatchdog: ib700\n",
        ),
        (
            "spice",
            "memory: 64\nvga: qxl2\nostype: win10\naudio0: device=AC97\nspice_enhancements: foldersharing=1\n",
        ),
        ("clipboard", "memory: 64\nvga: std,clipboard=vnc\n"),
        (
            "old",
            "memory: 64\nmachine: pc-i440fx-7.2\nostype: wxp\nnet0: rtl8139=BC:24:11:00:00:04\ntdf: 1\n",
        ),
        (
            "viommu",
            "memory: 64\nmachine: q35,viommu=virtio\nmeta: creation-qemu=10.0.2,ctime=1\nostype: l26\n",
        ),
        ("intel viommu", "memory: 64\nmachine: q35,viommu=intel,aw-bits=48\n"),
        (
            "megasas",
            "memory: 64\nscsihw: megasas\nscsi0: l-x:d,rerror=report,werror=stop\nvga: vmware\n",
        ),
        (
            "pvscsi",
            "memory: 64\nscsihw: pvscsi\nscsi0: l-x:d\nscsi9: l-x:e\nagent: 1,type=isa\n",
        ),
    ];
    for (name, text) in cases {
        lab.check(name, text);
    }
}
