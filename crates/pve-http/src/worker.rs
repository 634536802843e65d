//! A worker process that serves HTTP: its runtime, and its way out.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::pin::Pin;
use std::time::Duration;

use pve_daemon::process::give_back_memory;
use pve_daemon::{BoxError, Listener, Socket, WorkerContext};
use tokio::net::unix::pipe;
use tokio::sync::oneshot;
use tokio::time::sleep;

use crate::metrics::socket;
use crate::{Server, Tunnel, door};

/// The name of the socket for metrics without login among a worker's listeners.
pub const METRICS: &str = "METRICS";

/// How often the runtime says that it turns.
const BEAT: Duration = Duration::from_secs(2);

/// Ready when the worker is told to drain.
type Drain<'a> = Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Serves HTTP on the worker's TCP socket until it is told to drain and every connection has ended; on its Unix socket,
/// if it has one, it answers what the web side may ask ([`crate::door`]).
///
/// The runtime has one thread, so that a daemon's workers are its cores; what blocks runs beside it.
///
/// # Errors
/// There is no runtime to be had, or no socket.
pub fn run(worker: WorkerContext, server: Server) -> Result<(), BoxError> {
    let mut worker = worker;
    let metrics = take_listener(&mut worker, |name| name == METRICS);
    let door = take_door(&mut worker);
    let context = worker.context.clone();
    serve(worker, async |listener, drain: Drain<'_>| {
        let door = door.map(|door| door::open(door, context.clone())).transpose()?;
        let (serving, drained) = oneshot::channel::<Infallible>();
        let metrics = metrics.map(|socket| {
            tokio::spawn(socket::serve(socket, context, async {
                let _ = drained.await;
            }))
        });
        // The next generation has them, too; who asked at the door in the last moment asks again.
        let drain = async {
            drain.await;
            drop(door);
            drop(serving);
        };
        server.run(listener, drain).await?;
        match metrics {
            Some(task) => task.await?,
            None => Ok(()),
        }
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
    let listener = take_listener(&mut worker, |_| true).ok_or("no TCP socket to serve on")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let drain = pipe::Receiver::from_owned_fd(worker.drain_fd().try_clone_to_owned()?)?;
        // From here on it is expected to.
        worker.beat();
        worker.ready();
        let told = async {
            // An error here means that nobody can tell this worker anything any more.
            let _ = drain.readable().await;
            worker.draining();
        };
        // A loop that does something else for long does not get here, and is found out.
        let turns = async {
            loop {
                worker.beat();
                give_back_memory();
                sleep(BEAT).await;
            }
        };
        tokio::select! {
            ended = run(listener, Box::pin(told)) => Ok(ended?),
            () = turns => Ok(()),
        }
    })
}

/// The first TCP socket with such a name.
fn take_listener(worker: &mut WorkerContext, wanted: impl Fn(&str) -> bool) -> Option<TcpListener> {
    match take(worker, |of| matches!(of.socket, Socket::Tcp(_)) && wanted(&of.name))? {
        Socket::Tcp(socket) => Some(socket),
        Socket::Unix(_) => None,
    }
}

/// The Unix socket, if there is one.
fn take_door(worker: &mut WorkerContext) -> Option<UnixListener> {
    match take(worker, |of| matches!(of.socket, Socket::Unix(_)))? {
        Socket::Unix(socket) => Some(socket),
        Socket::Tcp(_) => None,
    }
}

fn take(worker: &mut WorkerContext, is_it: impl Fn(&Listener) -> bool) -> Option<Socket> {
    let index = worker.listeners.iter().position(is_it)?;
    Some(worker.listeners.remove(index).socket)
}
