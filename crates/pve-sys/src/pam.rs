//! Log-in checks by PAM (reference 02 §7.3).
//!
//! Modules run code of all sorts inside the calling process – they sleep, fork, keep state and crash – so nobody but a
//! short-lived helper process calls this (`pve_access::pam`). Why no crate: `docs/decisions/0004-pam.md`.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;

const PAM_SUCCESS: c_int = 0;
const PAM_BUF_ERR: c_int = 5;
const PAM_CONV_ERR: c_int = 19;
/// Item: the host that the user comes from.
const PAM_RHOST: c_int = 4;
const PAM_PROMPT_ECHO_OFF: c_int = 1;
const PAM_PROMPT_ECHO_ON: c_int = 2;
/// Linux-PAM's limit on messages in one conversation call.
const PAM_MAX_NUM_MSG: usize = 32;

/// `pam_handle_t`, which only libpam looks into.
#[repr(C)]
struct Handle {
    _private: [u8; 0],
}

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

#[repr(C)]
struct Conversation {
    function: extern "C" fn(c_int, *const *const Message, *mut *mut Response, *mut c_void) -> c_int,
    data: *mut c_void,
}

#[link(name = "pam")]
unsafe extern "C" {
    fn pam_start(
        service: *const c_char,
        user: *const c_char,
        conversation: *const Conversation,
        handle: *mut *mut Handle,
    ) -> c_int;
    fn pam_end(handle: *mut Handle, status: c_int) -> c_int;
    fn pam_set_item(handle: *mut Handle, item: c_int, value: *const c_void) -> c_int;
    fn pam_authenticate(handle: *mut Handle, flags: c_int) -> c_int;
    fn pam_acct_mgmt(handle: *mut Handle, flags: c_int) -> c_int;
    fn pam_strerror(handle: *mut Handle, code: c_int) -> *const c_char;
}

/// Why PAM did not let a user in.
#[derive(Debug, thiserror::Error)]
pub enum PamError {
    /// A text holds a NUL byte.
    #[error("invalid characters in user name or password")]
    Nul,
    /// PAM said no, in its own words.
    #[error("{0}")]
    Refused(String),
}

/// What PAM is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The PAM service, the name of a file in `/etc/pam.d`.
    pub service: &'a str,
    /// The user's name on this machine.
    pub user: &'a str,
    /// Answers every prompt.
    pub password: &'a str,
    /// Where the user comes from.
    pub remote_host: Option<&'a str>,
}

/// Checks a user's password, then whether the account may be used now.
///
/// # Errors
/// PAM's reason for a refusal.
pub fn authenticate(question: &Question<'_>) -> Result<(), PamError> {
    let text = |text: &str| CString::new(text).map_err(|_| PamError::Nul);
    let (service, user) = (text(question.service)?, text(question.user)?);
    let password = text(question.password)?;
    let remote_host = question.remote_host.map(text).transpose()?;
    let conversation = Conversation {
        function: answer,
        data: password.as_ptr().cast_mut().cast(),
    };
    let mut handle = ptr::null_mut();
    // SAFETY: all pointers are live; `conversation` and `password` outlive the session, which ends in this function.
    let started = unsafe {
        pam_start(
            service.as_ptr(),
            user.as_ptr(),
            &raw const conversation,
            &raw mut handle,
        )
    };
    if started != PAM_SUCCESS || handle.is_null() {
        return Err(PamError::Refused(describe(handle, started)));
    }
    let status = run(handle, remote_host.as_deref());
    let result = match status {
        PAM_SUCCESS => Ok(()),
        code => Err(PamError::Refused(describe(handle, code))),
    };
    // SAFETY: the handle is the live session from above and is not used afterwards.
    unsafe { pam_end(handle, status) };
    result
}

/// The steps of a started session; PAM's status of the first that fails.
fn run(handle: *mut Handle, remote_host: Option<&CStr>) -> c_int {
    if let Some(host) = remote_host {
        // SAFETY: the session is live and libpam copies the text.
        let status = unsafe { pam_set_item(handle, PAM_RHOST, host.as_ptr().cast()) };
        if status != PAM_SUCCESS {
            return status;
        }
    }
    // SAFETY: the session is live.
    let status = unsafe { pam_authenticate(handle, 0) };
    if status != PAM_SUCCESS {
        return status;
    }
    // SAFETY: the session is live.
    unsafe { pam_acct_mgmt(handle, 0) }
}

/// PAM's words for a status.
fn describe(handle: *mut Handle, code: c_int) -> String {
    // SAFETY: Linux-PAM does not look at the handle; the text it gives is static.
    let text = unsafe { pam_strerror(handle, code) };
    if text.is_null() {
        return format!("PAM error {code}");
    }
    // SAFETY: not NULL, so a NUL-terminated static text.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// The conversation: answers every prompt with the password, and takes notice of what is only said.
extern "C" fn answer(
    count: c_int,
    messages: *const *const Message,
    answers: *mut *mut Response,
    password: *mut c_void,
) -> c_int {
    let count = match usize::try_from(count) {
        Ok(count @ 1..=PAM_MAX_NUM_MSG) if !messages.is_null() && !answers.is_null() => count,
        _ => return PAM_CONV_ERR,
    };
    // SAFETY: calloc checks the product; the array is released by libpam with free().
    let list = unsafe { libc::calloc(count, size_of::<Response>()) }.cast::<Response>();
    if list.is_null() {
        return PAM_BUF_ERR;
    }
    for index in 0..count {
        // SAFETY: Linux-PAM passes an array of `count` pointers to messages.
        let style = unsafe { (**messages.add(index)).style };
        if matches!(style, PAM_PROMPT_ECHO_OFF | PAM_PROMPT_ECHO_ON) {
            // SAFETY: `password` is the NUL-terminated text that the session was started with; `index` is in bounds.
            unsafe { (*list.add(index)).text = libc::strdup(password.cast()) };
        }
    }
    // SAFETY: libpam passed a place for the pointer.
    unsafe { *answers = list };
    PAM_SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_user_is_refused_in_pams_words() {
        let question = Question {
            service: "proxmox-ve-auth",
            user: "no-such-user-here",
            password: "x",
            remote_host: Some("192.0.2.1"),
        };
        assert!(matches!(authenticate(&question), Err(PamError::Refused(text)) if !text.is_empty()));
    }

    #[test]
    fn a_nul_byte_never_reaches_pam() {
        let question = Question {
            service: "proxmox-ve-auth",
            user: "a\0b",
            password: "x",
            remote_host: None,
        };
        assert!(matches!(authenticate(&question), Err(PamError::Nul)));
    }
}
