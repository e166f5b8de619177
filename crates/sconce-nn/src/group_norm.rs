//! `GroupNorm`: normalisation of images `[images, .., channels]` over groups of channels and all their pixels.
#![allow(unsafe_code)]

use candle_core::{Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::groups::{Groups, normalise};
use crate::tensors::{self, Numbers};
use crate::weights::HostTensor;

/// A normalisation with its weights in f32.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    groups: usize,
    eps: f32,
}

impl GroupNorm {
    /// Of a weight and a bias `[channels]`, which are a multiple of the groups.
    pub fn new(weight: &HostTensor, bias: &HostTensor, groups: usize, eps: f64) -> Result<Self> {
        let channels = weight.elements();
        if groups == 0 || !channels.is_multiple_of(groups) {
            return Err(NnError::Shape {
                what: "the weight of a group norm",
                shape: weight.shape().to_vec(),
                wanted: format!("a multiple of {groups} groups"),
            }
            .into());
        }
        Ok(Self {
            weight: tensors::vector(weight, channels, "the weight of a group norm")?,
            bias: tensors::vector(bias, channels, "the bias of a group norm")?,
            groups,
            eps: eps as f32,
        })
    }

    /// Normalises `x`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.compute(x, None, false)
    }

    /// Normalises `x`, with `x * sigmoid(x)` of the result.
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        self.compute(x, None, true)
    }

    /// The same of `x` plus a number for each image and channel, `[images, channels]`.
    pub fn forward_sum_silu(&self, x: &Tensor, plus: &Tensor) -> Result<Tensor> {
        self.compute(x, Some(plus), true)
    }

    fn compute(&self, x: &Tensor, plus: Option<&Tensor>, silu: bool) -> Result<Tensor> {
        let what = "the input of a group norm";
        let channels = self.weight.len();
        tensors::require_width(x, channels, what)?;
        let images = x.dims()[0];
        if let Some(plus) = plus.filter(|plus| plus.dims() != [images, channels]) {
            return Err(NnError::Shape {
                what: "what is added before a group norm",
                shape: plus.dims().to_vec(),
                wanted: format!("[{images}, {channels}]"),
            }
            .into());
        }
        let numbers = Numbers::of(x, what)?;
        let plus = plus.map(|plus| Numbers::of(plus, what)).transpose()?;
        // SAFETY: every pixel of every image is written.
        let mut out = unsafe { tensors::unwritten(numbers.len()) };
        let how = Groups {
            groups: self.groups,
            weight: &self.weight,
            bias: &self.bias,
            eps: self.eps,
            plus: plus.as_deref(),
            silu,
        };
        normalise(&numbers, images, &how, &mut out);
        tensors::tensor(out, x.dims())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::kernels::cpu::testing::{assert_close, numbers};

    /// The plain twin for one image, in double precision.
    fn reference(norm: &GroupNorm, x: &[f32], plus: &[f32], silu: bool) -> Vec<f32> {
        let channels = norm.weight.len();
        let each = channels / norm.groups;
        let at = |index: usize| f64::from(x[index]) + f64::from(plus[index % channels]);
        let of = |index: usize| {
            let group = index % channels / each;
            let same = (0..x.len()).filter(|other| other % channels / each == group);
            let all: Vec<f64> = same.map(at).collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
            let normal = (at(index) - mean) / (variance + f64::from(norm.eps)).sqrt();
            let channel = index % channels;
            let y = normal * f64::from(norm.weight[channel]) + f64::from(norm.bias[channel]);
            (if silu { y / (1.0 + (-y).exp()) } else { y }) as f32
        };
        (0..x.len()).map(of).collect()
    }

    #[test]
    fn images_equal_the_plain_loops_and_do_not_depend_on_company() {
        for (pixels, channels, groups, offset) in [
            (1, 8, 2, 0.0),
            (9, 12, 3, 500.0),
            (300, 5, 1, 3.0),
            (200, 32, 8, -40.0),
        ] {
            let vector = |seed| HostTensor::from_f32(numbers(channels, seed), &[channels]);
            let norm = GroupNorm::new(&vector(1), &vector(2), groups, 1e-5).unwrap();
            let x: Vec<f32> = numbers(2 * pixels * channels, 3)
                .iter()
                .map(|x| x + offset)
                .collect();
            let plus = numbers(2 * channels, 4);
            let compute = |x: &[f32], plus: &[f32]| {
                let images = plus.len() / channels;
                let x = Tensor::from_slice(x, (images, pixels, channels), &Device::Cpu).unwrap();
                let plus = Tensor::from_slice(plus, (images, channels), &Device::Cpu).unwrap();
                let out = norm.forward_sum_silu(&x, &plus).unwrap();
                let plain = norm.forward(&x).unwrap();
                let vec = |x: Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
                (vec(out), vec(plain))
            };
            let (got, plain) = compute(&x, &plus);
            let one = pixels * channels;
            for image in 0..2 {
                let of = |all: &[f32]| all[image * one..][..one].to_vec();
                let (x, plus) = (of(&x), &plus[image * channels..][..channels]);
                // An offset of 500 leaves five digits of the numbers themselves.
                let tolerance = 2e-5 + offset.abs() * 2e-7;
                assert_close(&of(&got), &reference(&norm, &x, plus, true), tolerance);
                let nothing = vec![0.0; channels];
                assert_close(
                    &of(&plain),
                    &reference(&norm, &x, &nothing, false),
                    tolerance,
                );
                assert_eq!(compute(&x, plus).0, of(&got));
            }
        }
    }

    #[test]
    fn groups_that_do_not_divide_the_channels_are_an_error() {
        let ones = HostTensor::from_f32(vec![1.0; 5], &[5]);
        let error = GroupNorm::new(&ones, &ones, 2, 1e-5)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("[5]") && error.contains("2 groups"),
            "{error}"
        );
    }
}
