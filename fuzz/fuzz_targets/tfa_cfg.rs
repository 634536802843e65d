#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::secrets::tfa_cfg(data));
