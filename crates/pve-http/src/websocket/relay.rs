//! Moves a console's bytes between a websocket and its backend.
//!
//! Two directions run at once, each reading only when it could write what it read before, so that a slow reader slows
//! its writer down and nothing piles up here. The writing half towards the client is shared: pongs and close frames
//! go out between data frames.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Backend;
use super::frame::{Decoder, Frame, FrameError, MAX_HEADER, MAX_PAYLOAD, Opcode, control, header};

/// How long either end may take to end after the other said goodbye.
const GOODBYE: Duration = Duration::from_secs(10);
/// How much is read from the client at once.
const READ_SIZE: usize = 16 * 1024;

/// The writing half towards the client.
struct ToClient<W>(Mutex<Writer<W>>);

struct Writer<W> {
    io: W,
    /// A close frame went out: no frame may follow it.
    said_goodbye: bool,
}

impl<W: AsyncWrite + Unpin> ToClient<W> {
    fn new(io: W) -> Self {
        Self(Mutex::new(Writer {
            io,
            said_goodbye: false,
        }))
    }

    /// Sends bytes that are one frame.
    async fn send(&self, frame: &[u8]) -> io::Result<()> {
        let mut writer = self.0.lock().await;
        if writer.said_goodbye {
            return Ok(());
        }
        writer.io.write_all(frame).await?;
        writer.io.flush().await
    }

    /// Sends the close frame; a client that does not read it in time goes without.
    async fn say_goodbye(&self, payload: &[u8]) {
        let _ = timeout(GOODBYE, self.send(&control(Opcode::Close, payload))).await;
        if let Ok(mut writer) = timeout(GOODBYE, self.0.lock()).await {
            writer.said_goodbye = true;
        }
    }
}

/// Relays until one end closes. `early` is what the client sent behind its handshake.
pub(crate) async fn relay<C>(client: C, early: Bytes, backend: Backend)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    match backend {
        Backend::Tcp(stream) => between(client, early, stream).await,
        Backend::Unix(stream) => between(client, early, stream).await,
    }
}

async fn between<C, B>(client: C, early: Bytes, backend: B)
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (from_client, to_client) = split(client);
    let (from_backend, to_backend) = split(backend);
    let mut decoder = Decoder::default();
    decoder.buffer.extend_from_slice(&early);
    let to_client = ToClient::new(to_client);
    let mut down = Box::pin(backend_to_client(from_backend, &to_client));
    let ending = tokio::select! {
        ending = client_to_backend(from_client, decoder, to_backend, &to_client) => ending,
        _ = &mut down => Ending::Over,
    };
    if ending == Ending::Goodbye {
        // The backend sees the end of its input and closes in turn.
        let _ = timeout(GOODBYE, &mut down).await;
    }
    // It may hold the lock in the middle of a write that will never finish.
    drop(down);
    let mut writer = to_client.0.into_inner();
    let _ = timeout(GOODBYE, writer.io.shutdown()).await;
}

/// Why no more frames come from the client.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    /// The client closed in good order.
    Goodbye,
    /// One end broke or broke the rules.
    Over,
}

async fn client_to_backend<R, W, C>(mut from: R, mut decoder: Decoder, mut to: W, to_client: &ToClient<C>) -> Ending
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    C: AsyncWrite + Unpin,
{
    loop {
        match frames(&mut decoder, &mut to, to_client).await {
            Ok(Some(goodbye)) => {
                to_client.say_goodbye(&goodbye).await;
                let _ = to.shutdown().await;
                return Ending::Goodbye;
            }
            Ok(None) => {}
            Err(Broken::Rule(error)) => {
                log::warn!("{error}");
                to_client.say_goodbye(&error.close_code().to_be_bytes()).await;
                return Ending::Over;
            }
            Err(Broken::Io) => return Ending::Over,
        }
        decoder.buffer.reserve(READ_SIZE);
        match from.read_buf(&mut decoder.buffer).await {
            Ok(0) | Err(_) => return Ending::Over,
            Ok(_) => {}
        }
    }
}

/// Why frames cannot be passed on.
enum Broken {
    Rule(FrameError),
    Io,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

/// Passes on all frames that are complete; the payload of a close frame, if one came.
async fn frames<W, C>(decoder: &mut Decoder, to: &mut W, to_client: &ToClient<C>) -> Result<Option<Bytes>, Broken>
where
    W: AsyncWrite + Unpin,
    C: AsyncWrite + Unpin,
{
    while let Some(frame) = decoder.next_frame().map_err(Broken::Rule)? {
        match frame {
            Frame::Data(payload) => to.write_all(&payload).await?,
            Frame::Ping(payload) => to_client.send(&control(Opcode::Pong, &payload)).await?,
            Frame::Pong => {}
            Frame::Close(payload) => return Ok(Some(payload)),
        }
    }
    Ok(None)
}

async fn backend_to_client<R, C>(mut from: R, to_client: &ToClient<C>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    C: AsyncWrite + Unpin,
{
    // The payload is read behind room for the longest header, so that header and payload go out in one write.
    let mut buffer = vec![0_u8; MAX_HEADER + MAX_PAYLOAD];
    loop {
        let (room, payload) = buffer.split_at_mut(MAX_HEADER);
        let count = from.read(payload).await?;
        if count == 0 {
            return Ok(());
        }
        let header = header(Opcode::Binary, count);
        let start = MAX_HEADER - header.len();
        if let Some(place) = room.get_mut(start..) {
            place.copy_from_slice(&header);
        }
        to_client
            .send(buffer.get(start..MAX_HEADER + count).unwrap_or_default())
            .await?;
    }
}
