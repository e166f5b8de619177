//! `Rope`: rotary positions with the pairing of transformers (element `i` with `i + dim / 2`).
//!
//! Angles are computed in f32 in the order of transformers' `modeling_rope_utils.py`, so that logits agree at long
//! positions too, where the last bit of an inverse frequency is worth a hundredth of a turn.

use std::sync::OnceLock;

use candle_core::{Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::rotate::{Heads, rotate};
use crate::tensors::{self, Numbers};

/// Positions whose angles are computed together, when the first of them is used.
const CHUNK: usize = 128;

/// How the frequencies differ from `theta^(-2i / dim)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// All are divided.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Long wavelengths are divided, short ones kept, with a smooth passage (Llama 3.1).
    Llama3 {
        /// The divisor of long wavelengths.
        factor: f64,
        /// Wavelengths beyond the original length over this are divided.
        low_freq_factor: f64,
        /// Wavelengths below the original length over this are kept.
        high_freq_factor: f64,
        /// Length of the context in training, in tokens.
        original_max_len: usize,
    },
}

/// What the angles depend on.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSpec {
    /// Leading numbers of a head that are rotated; even.
    pub dim: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// Change of the frequencies.
    pub scaling: RopeScaling,
    /// Number of positions.
    pub max_len: usize,
}

/// Cosines and sines of all positions.
#[derive(Debug)]
pub struct Rope {
    dim: usize,
    max_len: usize,
    frequencies: Vec<f32>,
    /// Cosines `[CHUNK, dim / 2]` and sines of positions `CHUNK * index ..`, once they were wanted.
    chunks: Vec<OnceLock<Angles>>,
}

#[derive(Debug)]
struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rope {
    /// Fails when `dim` is odd or a number makes no frequencies.
    pub fn new(spec: &RopeSpec) -> Result<Self> {
        check(spec)?;
        Ok(Self {
            dim: spec.dim,
            max_len: spec.max_len,
            frequencies: frequencies(spec),
            chunks: std::iter::repeat_with(OnceLock::new)
                .take(spec.max_len.div_ceil(CHUNK))
                .collect(),
        })
    }

    /// Rotates the first `dim` numbers of each head of `x` `[tokens, heads, head]` by the tokens' positions `[tokens]`.
    pub fn apply(&self, x: &Tensor, positions: &[u32]) -> Result<Tensor> {
        let what = "the input of rotary positions";
        let (tokens, heads, head) = x.dims3()?;
        if head < self.dim || tokens != positions.len() {
            let wanted = format!("[{}, heads, at least {}]", positions.len(), self.dim);
            return Err(NnError::Shape {
                what,
                shape: x.dims().to_vec(),
                wanted,
            }
            .into());
        }
        if let Some(position) = positions
            .iter()
            .find(|&&position| position as usize >= self.max_len)
        {
            let wanted = format!("below the model's context of {} tokens", self.max_len);
            return Err(NnError::Value {
                what: "a position",
                value: position.to_string(),
                wanted,
            }
            .into());
        }
        let numbers = Numbers::of(x, what)?;
        let mut out = vec![0.0; numbers.len()];
        rotate(
            &numbers,
            Heads {
                heads,
                head,
                dim: self.dim,
            },
            &|token| self.angles(positions[token]),
            &mut out,
        );
        tensors::tensor(out, x.dims())
    }

    /// Cosines and sines of one position, `[dim / 2]` each.
    fn angles(&self, position: u32) -> (&[f32], &[f32]) {
        let (chunk, offset) = (position as usize / CHUNK, position as usize % CHUNK);
        let angles =
            self.chunks[chunk].get_or_init(|| Angles::new(&self.frequencies, chunk * CHUNK));
        let pairs = offset * self.frequencies.len()..(offset + 1) * self.frequencies.len();
        (&angles.cos[pairs.clone()], &angles.sin[pairs])
    }
}

impl Angles {
    fn new(frequencies: &[f32], first: usize) -> Self {
        let angles = (first..first + CHUNK)
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f));
        // The product is rounded to f32 as in transformers; its cosine is then as exact as f32 can hold.
        let (sin, cos) = angles
            .map(|angle| f64::from(angle).sin_cos())
            .map(|(sin, cos)| (sin as f32, cos as f32))
            .unzip();
        Self { cos, sin }
    }
}

fn check(spec: &RopeSpec) -> Result<()> {
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
    match spec.scaling {
        RopeScaling::Linear { factor } | RopeScaling::Llama3 { factor, .. }
            if !(factor.is_finite() && factor > 0.0) =>
        {
            refuse(
                "the rotary scaling factor",
                factor.to_string(),
                "a positive number",
            )
        }
        RopeScaling::Llama3 {
            low_freq_factor: low,
            high_freq_factor: high,
            ..
        } if !(low > 0.0 && low < high) => refuse(
            "the pair of low and high frequency factors",
            format!("{low}, {high}"),
            "positive and ascending",
        ),
        _ => Ok(()),
    }
}

/// Inverse frequencies `[dim / 2]`, every operation rounded to f32 as torch does it.
fn frequencies(spec: &RopeSpec) -> Vec<f32> {
    let inverse = |pair: usize| {
        let exponent = (2 * pair) as f32 / spec.dim as f32;
        1.0 / f64::from(spec.theta as f32).powf(f64::from(exponent)) as f32
    };
    (0..spec.dim / 2)
        .map(|pair| scale(inverse(pair), spec.scaling))
        .collect()
}

fn scale(frequency: f32, scaling: RopeScaling) -> f32 {
    match scaling {
        RopeScaling::None => frequency,
        RopeScaling::Linear { factor } => frequency / factor as f32,
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_len,
        } => {
            let length = original_max_len as f64;
            let wavelength = 2.0 * std::f32::consts::PI / frequency;
            if wavelength < (length / high_freq_factor) as f32 {
                return frequency;
            }
            let divided = frequency / factor as f32;
            if wavelength > (length / low_freq_factor) as f32 {
                return divided;
            }
            let span = (high_freq_factor - low_freq_factor) as f32;
            let smooth = (length as f32 / wavelength - low_freq_factor as f32) / span;
            (1.0 - smooth) * divided + smooth * frequency
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn spec(dim: usize, scaling: RopeScaling) -> RopeSpec {
        RopeSpec {
            dim,
            theta: 10_000.0,
            scaling,
            max_len: 300,
        }
    }

    #[test]
    fn part_of_each_head_is_turned_and_the_rest_is_kept() {
        let rope = Rope::new(&spec(4, RopeScaling::None)).unwrap();
        let x = Tensor::arange(1f32, 25.0, &Device::Cpu)
            .unwrap()
            .reshape((2, 2, 6))
            .unwrap();
        let out = rope.apply(&x, &[0, 200]).unwrap().to_vec3::<f32>().unwrap();
        assert_eq!(out[0], x.to_vec3::<f32>().unwrap()[0]);
        for (head, first) in [(0, 13.0f64), (1, 19.0)] {
            for (pair, angle) in [(0usize, 200.0f64), (1, 2.0)] {
                let (a, b) = (first + pair as f64, first + pair as f64 + 2.0);
                let (sin, cos) = angle.sin_cos();
                assert!((f64::from(out[1][head][pair]) - (a * cos - b * sin)).abs() < 1e-5);
                assert!((f64::from(out[1][head][pair + 2]) - (b * cos + a * sin)).abs() < 1e-5);
            }
            assert_eq!(f64::from(out[1][head][5]), first + 5.0);
        }
    }

    #[test]
    fn whole_vectors_are_turned_like_single_numbers() {
        let rope = Rope::new(&spec(40, RopeScaling::Linear { factor: 2.0 })).unwrap();
        let x: Vec<f32> = (0..3 * 48).map(|n| (n as f32 * 0.7).sin()).collect();
        let out = rope
            .apply(
                &Tensor::from_vec(x.clone(), (1, 3, 48), &Device::Cpu).unwrap(),
                &[131],
            )
            .unwrap();
        let out = out.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        for head in 0..3 {
            for pair in 0..20 {
                let (sin, cos) = (131.0 * f64::from(rope.frequencies[pair])).sin_cos();
                let (a, b) = (
                    f64::from(x[head * 48 + pair]),
                    f64::from(x[head * 48 + pair + 20]),
                );
                assert!((f64::from(out[head * 48 + pair]) - (a * cos - b * sin)).abs() < 1e-5);
                assert!((f64::from(out[head * 48 + pair + 20]) - (b * cos + a * sin)).abs() < 1e-5);
            }
            assert_eq!(
                out[head * 48 + 40..head * 48 + 48],
                x[head * 48 + 40..head * 48 + 48]
            );
        }
    }

    #[test]
    fn scaled_frequencies_are_the_published_formulas() {
        let plain = frequencies(&spec(64, RopeScaling::None));
        assert_eq!((plain[0], plain[16]), (1.0, 0.01));
        let linear = frequencies(&spec(64, RopeScaling::Linear { factor: 4.0 }));
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
        let scaled = frequencies(&RopeSpec {
            theta: 500_000.0,
            ..spec(128, llama)
        });
        let plain = frequencies(&RopeSpec {
            theta: 500_000.0,
            ..spec(128, RopeScaling::None)
        });
        assert_eq!((scaled[0], scaled[28]), (plain[0], plain[28]));
        assert_eq!((scaled[35], scaled[63]), (plain[35] / 8.0, plain[63] / 8.0));
        assert!(scaled[30] < plain[30] && scaled[30] > plain[30] / 8.0);
    }

    #[test]
    fn impossible_settings_and_positions_are_errors() {
        assert!(
            Rope::new(&spec(3, RopeScaling::None))
                .unwrap_err()
                .to_string()
                .contains("3")
        );
        assert!(Rope::new(&spec(4, RopeScaling::Linear { factor: 0.0 })).is_err());
        let rope = Rope::new(&spec(4, RopeScaling::None)).unwrap();
        let x = Tensor::zeros((1, 1, 4), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert!(rope.apply(&x, &[299]).is_ok());
        assert!(
            rope.apply(&x, &[300])
                .unwrap_err()
                .to_string()
                .contains("300")
        );
        assert!(rope.apply(&x, &[1, 2]).is_err());
    }
}
