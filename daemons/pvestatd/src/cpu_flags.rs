//! The CPU flags that VMs of this node can have, told to those who make VMs (reference 04 §9.4).
//!
//! QEMU is asked by a thread of its own: it may take longer than a cycle, or hang until it is killed. It is asked when its
//! version is another one than at the last success, and when the status store lost what was told.
//!
//! ```text
//!            another version                    all went well
//!  KNOWN ──────────────────────▶ ASKING ──────────────────────▶ KNOWN
//!                                  │ ▲
//!                      it failed   ▼ │ 120 seconds later
//!                                FAILED
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use pve_cfs::Cfs;
use pve_daemon::BoxError;
use pve_qemu::cpu_flags::{self, CpuFlags};
use pve_schema::Context;

/// How long a failure is left alone.
const RETRY: Duration = Duration::from_secs(120);

const KVM: &str = "kv/cpuflags-kvm";
const TCG: &str = "kv/cpuflags-tcg";

/// What is known of QEMU's flags. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Flags(Arc<Mutex<State>>);

#[derive(Debug, Default, PartialEq)]
enum State {
    /// Nobody was asked yet.
    #[default]
    Unknown,
    /// A thread asks; what went wrong the time before.
    Asking(Option<String>),
    /// Told, of this version.
    Known(String),
    /// What went wrong, and when to ask again.
    Failed(String, Instant),
}

impl State {
    fn failed(error: &BoxError) -> Self {
        let text = format!("CPU flag detection failed, will try again after delay: {error}");
        Self::Failed(text, Instant::now() + RETRY)
    }

    /// What goes wrong for as long as nothing went well.
    fn fault(&self) -> Option<String> {
        match self {
            Self::Failed(text, _) => Some(text.clone()),
            Self::Asking(text) => text.clone(),
            Self::Unknown | Self::Known(_) => None,
        }
    }

    /// Whether nobody has to be asked now.
    fn rests(&self) -> bool {
        match self {
            Self::Asking(_) => true,
            Self::Failed(_, until) => Instant::now() < *until,
            Self::Unknown | Self::Known(_) => false,
        }
    }
}

/// Asks for the flags and tells them, if that is due.
pub(crate) fn update(context: &Context, flags: &Flags) -> Result<(), BoxError> {
    flags.update_by(
        context,
        |context| Ok(cpu_flags::qemu_version(&context.site)?),
        |context| Ok(cpu_flags::detect(&context.site)?),
    )
}

impl Flags {
    fn update_by(
        &self,
        context: &Context,
        version: impl FnOnce(&Context) -> Result<String, BoxError>,
        detect: impl FnOnce(&Context) -> Result<CpuFlags, BoxError> + Send + 'static,
    ) -> Result<(), BoxError> {
        let mut state = self.state();
        if !state.rests() {
            match version(context) {
                Ok(version) if *state == State::Known(version.clone()) && is_told(context)? => {}
                Ok(version) => {
                    let fault = state.fault();
                    *state = State::Asking(fault);
                    let (flags, context) = (self.clone(), context.clone());
                    let ask = move || flags.ask(&context, version, detect);
                    if let Err(error) = thread::Builder::new().name("cpu flags".to_owned()).spawn(ask) {
                        *state = State::failed(&error.into());
                    }
                }
                Err(error) => *state = State::failed(&error),
            }
        }
        state.fault().map_or(Ok(()), |text| Err(text.into()))
    }

    fn ask(&self, context: &Context, version: String, detect: impl FnOnce(&Context) -> Result<CpuFlags, BoxError>) {
        let told = detect(context).and_then(|found| tell(context, &found));
        let after = match told {
            Ok(()) => State::Known(version),
            Err(error) => {
                // That nothing is known is told, too; the failure at hand is the one that counts.
                let _ = tell(context, &CpuFlags::default());
                State::failed(&error)
            }
        };
        *self.state() = after;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the store has not lost what was told.
fn is_told(context: &Context) -> Result<bool, BoxError> {
    let store = Cfs::new(context).status();
    Ok(store.get(KVM)?.is_some() && store.get(TCG)?.is_some())
}

fn tell(context: &Context, flags: &CpuFlags) -> Result<(), BoxError> {
    let store = Cfs::new(context).status();
    for (key, flags) in [(KVM, &flags.kvm), (TCG, &flags.tcg)] {
        let text = flags.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        store.set(key, text.as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Node {
        _directory: tempfile::TempDir,
        context: Context,
        flags: Flags,
    }

    impl Node {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let context = pve_testing::context(directory.path(), "n1");
            Self {
                _directory: directory,
                context,
                flags: Flags::default(),
            }
        }

        /// Whether QEMU of that version is asked, whose answer are flags of the translator, and what the next cycle
        /// says to that.
        fn asks(
            &self,
            version: &'static str,
            answer: Result<&'static str, &'static str>,
        ) -> (bool, Result<(), String>) {
            let (asked, was_asked) = mpsc::channel();
            let detect = move |_: &Context| {
                asked.send(()).unwrap();
                let tcg = answer?.split(' ').map(str::to_owned).collect();
                let kvm = Default::default();
                Ok(CpuFlags { kvm, tcg })
            };
            let version = |_: &Context| Ok(version.to_owned());
            let _ = self.flags.update_by(&self.context, version, detect);
            pve_testing::wait_for("an answer", || !matches!(*self.flags.state(), State::Asking(_)));
            let again = |_: &Context| unreachable!("nobody is asked twice");
            let said = self.flags.update_by(&self.context, version, again);
            (was_asked.try_recv().is_ok(), said.map_err(|error| error.to_string()))
        }

        fn told(&self) -> [Option<String>; 2] {
            let store = Cfs::new(&self.context).status();
            [KVM, TCG].map(|key| store.get(key).unwrap().map(|text| String::from_utf8(text).unwrap()))
        }
    }

    fn told(kvm: &str, tcg: &str) -> [Option<String>; 2] {
        [Some(kvm.to_owned()), Some(tcg.to_owned())]
    }

    const FAILED: &str = "CPU flag detection failed, will try again after delay: broken";

    #[test]
    fn qemu_is_asked_once_for_each_of_its_versions() {
        let node = Node::new();
        assert_eq!(node.asks("10.0.2", Ok("sse aes")), (true, Ok(())));
        assert_eq!(node.told(), told("", "aes sse"));
        assert_eq!(node.asks("10.0.2", Ok("x")), (false, Ok(())));
        for key in [KVM, TCG] {
            Cfs::new(&node.context).status().unset(key).unwrap();
            assert_eq!(node.asks("10.0.2", Ok("mmx")), (true, Ok(())), "{key} was lost");
            assert_eq!(node.told(), told("", "mmx"));
        }
        assert_eq!(node.asks("10.1.0", Ok("avx")), (true, Ok(())));
        assert_eq!(node.told(), told("", "avx"));
    }

    #[test]
    fn a_failure_is_told_as_no_flags_and_left_alone_for_a_while() {
        let node = Node::new();
        assert_eq!(node.asks("10.0.2", Ok("sse")), (true, Ok(())));
        assert_eq!(node.asks("10.1.0", Err("broken")), (true, Err(FAILED.to_owned())));
        assert_eq!(node.told(), told("", ""));
        assert_eq!(node.asks("10.1.0", Ok("sse")), (false, Err(FAILED.to_owned())));
        let until = match &*node.flags.state() {
            State::Failed(_, until) => *until,
            other => panic!("{other:?}"),
        };
        assert!(until > Instant::now() + RETRY / 2);
        // Two minutes later.
        *node.flags.state() = State::Failed(FAILED.to_owned(), Instant::now());
        assert_eq!(node.asks("10.1.0", Ok("sse")), (true, Ok(())));
        assert_eq!(node.told(), told("", "sse"));
    }

    #[test]
    fn a_version_that_nobody_tells_is_a_failure_until_somebody_does() {
        let node = Node::new();
        let update = || {
            let detect = |_: &Context| unreachable!("nobody is asked");
            node.flags.update_by(&node.context, |_| Err("broken".into()), detect)
        };
        for _ in 0..2 {
            assert_eq!(update().unwrap_err().to_string(), FAILED);
        }
    }

    #[test]
    fn one_that_hangs_delays_nothing() {
        let node = Node::new();
        let (release, wait) = mpsc::channel::<()>();
        let version = |_: &Context| Ok("10.0.2".to_owned());
        let hang = move |_: &Context| {
            let _ = wait.recv();
            Ok(CpuFlags::default())
        };
        node.flags.update_by(&node.context, version, hang).unwrap();
        let again = |_: &Context| unreachable!("somebody asks already");
        node.flags.update_by(&node.context, version, again).unwrap();
        drop(release);
        pve_testing::wait_for("an answer", || !matches!(*node.flags.state(), State::Asking(_)));
    }
}
