//! The TLS configuration in use, and its replacement when a file changes.
//!
//! ```text
//! load ── fails: again in 5 s ──▶ load … ──▶ IN USE ── a file changed ──▶ load ──▶ replaced, or kept and logged
//! ```
//!
//! Connections keep the configuration that they began with. Settings are not read again: a reload does that.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;

use super::certificate::Files;
use super::{TlsSettings, server_config};

/// How long to wait before what could not be loaded is tried again (reference 01 §1.4).
const RETRY: Duration = Duration::from_secs(5);

/// The configuration in use.
pub(crate) struct Live {
    current: Arc<Mutex<Arc<ServerConfig>>>,
    watcher: JoinHandle<()>,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl Live {
    /// Sets TLS up; what cannot be loaded is logged and tried again until it can: once a certificate is repaired, the
    /// server works without anybody's help.
    pub(crate) async fn start(settings: TlsSettings) -> Self {
        let mut loader = Loader { settings, files: None };
        loop {
            let (back, outcome) = loader.load().await;
            loader = back;
            match outcome {
                Ok(config) => {
                    let current = Arc::new(Mutex::new(config));
                    let watcher = tokio::spawn(watch(loader, Arc::clone(&current)));
                    return Self { current, watcher };
                }
                Err(error) => log::error!("{error}"),
            }
            sleep(RETRY).await;
        }
    }

    /// For the next connection.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Loads again whenever a file changes.
async fn watch(mut loader: Loader, current: Arc<Mutex<Arc<ServerConfig>>>) {
    loop {
        sleep(loader.settings.recheck).await;
        let (settings, before) = (loader.settings.clone(), loader.files.clone());
        // A file system that hangs makes this wait, not the server.
        let changed = spawn_blocking(move || Some(Files::look(&settings)) != before).await;
        if !changed.unwrap_or(false) {
            continue;
        }
        let (back, outcome) = loader.load().await;
        loader = back;
        match outcome {
            Ok(config) => {
                *current.lock().unwrap_or_else(PoisonError::into_inner) = config;
                log::info!("certificate files changed, using what they hold now");
            }
            Err(error) => log::error!("{error} - going on with the certificate from before"),
        }
    }
}

/// What loading needs and remembers.
struct Loader {
    settings: TlsSettings,
    /// The files at the last attempt: what failed is tried again when they change.
    files: Option<Files>,
}

impl Loader {
    async fn load(mut self) -> (Self, Result<Arc<ServerConfig>, String>) {
        let fresh = Self {
            settings: self.settings.clone(),
            files: None,
        };
        let task = spawn_blocking(move || {
            // Looked at before they are read, so that a change in between is seen the next time.
            self.files = Some(Files::look(&self.settings));
            let loaded = server_config(&self.settings).map(Arc::new);
            let outcome = loaded.map_err(|error| error.to_string());
            (self, outcome)
        });
        match task.await {
            Ok(done) => done,
            Err(error) => (fresh, Err(format!("loading the certificate failed: {error}"))),
        }
    }
}
