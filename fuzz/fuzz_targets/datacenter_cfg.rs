#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::files::datacenter_cfg(data));
