#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| decores_fuzz::image(data));
