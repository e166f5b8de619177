//! Inverse frequencies by the formulas of transformers' `modeling_rope_utils.py`, and the settings that make none.

use candle_core::Result;

use super::{RopeScaling, RopeSpec};
use crate::error::NnError;

/// Fails on settings that make no frequencies.
pub(super) fn check(spec: &RopeSpec) -> Result<()> {
    let refuse = |what: &'static str, value: String, wanted: &str| {
        Err(NnError::Value {
            what,
            value,
            wanted: wanted.to_owned(),
        }
        .into())
    };
    if spec.dim == 0 || spec.dim % 2 == 1 {
        return refuse(
            "the rotated part of a head",
            spec.dim.to_string(),
            "a positive even number",
        );
    }
    if !(spec.theta.is_finite() && spec.theta > 0.0) {
        return refuse(
            "the rotary base",
            spec.theta.to_string(),
            "a positive number",
        );
    }
    check_scaling(spec)
}

fn check_scaling(spec: &RopeSpec) -> Result<()> {
    let refuse = |what: &'static str, value: String, wanted: String| {
        Err(NnError::Value {
            what,
            value,
            wanted,
        }
        .into())
    };
    let positive = |number: f64| number.is_finite() && number > 0.0;
    match &spec.scaling {
        RopeScaling::Linear { factor }
        | RopeScaling::Llama3 { factor, .. }
        | RopeScaling::Yarn { factor, .. }
            if !positive(*factor) =>
        {
            let wanted = "a positive number".to_owned();
            refuse("the rotary scaling factor", factor.to_string(), wanted)
        }
        RopeScaling::Llama3 {
            low_freq_factor: low,
            high_freq_factor: high,
            ..
        } if !(*low > 0.0 && low < high) => refuse(
            "the pair of low and high frequency factors",
            format!("{low}, {high}"),
            "positive and ascending".to_owned(),
        ),
        RopeScaling::Yarn {
            beta_slow: slow,
            beta_fast: fast,
            ..
        } if !(*slow > 0.0 && slow <= fast) => refuse(
            "the pair of beta_slow and beta_fast",
            format!("{slow}, {fast}"),
            "positive and ascending".to_owned(),
        ),
        RopeScaling::LongRope { short, long, .. } => {
            let pairs = spec.dim / 2;
            let bad = |divisors: &Vec<f64>| {
                divisors.len() != pairs || !divisors.iter().copied().all(positive)
            };
            match [short, long].into_iter().find(|divisors| bad(divisors)) {
                Some(divisors) => refuse(
                    "a list of rotary divisors",
                    format!("{divisors:?}"),
                    format!("{pairs} positive numbers, one for each rotated pair"),
                ),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Inverse frequencies `[dim / 2]`, every operation rounded to f32 as torch does it. `long`: those of sequences beyond
/// the border.
pub(super) fn frequencies(spec: &RopeSpec, long: bool) -> Vec<f32> {
    let wavelength = |pair: usize| {
        let exponent = (2 * pair) as f32 / spec.dim as f32;
        f64::from(spec.theta as f32).powf(f64::from(exponent)) as f32
    };
    (0..spec.dim / 2)
        .map(|pair| scaled(wavelength(pair), pair, spec, long))
        .collect()
}

/// The inverse of a pair's wavelength (in tokens, over 2π), scaled.
fn scaled(wavelength: f32, pair: usize, spec: &RopeSpec, long: bool) -> f32 {
    match &spec.scaling {
        RopeScaling::None => 1.0 / wavelength,
        RopeScaling::Linear { factor } => 1.0 / wavelength / *factor as f32,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_len,
        } => {
            let frequency = 1.0 / wavelength;
            let length = *original_max_len as f64;
            let turn = 2.0 * std::f32::consts::PI / frequency;
            if turn < (length / high_freq_factor) as f32 {
                return frequency;
            }
            let divided = frequency / *factor as f32;
            if turn > (length / low_freq_factor) as f32 {
                return divided;
            }
            let span = (high_freq_factor - low_freq_factor) as f32;
            let smooth = (length as f32 / turn - *low_freq_factor as f32) / span;
            (1.0 - smooth) * divided + smooth * frequency
        }
        RopeScaling::Yarn { factor, .. } => {
            let kept = 1.0 - yarn_ramp(pair, spec);
            let (divided, whole) = (1.0 / (*factor as f32 * wavelength), 1.0 / wavelength);
            divided * (1.0 - kept) + whole * kept
        }
        RopeScaling::LongRope {
            short,
            long: divisors,
            ..
        } => {
            let divisor = if long { divisors[pair] } else { short[pair] };
            1.0 / (divisor as f32 * wavelength)
        }
    }
}

/// How far a pair is on the passage from kept (0) to divided (1).
fn yarn_ramp(pair: usize, spec: &RopeSpec) -> f32 {
    let RopeScaling::Yarn {
        beta_fast,
        beta_slow,
        original_max_len,
        truncate,
        ..
    } = spec.scaling
    else {
        return 0.0;
    };
    // The pair, as a fraction, that turns so often within the original length.
    let pair_that_turns = |turns: f64| {
        let length = original_max_len as f64 / (turns * 2.0 * std::f64::consts::PI);
        spec.dim as f64 * length.ln() / (2.0 * spec.theta.ln())
    };
    let (mut low, mut high) = (pair_that_turns(beta_fast), pair_that_turns(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min((spec.dim - 1) as f64));
    if low == high {
        high += 0.001;
    }
    ((pair as f32 - low as f32) / (high - low) as f32).clamp(0.0, 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rope::tests::spec;

    #[test]
    fn scaled_frequencies_are_the_published_formulas() {
        let plain = frequencies(&spec(64, RopeScaling::None), false);
        assert_eq!((plain[0], plain[16]), (1.0, 0.01));
        let linear = frequencies(&spec(64, RopeScaling::Linear { factor: 4.0 }), false);
        assert!(
            linear
                .iter()
                .zip(&plain)
                .all(|(scaled, plain)| *scaled == plain / 4.0)
        );
        let llama = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_len: 8192,
        };
        let of = |scaling| {
            let theta = 500_000.0;
            let spec = RopeSpec {
                theta,
                ..spec(128, scaling)
            };
            frequencies(&spec, false)
        };
        let (scaled, plain) = (of(llama), of(RopeScaling::None));
        assert_eq!((scaled[0], scaled[28]), (plain[0], plain[28]));
        assert_eq!((scaled[35], scaled[63]), (plain[35] / 8.0, plain[63] / 8.0));
        assert!(scaled[30] < plain[30] && scaled[30] > plain[30] / 8.0);
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_divides_slow_ones() {
        let yarn = RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            original_max_len: 4096,
            truncate: true,
        };
        let of = |scaling| frequencies(&spec(64, scaling), false);
        let (scaled, plain) = (of(yarn), of(RopeScaling::None));
        // 4096 tokens turn pair 10.5 32 times and pair 22.5 once: the passage is from 10 to 23.
        assert_eq!((scaled[0], scaled[10]), (plain[0], plain[10]));
        assert_eq!((scaled[23], scaled[31]), (plain[23] / 4.0, plain[31] / 4.0));
        let middle = f64::from(scaled[14] / plain[14]);
        assert!(
            (middle - (1.0 - 4.0 / 13.0 * 0.75)).abs() < 1e-6,
            "{middle}"
        );
    }
}
