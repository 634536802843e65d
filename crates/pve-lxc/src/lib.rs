//! One guest type: containers of LXC.
//!
//! | module | holds |
//! |---|---|
//! | [`config`] | the keys of a container's config and their types |
//! | [`files`] | the config files of this node's containers |
//! | [`names`] | what a container is called in the kernel and on disk |
//! | [`status`] | what lists and status pages show |
//! | [`cpuset`] | spreading containers over the CPUs |
//! | [`console`] | consoles that outlived their container |
//!
//! Not here yet: making, changing, starting and stopping containers.

pub mod config;
pub mod console;
pub mod cpuset;
pub mod files;
pub mod names;
pub mod status;
