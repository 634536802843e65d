#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::secrets::token_cfg(data));
