//! The few foreign functions that the suite calls: all `unsafe` that is not in `pve-daemon`.
//!
//! Every function exported here is safe to call with any argument.
//!
//! | module | calls |
//! |---|---|
//! | [`crypt`] | libcrypt: password hashes |
//! | [`dh`] | AWS-LC: Diffie-Hellman in groups that an administrator chose |
//! | [`kvm`], [`io_uring`] | the kernel: what QEMU may use |
//! | [`ioprio`] | the kernel: I/O priorities |
//! | [`pam`] | libpam: log-in checks of the machine's own users |
//! | [`pty`] | the kernel and libutil: programs on a pseudo terminal |
//! | [`rrd`] | librrd: files of figures over time |
//! | [`rsa`] | AWS-LC: the RSA-SHA1 signatures that its Rust interface does not offer |
//! | [`socket`] | the kernel: sockets of this machine's daemons, with deadlines |

pub mod crypt;
pub mod dh;
pub mod io_uring;
pub mod ioprio;
pub mod kvm;
pub mod pam;
pub mod pty;
pub mod rrd;
pub mod rsa;
pub mod socket;
