//! A payload: any bytes are pairs of texts, all of them, or are none.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce_python::protocol::read_payload;

fuzz_target!(|bytes: &[u8]| {
    if let Some(pairs) = read_payload(bytes) {
        // Bytes that are no UTF-8 become replacement characters of three bytes.
        let texts = pairs.iter().map(|(key, value)| key.len() + value.len());
        assert!(texts.sum::<usize>() <= 3 * bytes.len());
    }
});
