//! The Unix socket of `pvedaemon` at which the web side asks what it may not read: who may ask, and for how long. What
//! is asked and answered is in [`pve_access::token::door`].

use std::io;
use std::os::unix::net::UnixListener as Socket;
use std::time::Duration;

use pve_access::token::door::{DEADLINE, MAX_QUESTION, answer};
use pve_cfs::Cfs;
use pve_schema::Context;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::{AbortHandle, JoinSet, spawn, spawn_blocking};
use tokio::time::{sleep, timeout};

/// Most questions that one worker answers at once; others wait in the socket's queue.
const MOST: usize = 64;
/// How long nothing is accepted after the machine had no descriptor to spare.
const PAUSE: Duration = Duration::from_millis(100);

/// An open door. It is closed when this is dropped.
#[derive(Debug)]
pub struct Door(AbortHandle);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Answers questions on a socket that does not block, from now on. It must be called within a runtime.
///
/// # Errors
/// The socket cannot be waited for.
pub fn open(socket: Socket, context: Context) -> io::Result<Door> {
    let listener = UnixListener::from_std(socket)?;
    Ok(Door(spawn(serve(listener, context)).abort_handle()))
}

async fn serve(listener: UnixListener, context: Context) {
    let mut open = JoinSet::new();
    loop {
        while open.len() >= MOST {
            open.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, _)) if !may_ask(&stream, &context) => drop(stream),
            Ok((stream, _)) => {
                let context = context.clone();
                open.spawn(async move {
                    // Who asks too slowly, or no line at all, gets no answer.
                    let _ = timeout(DEADLINE, converse(stream, context)).await;
                });
            }
            Err(error) => {
                log::warn!("unable to accept a question - {error}");
                sleep(PAUSE).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
}

/// Whether it is root or the web side that is at the door. Others get no place that these may need.
fn may_ask(stream: &UnixStream, context: &Context) -> bool {
    let site = &context.site;
    match stream.peer_cred() {
        Ok(peer) => [site.root_user.uid, site.web_user.uid].contains(&peer.uid()),
        Err(_) => false,
    }
}

async fn converse(mut stream: UnixStream, context: Context) -> io::Result<()> {
    let (reader, mut writer) = stream.split();
    let mut question = String::new();
    BufReader::new(reader.take(MAX_QUESTION))
        .read_line(&mut question)
        .await?;
    let Some(question) = question.strip_suffix('\n').map(str::to_owned) else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let answer = spawn_blocking(move || answer(&Cfs::new(&context), &question)).await?;
    writer.write_all(answer.as_bytes()).await
}
