//! A body that is read while it is sent: a piece at a time, beside the event loop, and only as fast as the client takes
//! it.

use std::io::{self, ErrorKind, Read};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use tokio::task::spawn_blocking;

use crate::answer::Body;

/// Bytes that are read at a time: few hops to another thread, little memory.
const PIECE: usize = 64 * 1024;

/// Sends what a reader gives, to its end.
pub(crate) fn body(reader: Box<dyn Read + Send>) -> Body {
    let frames = stream::try_unfold(reader, |mut reader| async move {
        let read = spawn_blocking(move || read_piece(&mut reader).map(|piece| (piece, reader)));
        let (piece, reader) = read.await.map_err(io::Error::from)??;
        Ok::<_, io::Error>((!piece.is_empty()).then(|| (Frame::data(piece), reader)))
    });
    StreamBody::new(frames).boxed_unsync()
}

fn read_piece(reader: &mut dyn Read) -> io::Result<Bytes> {
    let mut piece = vec![0; PIECE];
    loop {
        match reader.read(&mut piece) {
            Ok(count) => {
                piece.truncate(count);
                return Ok(Bytes::from(piece));
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_is_sent_and_a_failure_ends_it() {
        struct Failing(bool);
        impl Read for Failing {
            fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::from(ErrorKind::Other));
                }
                into[0] = b'x';
                Ok(1)
            }
        }
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let whole = body(Box::new(io::Cursor::new(bytes.clone()))).collect().await.unwrap();
        assert_eq!(whole.to_bytes(), bytes);
        let mut failing = body(Box::new(Failing(false)));
        assert_eq!(failing.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        assert!(failing.frame().await.unwrap().is_err());
    }
}
