#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    safelight_fuzz::logs::check(bytes);
});
