//! Comparing numbers within a named tolerance.

/// How far numbers may be apart: `absolute + relative * |want|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Allowed for numbers near 0.
    pub absolute: f32,
    /// Allowed as a part of the wanted number.
    pub relative: f32,
}

impl Tolerance {
    /// No difference at all; NaN equals nothing.
    pub const EXACT: Self = Self {
        absolute: 0.0,
        relative: 0.0,
    };
    /// Another order of summation in f32.
    pub const F32: Self = Self {
        absolute: 1e-4,
        relative: 1e-3,
    };
    /// Numbers rounded to f16 on the way.
    pub const F16: Self = Self {
        absolute: 1e-2,
        relative: 1e-2,
    };
    /// Numbers rounded to bf16 on the way.
    pub const BF16: Self = Self {
        absolute: 5e-2,
        relative: 5e-2,
    };
}

/// Fails the test unless all of `got` are as near to `want` as the tolerance says; prints the worst index and both values.
///
/// # Panics
/// When the lengths differ or a number is too far off.
#[track_caller]
pub fn close(got: &[f32], want: &[f32], tolerance: Tolerance) {
    let difference = difference(got, want, tolerance);
    assert!(difference.is_none(), "{}", difference.unwrap_or_default());
}

/// The same as a message instead of a panic, for callers that add which case it was.
pub fn difference(got: &[f32], want: &[f32], tolerance: Tolerance) -> Option<String> {
    if got.len() != want.len() {
        return Some(format!(
            "{} numbers where {} are wanted",
            got.len(),
            want.len()
        ));
    }
    // How often the allowed distance fits into the real one; NaN is infinitely far.
    let excess = |(got, want): (&f32, &f32)| {
        if got.to_bits() == want.to_bits() {
            return 0.0;
        }
        let allowed = tolerance.absolute + tolerance.relative * want.abs();
        let ratio = (got - want).abs() / allowed;
        if ratio.is_nan() { f32::INFINITY } else { ratio }
    };
    let ratios: Vec<f32> = got.iter().zip(want).map(excess).collect();
    let (worst, ratio) = ratios
        .iter()
        .copied()
        .enumerate()
        .max_by(|one, other| one.1.total_cmp(&other.1))?;
    if ratio <= 1.0 {
        return None;
    }
    let far = ratios.iter().filter(|&&ratio| ratio > 1.0).count();
    Some(format!(
        "{far} of {} numbers are too far off; worst at {worst}: got {}, want {} ({ratio:.1} times {tolerance:?})",
        got.len(),
        got[worst],
        want[worst]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_number_is_named_with_both_values() {
        let message = difference(&[1.0, 2.0, 5.0], &[1.0, 2.1, 4.0], Tolerance::F32).expect("far");
        assert!(
            message.starts_with("2 of 3 numbers are too far off; worst at 2: got 5, want 4 ("),
            "{message}"
        );
        close(&[1.0, 0.000_05], &[1.000_5, 0.0], Tolerance::F32);
    }

    #[test]
    fn exact_means_bits_and_nan_is_never_near() {
        close(
            &[0.0, f32::INFINITY],
            &[0.0, f32::INFINITY],
            Tolerance::EXACT,
        );
        for (got, want) in [
            (f32::NAN, 1.0),
            (1.0, f32::NAN),
            (0.0, -0.0),
            (f32::INFINITY, 1.0),
        ] {
            assert!(
                difference(&[got], &[want], Tolerance::EXACT).is_some(),
                "{got} {want}"
            );
        }
        assert!(difference(&[f32::NAN], &[0.0], Tolerance::BF16).is_some());
        assert!(difference(&[1.0], &[], Tolerance::BF16).is_some());
    }
}
