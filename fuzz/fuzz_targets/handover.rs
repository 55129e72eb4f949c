#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| prefork_fuzz::targets::run("handover", input));
