//! A worker process that serves HTTP: its runtime, and its way out.

use std::io;
use std::net::TcpListener;
use std::pin::Pin;

use pve_daemon::{BoxError, Socket, WorkerContext};
use tokio::net::unix::pipe;

use crate::{Server, Tunnel};

/// Ready when the worker is told to drain.
type Drain<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Serves HTTP on the worker's TCP socket until it is told to drain and every connection has ended.
///
/// The runtime has one thread, so that a daemon's workers are its cores; what blocks runs beside it.
///
/// # Errors
/// There is no runtime to be had, or no socket.
pub fn run(worker: WorkerContext, server: Server) -> Result<(), BoxError> {
    serve(worker, async |listener, drain: Drain<'_>| {
        server.run(listener, drain).await
    })
}

/// Serves SPICE viewers in the same way.
///
/// # Errors
/// As [`run`].
pub fn run_tunnel(worker: WorkerContext, tunnel: Tunnel) -> Result<(), BoxError> {
    serve(worker, async |listener, drain: Drain<'_>| {
        tunnel.run(listener, drain).await
    })
}

fn serve<F>(mut worker: WorkerContext, run: F) -> Result<(), BoxError>
where
    F: AsyncFnOnce(TcpListener, Drain<'_>) -> io::Result<()>,
{
    let listener = take_listener(&mut worker)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let drain = pipe::Receiver::from_owned_fd(worker.drain_fd().try_clone_to_owned()?)?;
        worker.ready();
        let told = async {
            // An error here means that nobody can tell this worker anything any more.
            let _ = drain.readable().await;
            worker.draining();
        };
        Ok(run(listener, Box::pin(told)).await?)
    })
}

fn take_listener(worker: &mut WorkerContext) -> Result<TcpListener, BoxError> {
    let sockets = worker.listeners.drain(..).map(|listener| listener.socket);
    let tcp = sockets.into_iter().find_map(|socket| match socket {
        Socket::Tcp(socket) => Some(socket),
        Socket::Unix(_) => None,
    });
    tcp.ok_or_else(|| "no TCP socket to serve on".into())
}
