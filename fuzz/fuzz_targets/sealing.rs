#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| bevy_uhst_fuzz::sealing::run(bytes));
