//! The probabilities of logits, without allocating: peak, normaliser, logarithms.
//!
//! Loops are written so that the compiler turns them into vector instructions; sums run in a
//! fixed order.

use super::SamplerError;

/// Sums of this many lanes are kept apart, in f32, over this many values; then added in f64.
const LANES: usize = 16;
const BLOCK: usize = 512;

/// The normaliser of one row of logits.
pub(super) struct Softmax {
    /// The highest logit.
    pub(super) peak: f32,
    /// Natural logarithm of the sum of `exp(logit - peak)`.
    ln_sum: f64,
}

impl Softmax {
    /// Reads the logits twice; an error if one is NaN or plus infinity, or none is a number.
    pub(super) fn of(logits: &[f32]) -> Result<Self, SamplerError> {
        let peak = peak(logits)?;
        Ok(Self {
            peak,
            ln_sum: sum(logits, |logit| exp(logit - peak)).ln(),
        })
    }

    /// Natural logarithm of the probability of a logit.
    pub(super) fn ln(&self, logit: f32) -> f32 {
        (f64::from(logit) - f64::from(self.peak) - self.ln_sum) as f32
    }
}

/// Natural logarithm of the probability of token `id`; NaN if the logits are no distribution or
/// `id` is beyond them.
pub fn log_softmax_at(logits: &[f32], id: u32) -> f32 {
    match (Softmax::of(logits), logits.get(id as usize)) {
        (Ok(softmax), Some(&logit)) => softmax.ln(logit),
        _ => f32::NAN,
    }
}

/// The highest value.
pub(super) fn peak(values: &[f32]) -> Result<f32, SamplerError> {
    let (chunks, rest) = values.as_chunks::<LANES>();
    let mut peaks = [f32::NEG_INFINITY; LANES];
    let mut bad = [0u32; LANES];
    for chunk in chunks {
        for lane in 0..LANES {
            bad[lane] |= u32::from(chunk[lane].is_nan() || chunk[lane] == f32::INFINITY);
            peaks[lane] = if chunk[lane] > peaks[lane] {
                chunk[lane]
            } else {
                peaks[lane]
            };
        }
    }
    let is_bad = |value: &f32| value.is_nan() || *value == f32::INFINITY;
    if bad.iter().any(|&bad| bad > 0) || rest.iter().any(is_bad) {
        let bad = values.iter().zip(0..).find(|(value, _)| is_bad(value));
        let (&value, token) = bad.expect("a lane or the rest has seen one");
        return Err(SamplerError::NotFinite { token, value });
    }
    let peak = peaks
        .iter()
        .chain(rest)
        .copied()
        .fold(f32::NEG_INFINITY, f32::max);
    match values.len() {
        0 => Err(SamplerError::Empty),
        vocab if peak == f32::NEG_INFINITY => Err(SamplerError::Nothing { vocab }),
        _ => Ok(peak),
    }
}

/// The sum of `f` over all values, accurate to about 1e-7 of it.
pub(super) fn sum(values: &[f32], f: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(BLOCK) {
        let (chunks, rest) = block.as_chunks::<LANES>();
        let mut lanes = [0.0f32; LANES];
        for chunk in chunks {
            for lane in 0..LANES {
                lanes[lane] += f(chunk[lane]);
            }
        }
        total += lanes.iter().map(|&lane| f64::from(lane)).sum::<f64>();
        total += rest.iter().map(|&value| f64::from(f(value))).sum::<f64>();
    }
    total
}

/// `eˣ` for `x` up to 0, to about 1e-7 of it; 0 below the normal numbers.
///
/// The polynomial of Cephes' `expf`, after taking out a power of two. The standard library's
/// function is exact to the last bit but cannot run on vectors.
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    const LOWEST: f32 = -87.0;
    /// Added and subtracted, it rounds to an integer, which then stands in its lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > LOWEST { x } else { LOWEST };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let power = shifted - ROUND;
    let rest = clamped - power * LN_2_HIGH - power * LN_2_LOW;
    let mut series = 1.987_569_2e-4;
    for coefficient in [
        1.398_2e-3,
        8.333_452e-3,
        4.166_579_6e-2,
        1.666_666_5e-1,
        0.5,
    ] {
        series = series * rest + coefficient;
    }
    let mantissa = series * rest * rest + rest + 1.0;
    // 2 to the power: the exponent's bits, with their bias of 127.
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x > LOWEST { mantissa * scale } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_exponential_is_accurate_over_its_range() {
        for step in 0..87_000 {
            let x = -step as f32 / 1000.0;
            let (got, want) = (f64::from(exp(x)), f64::from(x).exp());
            assert!(
                (got - want).abs() <= 2e-7 * want,
                "exp({x}) = {got}, not {want}"
            );
        }
        assert_eq!(
            (exp(0.0), exp(-88.0), exp(f32::NEG_INFINITY)),
            (1.0, 0.0, 0.0)
        );
    }

    #[test]
    fn a_token_without_probability_has_minus_infinity() {
        let logits = [f32::NEG_INFINITY, 3.0];
        assert_eq!(log_softmax_at(&logits, 0), f32::NEG_INFINITY);
        assert_eq!(log_softmax_at(&logits, 1), 0.0);
        assert!(log_softmax_at(&logits, 2).is_nan());
        assert!(log_softmax_at(&[f32::NAN], 0).is_nan());
    }

    proptest! {
        #[test]
        fn log_probabilities_equal_the_plain_formula(
            logits in proptest::collection::vec(-30.0f32..30.0, 1..1500),
            at in any::<prop::sample::Index>(),
        ) {
            let id = at.index(logits.len());
            let peak = logits.iter().copied().fold(f32::MIN, f32::max);
            let sum: f64 = logits.iter().map(|&x| (f64::from(x) - f64::from(peak)).exp()).sum();
            let want = f64::from(logits[id]) - f64::from(peak) - sum.ln();
            let got = f64::from(log_softmax_at(&logits, id as u32));
            prop_assert!((got - want).abs() < 1e-6 * want.abs().max(1.0), "{} {}", got, want);
        }
    }
}
