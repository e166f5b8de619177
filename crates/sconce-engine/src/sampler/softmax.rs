//! The probabilities of logits, without allocating: peak, normaliser, logarithms.
//!
//! The passes over the vocabulary are kernels of `sconce-nn`.

use sconce_nn::logits;

use super::SamplerError;

/// The normaliser of one row of logits.
pub(crate) struct Softmax {
    /// The highest logit.
    pub(crate) peak: f32,
    /// Natural logarithm of the sum of `exp(logit - peak)`.
    ln_sum: f64,
}

impl Softmax {
    /// Reads the logits twice; an error if one is NaN or plus infinity, or none is a number.
    pub(crate) fn of(logits: &[f32]) -> Result<Self, SamplerError> {
        let peak = peak(logits)?;
        Ok(Self {
            peak,
            ln_sum: logits::sum_exp(logits, peak, 1.0).ln(),
        })
    }

    /// Of a row whose sum somebody else has computed.
    pub(super) fn told(peak: f32, ln_sum: f64) -> Self {
        Self { peak, ln_sum }
    }

    #[cfg(test)]
    pub(super) fn ln_sum(&self) -> f64 {
        self.ln_sum
    }

    /// Natural logarithm of the probability of a logit.
    pub(crate) fn ln(&self, logit: f32) -> f32 {
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
    match logits::peak(values) {
        None => {
            let is_bad = |value: &f32| value.is_nan() || *value == f32::INFINITY;
            let bad = values.iter().zip(0..).find(|(value, _)| is_bad(value));
            let (&value, token) = bad.expect("the kernel has seen one");
            Err(SamplerError::NotFinite { token, value })
        }
        Some(f32::NEG_INFINITY) if values.is_empty() => Err(SamplerError::Empty),
        Some(f32::NEG_INFINITY) => Err(SamplerError::Nothing {
            vocab: values.len(),
        }),
        Some(peak) => Ok(peak),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
