//! An answer: any bytes are one, or are refused; nothing is kept that did not come.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce_python::protocol::{Content, read_answer};

/// More than any input has.
const LIMIT: usize = 1 << 16;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let Ok(answer) = read_answer(&mut rest, LIMIT) else {
        return;
    };
    let read = bytes.len() - rest.len();
    let kept: usize = match &answer.content {
        Content::Whole(content) => content.iter().map(|(_, value)| value.len()).sum(),
        Content::Stream => 0,
    };
    assert!(kept <= read, "{kept} of {read} bytes");
});
