//! Asking a container's monitor, `lxc-start`, for the first process in the container: what `lxc-info -p` prints, without
//! a process for each container and look.
//!
//! The protocol (reference 07 §6.3): a request of 16 bytes – number, length of what follows, a word – and an answer of
//! the same form, whose word here is the process id.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;
use pve_schema::Site;

/// The command for it.
const GET_INIT_PID: i32 = 4;
/// How long each step may take. It answers in microseconds, and whoever asks goes on without it much sooner: one that is
/// slow is not asked again meanwhile.
const LIMIT: Duration = Duration::from_secs(60);

/// The first process of the container whose monitor listens at an abstract socket. Anybody may listen at such a name:
/// only what the monitors' user says counts.
pub(super) fn first_process(site: &Site, name: &Path) -> io::Result<u32> {
    let mut stream = connect_to(name)?;
    let uid = getsockopt(&stream, sockopt::PeerCredentials)?.uid();
    if uid != site.root_user.uid {
        return Err(io::Error::other(format!("it is user {uid} who listens")));
    }
    stream.set_read_timeout(Some(LIMIT))?;
    let mut request = [0; 16];
    request[..4].copy_from_slice(&GET_INIT_PID.to_ne_bytes());
    stream.write_all(&request)?;
    let mut answer = [0; 16];
    stream.read_exact(&mut answer)?;
    parse(answer)
}

/// With a deadline: a monitor that hangs with a full queue takes no connections.
fn connect_to(name: &Path) -> io::Result<UnixStream> {
    let address = UnixAddr::new_abstract(name.as_os_str().as_bytes())?;
    let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    let seconds = i64::try_from(LIMIT.as_secs()).unwrap_or(i64::MAX);
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::new(seconds, 0))?;
    connect(fd.as_raw_fd(), &address)?;
    Ok(fd.into())
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
    fn only_the_monitors_user_is_believed() {
        let directory = tempfile::tempdir().unwrap();
        let mut site = pve_testing::site(directory.path(), "n1");
        let vmid = "812".parse().unwrap();
        let _monitor = super::super::tests::monitor(&site, vmid, 4711);
        let socket = crate::names::command_socket(&site, vmid);
        assert_eq!(first_process(&site, &socket).unwrap(), 4711);
        site.root_user.uid += 1;
        let error = first_process(&site, &socket).unwrap_err().to_string();
        assert!(error.ends_with("who listens"), "{error}");
        let other = crate::names::command_socket(&site, "813".parse().unwrap());
        assert!(first_process(&site, &other).is_err(), "nobody listens");
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
