#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzz_targets::streams::qemu_img_info(data));
