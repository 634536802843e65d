//! Asking a container's monitor, `lxc-start`, for the first process in the container: what `lxc-info -p` prints, without
//! a process for each container and look.
//!
//! The protocol (reference 07 §6.3): a request of 16 bytes – number, length of what follows, a word – and an answer of
//! the same form, whose word here is the process id.

use std::io::{self, Read as _, Write as _};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::Duration;

/// The command for it.
const GET_INIT_PID: i32 = 4;
/// How long a monitor may think; it answers in microseconds.
const LIMIT: Duration = Duration::from_secs(1);

/// The first process of the container whose monitor listens at an abstract socket.
pub(super) fn first_process(socket: &Path) -> io::Result<u32> {
    let address = SocketAddr::from_abstract_name(socket.as_os_str().as_bytes())?;
    let mut stream = UnixStream::connect_addr(&address)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut request = [0; 16];
    request[..4].copy_from_slice(&GET_INIT_PID.to_ne_bytes());
    stream.write_all(&request)?;
    let mut answer = [0; 16];
    stream.read_exact(&mut answer)?;
    parse(answer)
}

fn parse(answer: [u8; 16]) -> io::Result<u32> {
    let [a, b, c, d, _, _, _, _, word @ ..] = answer;
    let refused = i32::from_ne_bytes([a, b, c, d]);
    if refused < 0 {
        return Err(io::Error::from_raw_os_error(refused.saturating_neg()));
    }
    let pid = i64::from_ne_bytes(word);
    u32::try_from(pid)
        .ok()
        .filter(|pid| *pid > 0)
        .ok_or_else(|| io::Error::other("no process"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(refused: i32, word: i64) -> [u8; 16] {
        let mut answer = [0; 16];
        answer[..4].copy_from_slice(&refused.to_ne_bytes());
        answer[8..].copy_from_slice(&word.to_ne_bytes());
        answer
    }

    #[test]
    fn an_answer_is_a_process_or_a_refusal() {
        assert_eq!(parse(answer(0, 2241)).unwrap(), 2241);
        assert_eq!(parse(answer(-13, 0)).unwrap_err().raw_os_error(), Some(13));
        assert!(parse(answer(i32::MIN, 0)).is_err());
        for none in [0, -1, i64::MAX] {
            assert!(parse(answer(0, none)).is_err());
        }
    }
}
