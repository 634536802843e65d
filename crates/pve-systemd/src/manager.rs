//! One connection to systemd's manager.

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use pve_schema::{Site, errno_text};
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::message::Message;
use zbus::zvariant::DynamicType;

use crate::error::SystemdError;

/// What is there where systemd is PID 1 (sd_booted(3)).
const BOOTED: &str = "/run/systemd/system";
/// Where the bus listens. Not systemd's own socket, which `systemctl` uses: what comes from there has a sender that no bus
/// would let pass, and the library does not either.
const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// Names on the bus.
pub(crate) const DESTINATION: &str = "org.freedesktop.systemd1";
pub(crate) const PATH: &str = "/org/freedesktop/systemd1";
pub(crate) const INTERFACE: &str = "org.freedesktop.systemd1.Manager";

/// How long the bus may take to greet: whoever can do without systemd goes on then.
const GREETING: Duration = Duration::from_secs(10);
/// How long systemd may take to answer a question or an order. It answers in milliseconds, unless the machine is in trouble.
const ANSWER: Duration = Duration::from_secs(30);

/// Whether a site's processes are systemd's: the site is the machine's own, and systemd is its PID 1.
pub fn is_here(site: &Site) -> bool {
    site.is_system() && Path::new(BOOTED).is_dir()
}

/// A connection to systemd's manager, and what drives it.
pub struct Manager {
    // The connection goes first: it needs what drives it until it is gone.
    pub(crate) connection: Connection,
    runtime: Runtime,
}

impl std::fmt::Debug for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Manager").finish_non_exhaustive()
    }
}

impl Manager {
    /// Connects to the machine's systemd.
    ///
    /// # Errors
    /// [`SystemdError::NotHere`] in a lab and where systemd does not run, and what keeps it from being reached.
    pub fn connect(site: &Site) -> Result<Self, SystemdError> {
        if !is_here(site) {
            return Err(SystemdError::NotHere);
        }
        Self::over(GREETING, async || UnixStream::connect(SYSTEM_BUS).await)
    }

    /// Speaks to the bus at the other end of a stream.
    fn over(limit: Duration, stream: impl AsyncFnOnce() -> io::Result<UnixStream>) -> Result<Self, SystemdError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SystemdError::Resources)?;
        let greeted = within(&runtime, limit, async {
            let stream = stream()
                .await
                .map_err(|error| SystemdError::Connect(errno_text(&error)))?;
            let connection = Builder::unix_stream(stream).build().await;
            connection.map_err(|error| SystemdError::Connect(error.to_string()))
        });
        let connection = greeted.map_err(|error| match error {
            silence @ SystemdError::Timeout(_) => SystemdError::Connect(silence.to_string()),
            other => other,
        })?;
        Ok(Self { connection, runtime })
    }

    /// Forgets that a unit failed. One that is not loaded has nothing to forget.
    ///
    /// # Errors
    /// systemd cannot be asked or refuses.
    pub fn reset_failed(&self, unit: &str) -> Result<(), SystemdError> {
        match self.order("ResetFailedUnit", &(unit,)) {
            Err(error) if error.is_no_such_unit() => Ok(()),
            other => other.map(drop),
        }
    }

    /// One call of the manager.
    pub(crate) fn order<B>(&self, method: &str, body: &B) -> Result<Message, SystemdError>
    where
        B: serde::Serialize + DynamicType,
    {
        self.answer(self.call(PATH, INTERFACE, method, body))
    }

    /// One call of an object of systemd's.
    pub(crate) async fn call<B>(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &B,
    ) -> Result<Message, SystemdError>
    where
        B: serde::Serialize + DynamicType,
    {
        let call = self
            .connection
            .call_method(Some(DESTINATION), path, Some(interface), method, body);
        Ok(call.await?)
    }

    /// Runs calls to their end, which all of them together reach in the time that one answer may take.
    pub(crate) fn answer<T>(&self, calls: impl Future<Output = Result<T, SystemdError>>) -> Result<T, SystemdError> {
        self.wait(ANSWER, calls)
    }

    /// Runs something of this connection's to its end.
    pub(crate) fn wait<T>(
        &self,
        limit: Duration,
        work: impl Future<Output = Result<T, SystemdError>>,
    ) -> Result<T, SystemdError> {
        within(&self.runtime, limit, work)
    }
}

fn within<T>(
    runtime: &Runtime,
    limit: Duration,
    work: impl Future<Output = Result<T, SystemdError>>,
) -> Result<T, SystemdError> {
    runtime.block_on(async {
        let outcome = tokio::time::timeout(limit, work).await;
        outcome.unwrap_or(Err(SystemdError::Timeout(limit)))
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream as Peer;
    use std::time::Instant;

    use super::*;

    #[test]
    fn labs_have_no_systemd() {
        let directory = tempfile::tempdir().unwrap();
        let mut site = pve_testing::site(directory.path(), "pve1");
        assert!(!is_here(&site));
        assert!(matches!(Manager::connect(&site), Err(SystemdError::NotHere)));
        // A machine's own site is asked for what is there.
        site.root = "/".into();
        assert_eq!(is_here(&site), Path::new(BOOTED).is_dir());
    }

    #[test]
    fn whoever_is_no_bus_is_refused_at_once() {
        for answer in [
            &b""[..],
            b"REJECTED EXTERNAL\r\n",
            b"\0\0\0\0",
            b"OK not-a-guid\r\n",
            b"HTTP/1.0 400 Bad Request\r\n",
        ] {
            let (ours, mut theirs) = Peer::pair().unwrap();
            let peer = std::thread::spawn(move || {
                // The greeting is read, so that the answer and not a reset is what comes.
                let _ = theirs.read(&mut [0; 512]);
                let _ = theirs.write_all(answer);
            });
            let started = Instant::now();
            let refused = over(ours, ANSWER).unwrap_err();
            assert!(matches!(refused, SystemdError::Connect(_)), "{answer:?}: {refused}");
            assert!(started.elapsed() < ANSWER);
            peer.join().unwrap();
        }
    }

    #[test]
    fn a_bus_that_hangs_is_given_up() {
        let (ours, _silent) = Peer::pair().unwrap();
        let error = over(ours, Duration::from_millis(50)).unwrap_err();
        let text = "Failed to connect to bus: got no answer from systemd within 0 s";
        assert_eq!(error.to_string(), text);
    }

    fn over(stream: Peer, limit: Duration) -> Result<Manager, SystemdError> {
        stream.set_nonblocking(true).unwrap();
        Manager::over(limit, async || UnixStream::from_std(stream))
    }
}
