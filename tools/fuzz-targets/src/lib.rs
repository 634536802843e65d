//! What the fuzzers run: one function per parser that reads what somebody else wrote.
//!
//! Each takes any bytes and must come back. Beyond "no panic", most check something that holds for every input: what was
//! read and written is read as the same again, how bytes are cut into packets changes nothing, a secret is not guessed.
//! The functions are here, in the workspace, so that the committed inputs (`fuzz/corpus`) run with `cargo test` on any
//! toolchain; `fuzz/` wraps them for libFuzzer (`docs/fuzzing.md`).
//!
//! | module | parsers of |
//! |---|---|
//! | [`web`] | requests: heads, parameters, bodies, websocket frames, `CONNECT` |
//! | [`secrets`] | tickets, tokens, credentials |
//! | [`factors`] | answers of security keys and of a validation server |
//! | [`settings`] | `/etc/default`, address lists, cipher lists, Diffie-Hellman parameters |
//! | [`files`] | what is below `/etc/pve`, and values in it |
//! | [`figures`] | metric servers, pulled figures |
//! | [`values`] | names, sizes, times, lists |
//! | [`consoles`] | terminals: frames of xterm.js, VNC and SPICE viewers, what programs print |
//! | [`streams`] | backup archives, the network block device protocol, QEMU's events and tools |

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a target says what must hold"
)]

pub mod consoles;
pub mod factors;
pub mod figures;
pub mod files;
pub mod secrets;
pub mod settings;
pub mod streams;
pub mod values;
pub mod web;

/// A parser under test.
#[derive(Debug)]
pub struct Target {
    /// Its name: that of the fuzzer and of its folder of inputs.
    pub name: &'static str,
    /// Runs it on one input; panics if something does not hold.
    pub run: fn(&[u8]),
}

macro_rules! targets {
    ($($module:ident :: $name:ident,)*) => {
        /// Every parser under test.
        pub static TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $module::$name },)*];
    };
}

targets! {
    web::http_head,
    web::http_path,
    web::form_parameters,
    web::json_parameters,
    web::multipart_body,
    web::websocket_frames,
    web::connect_head,
    secrets::credentials,
    secrets::token_header,
    secrets::login_ticket,
    secrets::csrf_token,
    secrets::token_cfg,
    secrets::openid_state,
    secrets::spice_ticket,
    secrets::tfa_cfg,
    secrets::shadow_cfg,
    factors::webauthn_answer,
    factors::yubico_answer,
    settings::defaults_file,
    settings::address_range,
    settings::real_ip,
    settings::cipher_list,
    settings::dh_params,
    files::user_cfg,
    files::storage_cfg,
    files::jobs_cfg,
    files::domains_cfg,
    figures::status_cfg,
    figures::pull_line,
    figures::metric_words,
    files::datacenter_cfg,
    files::corosync_conf,
    files::vzdump_conf,
    files::lxc_config,
    files::qemu_config,
    files::qemu_values,
    files::property_string,
    values::identifiers,
    values::volume_names,
    values::calendar_event,
    values::option_values,
    consoles::spice_client,
    consoles::console_frames,
    consoles::rfb_viewer,
    streams::vma_archive,
    streams::archived_config,
    streams::qemu_img_info,
    streams::event_messages,
    streams::nbd_client,
}

/// The text in the bytes, as the product reads text from outside.
fn text(data: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(data)
}

/// The first byte as a choice, and the rest.
fn choice(data: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((usize::from(*first), rest))
}
