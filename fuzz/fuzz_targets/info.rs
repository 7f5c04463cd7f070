//! Any bytes as a reply to INFO: nothing may panic, nothing derived may be infinite.
#![no_main]

use cache_storm_exporter::parse::{Info, Sample};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let info = Info::parse(&text);
    let sample = Sample::from_info(&info);
    assert!(sample.memory_used_ratio().is_none_or(f64::is_finite));
    assert!(sample.lookups() >= sample.hits.filter(|_| sample.lookups().is_some()));
});
