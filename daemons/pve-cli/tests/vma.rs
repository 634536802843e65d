//! `vma` as a user calls it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test states what must hold"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn command(&self, words: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pve-cli"));
        command.arg0("/usr/bin/vma").args(words.split_whitespace());
        command.current_dir(self.0.path()).env("TZ", "UTC").stdin(Stdio::null());
        command
    }

    fn vma(&self, words: &str) -> Output {
        self.command(words).output().unwrap()
    }

    fn good(&self, words: &str) -> String {
        let output = self.vma(words);
        assert!(output.status.success(), "{words}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What a call that fails says.
    fn bad(&self, words: &str) -> String {
        let output = self.vma(words);
        assert_eq!(output.status.code(), Some(255), "{words}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    /// The files of reference 05 §13.5, and its archive.
    fn example(&self) -> Vec<u8> {
        let config = "name: lab\nmemory: 64\nscsi0: local:100/vm-100-disk-0.raw,size=197120\n\
            #qmdump#map:scsi0:drive-scsi0:local:raw:\n";
        self.file("qemu-server.conf", config.as_bytes());
        let mut disk = vec![0; 197_120];
        disk[0] = 1;
        disk[8192..12288].fill(0xAB);
        disk[131_072..196_608].fill(0xCD);
        disk[196_608..].fill(0xEE);
        self.file("disk.raw", &disk);
        self.good("create new.vma -c qemu-server.conf -d drive-scsi0=disk.raw");
        disk
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(directory))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn what_was_put_in_comes_out_again() {
    let place = Place::new();
    let disk = place.example();
    // As long as the verified example, which has another id and time.
    let archive = fs::read(place.path("new.vma")).unwrap();
    assert_eq!(archive.len(), 91_136);
    assert_eq!(archive[48..60], [0, 0, 0x30, 0, 0, 0, 0, 0x91, 0, 0, 0x32, 0]);
    let list = place.good("list new.vma");
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines[0], "CFG: size: 109 name: qemu-server.conf");
    assert_eq!(lines[1], "DEV: dev_id=1 size: 197120 devname: drive-scsi0");
    assert!(lines[2].starts_with("CTIME: ") && lines.len() == 3, "{list}");
    assert!(place.good("config new.vma").starts_with("name: lab\nmemory: 64\n"));
    assert_eq!(place.good("verify new.vma"), "");
    // However long it took.
    let told = place
        .good("verify -v new.vma")
        .replace("duration 1 sec", "duration 0 sec");
    assert_eq!(
        told,
        "progress 33% (read 65536 bytes, duration 0 sec)\nprogress 66% (read 131072 bytes, duration 0 sec)\n\
         progress 100% (read 196608 bytes, duration 0 sec)\ntotal bytes read 262144, sparse bytes 65536 (25%)\n\
         space reduction due to 4K zero blocks 60.4%\n"
    );
    place.good("extract new.vma out");
    assert_eq!(place.names("out"), ["disk-drive-scsi0.raw", "qemu-server.conf"]);
    assert_eq!(fs::read(place.path("out/disk-drive-scsi0.raw")).unwrap(), disk);
    let told = place.good("extract -v -d drive-scsi0 new.vma other");
    assert!(told.starts_with(&list) && told.contains("progress 100% "), "{told}");
}

#[test]
fn qcow2_images_are_stored_as_their_guests_see_them() {
    let place = Place::new();
    let disk = place.example();
    let convert = ["convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"];
    let converted = Command::new("qemu-img")
        .args(convert)
        .current_dir(place.0.path())
        .output()
        .unwrap();
    assert!(converted.status.success(), "{converted:?}");
    place.good("create two.vma -v -d format=qcow2:drive-scsi0=disk.qcow2 -d format=raw:drive-scsi1=disk.raw");
    place.good("extract two.vma out");
    assert_eq!(fs::read(place.path("out/disk-drive-scsi0.raw")).unwrap(), disk);
    assert_eq!(fs::read(place.path("out/disk-drive-scsi1.raw")).unwrap(), disk);
    let wrong = place.bad("create three.vma -d format=qcow2:drive-scsi0=disk.raw");
    assert!(
        wrong.starts_with("vma: unable to open image 'disk.raw' as qcow2 - "),
        "{wrong}"
    );
    assert!(!place.path("three.vma").exists());
}

#[test]
fn compressed_archives_and_pipes_are_read() {
    let place = Place::new();
    let disk = place.example();
    for program in ["zstd", "gzip", "bzip2", "lzop"] {
        let compressed = Command::new(program)
            .args(["-q", "-c", "new.vma"])
            .current_dir(place.0.path())
            .output()
            .unwrap();
        assert!(compressed.status.success(), "{compressed:?}");
        // The name tells nothing.
        place.file("packed", &compressed.stdout);
        assert_eq!(place.good("list packed"), place.good("list new.vma"), "{program}");
        place.good("verify packed");
        for name in ["packed", "new.vma"] {
            let mut command = place.command("extract - piped");
            let output = command.stdin(File::open(place.path(name)).unwrap()).output().unwrap();
            assert!(output.status.success(), "{program} {name}: {output:?}");
            assert_eq!(fs::read(place.path("piped/disk-drive-scsi0.raw")).unwrap(), disk);
            fs::remove_dir_all(place.path("piped")).unwrap();
        }
        let half = &compressed.stdout[..compressed.stdout.len() - 4];
        place.file("packed", half);
        place.bad("verify packed");
    }
    // Archives are made through pipes, too.
    let made = place.vma("create - -d drive-scsi0=disk.raw");
    assert!(made.status.success(), "{made:?}");
    let mut child = place.command("verify -").stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(&made.stdout).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn failures_name_the_file_and_leave_nothing() {
    let place = Place::new();
    place.example();
    let good = fs::read(place.path("new.vma")).unwrap();
    place.file("cut", &good[..good.len() - 1]);
    place.file("text", &[b'x'; 20_000]);
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    place.file("flipped", &flipped);
    let cases = [
        (
            "list nosuch",
            "vma: unable to open 'nosuch' - No such file or directory\n",
        ),
        ("list text", "vma: text: not a vma file - wrong magic number\n"),
        ("verify cut", "vma: cut: short vma extent (78335 < 78336)\n"),
        ("verify flipped", "vma: flipped: wrong vma header chechsum\n"),
        (
            "config new.vma -c nosuch",
            "vma: unable to find configuration data 'nosuch'\n",
        ),
        ("list -", "vma: standard input: can't read vma header - got EOF\n"),
        (
            "extract -d drive-x new.vma out",
            "vma: new.vma: no device 'drive-x' in the archive, which has: drive-scsi0\n",
        ),
        ("extract cut out", "vma: cut: short vma extent (78335 < 78336)\n"),
        (
            "extract new.vma a/b",
            "vma: unable to create directory 'a/b' - No such file or directory\n",
        ),
        (
            "create new.vma -d drive-scsi0=disk.raw",
            "vma: 'new.vma' is there already - remove it, or choose another place\n",
        ),
        (
            "create n.vma -c ..",
            "vma: '..' has no file name that an archive could keep\n",
        ),
        (
            "create n.vma -d a=nosuch",
            "vma: unable to open image 'nosuch' as raw - No such file or directory\n",
        ),
        (
            "create n.vma -d d=disk.raw -d d=disk.raw",
            "vma: n.vma: duplicate name 'd' in vma archive\n",
        ),
    ];
    for (words, expected) in cases {
        assert_eq!(place.bad(words), expected, "{words}");
    }
    assert!(!place.path("out").exists() && !place.path("n.vma").exists());
    // A file that is there is neither overwritten nor removed.
    fs::create_dir(place.path("out")).unwrap();
    place.file("out/disk-drive-scsi0.raw", b"mine");
    let told = place.bad("extract new.vma out");
    assert_eq!(
        told,
        "vma: 'out/disk-drive-scsi0.raw' is there already - remove it, or choose another place\n"
    );
    assert_eq!(place.names("out"), ["disk-drive-scsi0.raw"]);
    assert_eq!(fs::read(place.path("out/disk-drive-scsi0.raw")).unwrap(), b"mine");
}

#[test]
fn a_full_disk_leaves_no_archive() {
    let place = Place::new();
    place.example();
    // Two blocks of 512 bytes are less than a header.
    let script = format!(
        "ulimit -f 2; trap '' XFSZ; exec -a vma {} create full.vma -d d=disk.raw",
        env!("CARGO_BIN_EXE_pve-cli")
    );
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(place.0.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(255), "{output:?}");
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "vma: full.vma: vma write error - File too large\n");
    assert!(!place.path("full.vma").exists());
}

#[test]
fn the_binary_tells_how_it_is_called() {
    let run = |words: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_pve-cli"))
            .args(words)
            .output()
            .unwrap()
    };
    let text = |output: &[u8]| String::from_utf8(output.to_vec()).unwrap();
    let help = run(&["--help"]);
    assert!(
        help.status.success() && text(&help.stdout).contains("\n  vma         Look into, "),
        "{help:?}"
    );
    let tool = run(&["vma", "--help"]);
    assert!(
        tool.status.success() && text(&tool.stdout).contains("Usage: vma <COMMAND>"),
        "{tool:?}"
    );
    for bad in [
        &[][..],
        &["nosuch"],
        &["vma"],
        &["vma", "list"],
        &["vma", "list", "--nosuch"],
    ] {
        let output = run(bad);
        assert_eq!(output.status.code(), Some(255), "{bad:?}");
        assert!(!output.stderr.is_empty(), "{bad:?}");
    }
    let script = run(&["completion", "vma", "bash"]);
    assert!(
        script.status.success() && text(&script.stdout).contains("extract"),
        "{script:?}"
    );
}
