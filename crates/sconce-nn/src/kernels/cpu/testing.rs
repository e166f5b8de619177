//! What tests of kernels share: numbers without a pattern and a comparison that names the worst element.

/// Deterministic numbers between -1 and 1.
pub(crate) fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// Every element within `tolerance`, absolute below one and relative above.
pub(crate) fn assert_close(got: &[f32], wanted: &[f32], tolerance: f32) {
    assert_eq!(got.len(), wanted.len());
    let error = |(got, wanted): (&f32, &f32)| (got - wanted).abs() / wanted.abs().max(1.0);
    for (index, pair) in got.iter().zip(wanted).enumerate() {
        let error = error(pair);
        assert!(
            error <= tolerance,
            "element {index}: {} instead of {}, error {error:e}",
            pair.0,
            pair.1
        );
    }
}
