//! An answer and its stream: any bytes end in an error or at the last part.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sconce_python::protocol::{Content, read_answer, read_frame};

/// Less than inputs may have, so that lengths beyond it are refused.
const LIMIT: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let Ok(answer) = read_answer(&mut rest, LIMIT) else {
        return;
    };
    let mut last = answer.content != Content::Stream;
    while !last {
        let Ok(frame) = read_frame(&mut rest, LIMIT) else {
            return;
        };
        assert!(frame.data.len() <= LIMIT);
        last = frame.last;
    }
});
