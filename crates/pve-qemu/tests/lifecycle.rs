//! A VM's life with the real QEMU. The guests sit in their firmware, or run a handful of instructions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod lab;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use lab::{Daemon, Lab, Lines};
use nix::sys::signal::Signal;
use pve_cfs::Cfs;
use pve_node::console::is_listening;
use pve_qemu::console::{spice, vnc};
use pve_qemu::events::Exit;
use pve_qemu::power::{self, stop};
use pve_qemu::process::Process;
use pve_qemu::status::{self, Detail};
use pve_qemu::{cleanup, destroy, process, qmp, resize, runtime, start};
use pve_schema::Context;
use pve_schema::ids::VmId;
use pve_testing::guest::{OBEY_BUTTON, OBEYS};
use pve_testing::wait_for;
use serde_json::Value;

/// Waits for about two seconds – whoever watches is connected by then – and powers off.
const POWER_OFF: &[u8] = &[
    0xfb, 0xb8, 0x40, 0x00, 0x8e, 0xd8, 0x8b, 0x1e, 0x6c, 0x00, // sti; mov bx, [0x40:0x6c]: the clock's ticks
    0xf4, 0x8b, 0x0e, 0x6c, 0x00, 0x29, 0xd9, 0x83, 0xf9, 0x24, 0x72, 0xf4, // hlt; until 36 of them have passed
    0xba, 0x04, 0x06, 0xb8, 0x00, 0x20, 0xef, // out 0x604, 0x2000: SLP_EN
    0xf4, 0xeb, 0xfd, // hlt, for ever
];

fn order(way: stop::Way, timeout: u64, force: bool) -> stop::Order {
    stop::Order {
        way,
        timeout: Some(Duration::from_secs(timeout)),
        force,
        skip_lock: false,
        keep_active: false,
    }
}

fn status_of(lab: &Lab) -> Value {
    Value::Object(status::current(&lab.context, lab.vmid).unwrap())
}

/// The guest runs the program on its disk, and the button works.
fn wait_for_program(lab: &Lab) {
    wait_for("the program obeys", || {
        let page = status_of(lab);
        page["blockstat"]["virtio0"]["rd_bytes"].as_u64().unwrap_or(0) >= OBEYS
    });
}

/// Stops all threads of a process. The signal alone stops the one that takes it; the one that greets at the monitor may
/// go on for a while on a busy machine.
fn freeze(process: Process) {
    process.signal(Signal::SIGSTOP);
    wait_for("all threads stand still", || {
        let threads = fs::read_dir(format!("/proc/{}/task", process.pid)).unwrap();
        // One that has ended meanwhile stands still, too.
        let mut states = threads.filter_map(|thread| fs::read_to_string(thread.unwrap().path().join("stat")).ok());
        states.all(|stat| stat.rsplit(')').next().unwrap().trim_start().starts_with('T'))
    });
}

#[test]
fn a_vm_starts_stands_goes_on_and_stops() {
    let lab = Lab::new(1);
    lab.configure(lab.vmid, "balloon: 16\nname: one\n");
    let lines = lab.start(lab.vmid);
    assert!(lines.text().contains("starting QEMU..."), "{}", lines.text());
    let page = status_of(&lab);
    assert_eq!(
        (&page["status"], &page["qmpstatus"]),
        (&"running".into(), &"running".into())
    );
    assert_eq!(
        (&page["pid"], &page["name"]),
        (&lab.process().pid.into(), &"one".into())
    );
    assert!(
        page["mem"].as_u64() > Some(0) && page["running-qemu"].as_str().is_some(),
        "{page}"
    );
    let machine = page["running-machine"].as_str().unwrap();
    assert!(
        machine.starts_with("pc-i440fx-") && machine.contains("+pve"),
        "{machine}"
    );

    // Reference 06b, vector 5.
    let again = start::start(
        &lab.context,
        lab.vmid,
        &start::Options::default(),
        &mut Lines::default(),
    );
    assert_eq!(again.unwrap_err().to_string(), "VM 105 already running");

    power::pause(&lab.context, lab.vmid, false).unwrap();
    assert_eq!(status_of(&lab)["qmpstatus"], "paused");
    assert!(power::is_paused(&lab.context, lab.vmid));
    power::resume(&lab.context, lab.vmid, false).unwrap();
    assert_eq!(status_of(&lab)["qmpstatus"], "running");
    power::reset(&lab.context, lab.vmid, false).unwrap();
    power::send_key(&lab.context, lab.vmid, "ctrl-alt-delete").unwrap();
    let unknown = power::send_key(&lab.context, lab.vmid, "nokey")
        .unwrap_err()
        .to_string();
    assert!(unknown.contains("nokey"), "{unknown}");

    // Reference 06b, vector 6.
    let refused = destroy::check(&lab.context, lab.vmid, false).unwrap_err().to_string();
    assert_eq!(refused, "VM 105 is running - destroy failed");

    stop::stop(
        &lab.context,
        lab.vmid,
        order(stop::Way::Quit, 30, true),
        &mut Lines::default(),
    )
    .unwrap();
    assert!(!lab.is_running() && lab.is_clean());
    // Reference 06b, vector 4.
    stop::stop(
        &lab.context,
        lab.vmid,
        order(stop::Way::Quit, 30, true),
        &mut Lines::default(),
    )
    .unwrap();
    assert_eq!(
        power::check_running(&lab.context, lab.vmid).unwrap_err().to_string(),
        "VM 105 not running"
    );
    assert_eq!(status_of(&lab)["status"], "stopped");
}

/// Reference 06b, vector 4.
#[test]
fn a_guest_that_ignores_its_power_button_is_left_or_forced() {
    let lab = Lab::new(2);
    lab.configure(lab.vmid, "");
    lab.start(lab.vmid);
    let asked = order(stop::Way::Shutdown, 1, false);
    let error = stop::stop(&lab.context, lab.vmid, asked, &mut Lines::default()).unwrap_err();
    assert_eq!(error.to_string(), "VM quit/powerdown failed - got timeout");
    assert!(lab.is_running());

    let failed = power::reboot(
        &lab.context,
        lab.vmid,
        Some(Duration::from_secs(1)),
        &mut Lines::default(),
    );
    assert!(failed.is_err() && !lab.runtime_file("reboot").exists());

    let mut lines = Lines::default();
    stop::stop(&lab.context, lab.vmid, order(stop::Way::Shutdown, 1, true), &mut lines).unwrap();
    assert!(
        lines.text().contains("VM still running - terminating now with SIGTERM"),
        "{}",
        lines.text()
    );
    assert!(!lab.is_running() && lab.is_clean());
}

#[test]
fn locks_protection_and_templates_are_respected() {
    let lab = Lab::new(3);
    let try_start = || {
        let result = start::start(
            &lab.context,
            lab.vmid,
            &start::Options::default(),
            &mut Lines::default(),
        );
        result.unwrap_err().to_string()
    };
    lab.configure(lab.vmid, "lock: backup\n");
    assert_eq!(try_start(), "VM is locked (backup)");
    lab.configure(lab.vmid, "template: 1\n");
    assert_eq!(try_start(), "you can't start a vm if it's a template");
    lab.configure(lab.vmid, "net0: virtio=BC:24:11:00:00:01,bridge=nobr77\n");
    assert_eq!(try_start(), "bridge 'nobr77' does not exist");
    lab.configure(lab.vmid, "virtio0: disks:105/vm-105-disk-9.raw,size=1M\n");
    assert!(try_start().contains("vm-105-disk-9.raw"));
    lab.configure(lab.vmid, "args: -nonsense\n");
    assert_eq!(try_start(), "start failed: QEMU exited with code 1");
    assert!(lab.is_clean());
    // Reference 06b, vector 6.
    lab.configure(lab.vmid, "protection: 1\n");
    let error = destroy::check(&lab.context, lab.vmid, false).unwrap_err().to_string();
    assert_eq!(error, "can't remove VM 105 - protection mode enabled");
}

/// Reference 06b, vector 29.
#[test]
fn a_guest_that_powers_itself_off_is_cleaned_up_after() {
    let lab = Lab::new(4);
    let daemon = Daemon::new(&lab);
    lab.configure_program(POWER_OFF);
    lab.start(lab.vmid);
    wait_for("the end is dealt with", || !daemon.exits().is_empty());
    let exit = daemon.exits()[0];
    assert_eq!((exit.vmid, exit.graceful, exit.guest), (lab.vmid, true, true));
    assert!(!lab.is_running() && lab.is_clean(), "{}", daemon.lines.text());
}

/// Reference 06b, vector 29.
#[test]
fn a_backup_holds_a_vm_that_has_shut_down() {
    let lab = Lab::new(5);
    let daemon = Daemon::new(&lab);
    let mut backup = UnixStream::connect(runtime::event_socket(&lab.context.site)).unwrap();
    backup.write_all(b"{\"vzdump\":{\"vmid\":\"105\"}}").unwrap();
    lab.configure_program(POWER_OFF);
    lab.start(lab.vmid);
    wait_for("the guest has shut down", || status_of(&lab)["qmpstatus"] == "shutdown");
    // It is asked again and again whether it still runs; if the daemon had ended it, one of these would fail.
    for _ in 0..20 {
        assert_eq!(status_of(&lab)["qmpstatus"], "shutdown");
    }
    drop(backup);
    wait_for("the end is dealt with", || !daemon.exits().is_empty());
    assert!(!lab.is_running() && lab.is_clean());
}

#[test]
fn a_vm_that_dies_is_cleaned_up_after_and_garbage_changes_nothing() {
    let lab = Lab::new(6);
    let daemon = Daemon::new(&lab);
    for garbage in [&b"hello\n"[..], b"{\"QMP\":{}}", b"[[[[", &[0xff; 300_000]] {
        let mut client = UnixStream::connect(runtime::event_socket(&lab.context.site)).unwrap();
        // The daemon may have closed already.
        let _ = client.write_all(garbage);
        let _ = client.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = client.read_to_end(&mut rest);
    }
    lab.configure(lab.vmid, "");
    lab.start(lab.vmid);
    lab.process().signal(Signal::SIGKILL);
    wait_for("the end is dealt with", || !daemon.exits().is_empty());
    assert!(!daemon.exits()[0].graceful);
    assert!(!lab.is_running() && lab.is_clean());
}

#[test]
fn a_daemon_that_comes_back_finds_the_guest_that_shut_down_meanwhile() {
    let lab = Lab::new(7);
    lab.configure_program(POWER_OFF);
    lab.start(lab.vmid);
    wait_for("the guest has shut down", || status_of(&lab)["qmpstatus"] == "shutdown");
    let daemon = Daemon::new(&lab);
    wait_for("the end is dealt with", || !daemon.exits().is_empty());
    assert!(daemon.exits()[0].graceful && !lab.is_running() && lab.is_clean());
}

/// Reference 06b, vector 30.
#[test]
fn a_reboot_starts_the_vm_once() {
    let lab = Lab::new(8);
    let daemon = Daemon::new(&lab);
    lab.configure_program(OBEY_BUTTON);
    lab.start(lab.vmid);
    wait_for_program(&lab);
    let before = lab.process();
    let mut lines = Lines::default();
    let rebooted = power::reboot(&lab.context, lab.vmid, Some(Duration::from_secs(60)), &mut lines);
    assert!(rebooted.is_ok(), "{rebooted:?}");
    wait_for("the end is dealt with", || !daemon.exits().is_empty());
    assert!(lab.is_running() && lab.process() != before, "{}", daemon.lines.text());
    assert!(!lab.runtime_file("reboot").exists());

    wait_for_program(&lab);
    stop::stop(
        &lab.context,
        lab.vmid,
        order(stop::Way::Shutdown, 60, false),
        &mut lines,
    )
    .unwrap();
    wait_for("the second end is dealt with", || daemon.exits().len() == 2);
    assert!(!lab.is_running() && lab.is_clean());
}

#[test]
fn a_vm_that_does_not_answer_costs_the_others_nothing() {
    let lab = Lab::new(9);
    let vmids = [105, 106].map(|number| VmId::try_from(number).unwrap());
    for vmid in vmids {
        lab.configure(vmid, "");
        lab.start(vmid);
    }
    freeze(lab.process());
    wait_for("the other one answers", || {
        let asked = Instant::now();
        let rows = status::list(&lab.context, &vmids, Detail::Full, true);
        assert!(asked.elapsed() < Duration::from_secs(8), "{:?}", asked.elapsed());
        assert_eq!(rows[0]["status"], "running");
        assert!(!rows[0].contains_key("running-qemu"), "{:?}", rows[0]);
        rows[1].contains_key("running-qemu")
    });
    let error = qmp::Qmp::new(&lab.context.site, lab.vmid)
        .within(Duration::from_millis(300))
        .execute("query-status", Value::Null)
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "VM 105 qmp command 'query-status' failed - got timeout"
    );
    lab.process().signal(Signal::SIGCONT);
}

#[test]
fn the_display_is_served_to_one_client() {
    let lab = Lab::new(10);
    lab.configure(lab.vmid, "");
    lab.start(lab.vmid);
    let site = lab.context.site.clone();
    let port = 5950;
    let password = pve_node::console::random_password().unwrap();
    assert!(password.len() == 8 && password.bytes().all(|byte| (b'!'..=b'`').contains(&byte)));
    let server = {
        let (site, vmid) = (site.clone(), lab.vmid);
        std::thread::spawn(move || vnc::serve(&site, vmid, port, &password))
    };
    wait_for("the port is served", || is_listening(site.address, port));
    let mut client = TcpStream::connect((site.address, port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut version = [0; 12];
    client.read_exact(&mut version).unwrap();
    assert_eq!(&version, b"RFB 003.008\n");
    client.write_all(&version).unwrap();
    let mut types = [0; 2];
    client.read_exact(&mut types).unwrap();
    // One security type, and it is the one with a password.
    assert_eq!(types, [1, 2]);
    assert!(TcpStream::connect((site.address, port)).is_err());
    drop(client);
    server.join().unwrap().unwrap();
}

#[test]
fn a_display_of_a_vm_that_is_off_is_refused() {
    let lab = Lab::new(11);
    lab.configure(lab.vmid, "");
    let site = lab.context.site.clone();
    let server = {
        let (site, vmid) = (site.clone(), lab.vmid);
        std::thread::spawn(move || vnc::serve(&site, vmid, 5951, "password"))
    };
    wait_for("the port is served", || is_listening(site.address, 5951));
    let _client = TcpStream::connect((site.address, 5951)).unwrap();
    let error = server.join().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "Failed to run vncproxy.");
}

#[test]
fn disks_grow_while_the_vm_is_off_and_while_it_runs() {
    let lab = Lab::new(12);
    lab.configure_program(OBEY_BUTTON);
    let grow = |size: &str| {
        let order = resize::Order {
            disk: "virtio0".to_owned(),
            size: size.to_owned(),
            digest: None,
            skip_lock: false,
        };
        resize::resize(&lab.context, lab.vmid, &order, &mut Lines::default()).map_err(|error| error.to_string())
    };
    let file = lab.directory.path().join("store/images/105/vm-105-disk-0.raw");
    let size = || std::fs::metadata(&file).unwrap().len();
    let config = || {
        Cfs::new(&lab.context)
            .read_text("nodes/n1/qemu-server/105.conf")
            .unwrap()
            .unwrap()
    };
    grow("2M").unwrap();
    assert_eq!(size(), 2 << 20);
    assert!(config().contains("size=2M"), "{}", config());
    lab.start(lab.vmid);
    grow("+1M").unwrap();
    assert_eq!(size(), 3 << 20);
    assert!(config().contains("size=3M"));
    assert_eq!(grow("1M"), Err("shrinking disks is not supported".to_owned()));
    assert_eq!(grow("3M"), Ok(()));
}

#[test]
fn destroying_removes_the_disks_that_are_the_vms_own() {
    let lab = Lab::new(13);
    lab.configure_program(POWER_OFF);
    let images = lab.directory.path().join("store/images");
    std::fs::create_dir_all(images.join("106")).unwrap();
    std::fs::write(images.join("106/vm-106-disk-0.raw"), [0; 512]).unwrap();
    std::fs::write(images.join("105/vm-105-disk-7.raw"), [0; 512]).unwrap();
    let cfs = Cfs::new(&lab.context);
    let path = "nodes/n1/qemu-server/105.conf";
    let config = cfs.read_text(path).unwrap().unwrap();
    cfs.write(
        path,
        format!("{config}virtio1: disks:106/vm-106-disk-0.raw,size=512\n").as_bytes(),
    )
    .unwrap();
    let scope = destroy::Scope {
        unreferenced_disks: true,
        purge: true,
        ..destroy::Scope::default()
    };
    let forgotten = std::cell::Cell::new(None);
    let forget = |_: &Context, vmid| {
        assert!(cfs.exists(path).unwrap(), "the config goes last");
        forgotten.set(Some(vmid));
        Ok(())
    };
    destroy::destroy(&lab.context, lab.vmid, scope, &forget, &mut Lines::default()).unwrap();
    assert_eq!(forgotten.get(), Some(lab.vmid));
    assert!(!cfs.exists(path).unwrap());
    assert!(!images.join("105/vm-105-disk-0.raw").exists() && !images.join("105/vm-105-disk-7.raw").exists());
    assert!(images.join("106/vm-106-disk-0.raw").exists());
}

#[test]
fn a_vm_that_was_destroyed_meanwhile_is_forgotten() {
    let lab = Lab::new(16);
    std::fs::write(lab.runtime_file("cleanup"), "1").unwrap();
    std::fs::write(lab.runtime_file("reboot"), "").unwrap();
    assert_eq!(cleanup::leftovers(&lab.context.site), [lab.vmid]);
    let exit = Exit {
        vmid: lab.vmid,
        graceful: false,
        guest: false,
        process: None,
    };
    let next = cleanup::after_exit(&lab.context, exit, &mut Lines::default()).unwrap();
    assert_eq!(next, cleanup::Next::Rest);
    assert!(lab.is_clean() && cleanup::leftovers(&lab.context.site).is_empty());
}

#[test]
fn two_sites_run_the_same_vm_side_by_side() {
    let labs = [Lab::new(14), Lab::new(15)];
    let daemons = labs.each_ref().map(Daemon::new);
    for lab in &labs {
        lab.configure(lab.vmid, "");
        lab.start(lab.vmid);
    }
    assert_ne!(labs[0].process(), labs[1].process());
    // The other site's process is none of ours, whatever a pid file says.
    let pid = labs[1].process().pid;
    assert_eq!(process::vmid_of(&labs[0].context.site, pid), None);
    let own = std::fs::read(labs[0].runtime_file("pid")).unwrap();
    std::fs::write(labs[0].runtime_file("pid"), format!("{pid}\n")).unwrap();
    assert!(!labs[0].is_running());
    std::fs::write(labs[0].runtime_file("pid"), own).unwrap();

    labs[0].process().signal(Signal::SIGKILL);
    wait_for("the end is dealt with", || !daemons[0].exits().is_empty());
    assert!(labs[0].is_clean() && labs[1].is_running() && daemons[1].exits().is_empty());
}

#[test]
fn without_a_spice_display_no_viewer_is_let_in() {
    let lab = Lab::new(96);
    lab.configure(lab.vmid, "vga: std\n");
    let admitted = spice::admit(&lab.context.site, lab.vmid);
    assert_eq!(admitted.unwrap_err().to_string(), "VM 105 not running");
    lab.start(lab.vmid);
    let admitted = spice::admit(&lab.context.site, lab.vmid);
    assert_eq!(admitted.unwrap_err().to_string(), "no spice port");
}
