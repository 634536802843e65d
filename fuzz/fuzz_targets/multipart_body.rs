#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::web::multipart_body(data));
