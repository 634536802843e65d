//! Giving up root, for good. The whole of it: small enough to audit at a glance.
//!
//! Called once, at the start of a web-side daemon, before it opens a lock, a socket or a file and before it forks
//! (reference 01 §1.2 step 3). Everything later runs without privilege.

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, User, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};
use pve_schema::errno_text;
use pve_schema::site::Ids;

/// Privileges could not be given up: the daemon must not go on.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// There is no such user.
    #[error("getpwnam failed - no such user '{0}'")]
    NoUser(String),
    /// The user database could not be read.
    #[error("getpwnam failed - {}", errno_text(&(*.0).into()))]
    Lookup(Errno),
    /// A call was refused.
    #[error("{call} failed - {}", errno_text(&(*.errno).into()))]
    Refused {
        /// The system call.
        call: &'static str,
        /// Why.
        errno: Errno,
    },
    /// The group ids are not what was asked for.
    #[error("detected strange gid")]
    StrangeGid,
    /// The user ids are not what was asked for, or root can be had back.
    #[error("detected strange uid")]
    StrangeUid,
}

/// A user's numbers, by name.
///
/// # Errors
/// When there is no such user.
pub(crate) fn lookup(name: &str) -> Result<Ids, PrivilegeError> {
    match User::from_name(name) {
        Ok(Some(user)) => Ok(Ids {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
        }),
        Ok(None) => Err(PrivilegeError::NoUser(name.to_owned())),
        Err(errno) => Err(PrivilegeError::Lookup(errno)),
    }
}

/// Becomes `ids`, with that one group, real, effective and saved; checked afterwards. Fine when that is so already
/// (the image that a reload executes). Started as this user – by a unit with `User=` – a process may have more groups:
/// those that the administrator gave the user, and never root's. The signal that is to come with the parent's death, which
/// the kernel forgets at a change of user, is asked for again.
///
/// # Errors
/// When anything but exactly this is the outcome. The process is then in a state that must not serve.
pub(crate) fn drop_to(ids: Ids) -> Result<(), PrivilegeError> {
    if verify(ids).is_ok() {
        return Ok(());
    }
    if Uid::effective().as_raw() == ids.uid && ids.uid != 0 {
        return verify_started_as(ids);
    }
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    let parent_death = nix::sys::prctl::get_pdeathsig().ok().flatten();
    let refused = |call| move |errno| PrivilegeError::Refused { call, errno };
    setgroups(&[gid]).map_err(refused("setgroups"))?;
    setresgid(gid, gid, gid).map_err(refused("setresgid"))?;
    setresuid(uid, uid, uid).map_err(refused("setresuid"))?;
    if let Some(signal) = parent_death {
        nix::sys::prctl::set_pdeathsig(signal).map_err(refused("prctl"))?;
    }
    verify(ids)
}

/// Whether the process is exactly `ids`, with that one group, and cannot become root again.
fn verify(ids: Ids) -> Result<(), PrivilegeError> {
    verify_ids(ids, |groups| groups == [Gid::from_raw(ids.gid)])
}

/// Whether the process is `ids`, with whatever groups but root's it was started with, and cannot become root.
fn verify_started_as(ids: Ids) -> Result<(), PrivilegeError> {
    verify_ids(ids, |groups| !groups.contains(&Gid::from_raw(0)))
}

fn verify_ids(ids: Ids, fits: impl Fn(&[Gid]) -> bool) -> Result<(), PrivilegeError> {
    let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
    let groups = getgroups().map_err(|_| PrivilegeError::StrangeGid)?;
    let is = getresgid().map_err(|_| PrivilegeError::StrangeGid)?;
    if [is.real, is.effective, is.saved] != [gid; 3] || !fits(&groups) {
        return Err(PrivilegeError::StrangeGid);
    }
    let is = getresuid().map_err(|_| PrivilegeError::StrangeUid)?;
    if [is.real, is.effective, is.saved] != [uid; 3] {
        return Err(PrivilegeError::StrangeUid);
    }
    let root = Uid::from_raw(0);
    if uid != root && setresuid(root, root, root).is_ok() {
        return Err(PrivilegeError::StrangeUid);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_user_is_named() {
        let error = lookup("no-such-user-here").unwrap_err();
        assert_eq!(error.to_string(), "getpwnam failed - no such user 'no-such-user-here'");
    }
}
