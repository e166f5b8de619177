//! `Norm`: layer and root-mean-square normalisation over the last dimension.

use candle_core::{Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::rows::{RowNorm, add_and_normalise, normalise};
#[cfg(feature = "cuda")]
use crate::kernels::cuda;
use crate::tensors::{self, Numbers};
use crate::weights::HostTensor;

/// A normalisation with its weights in f32.
#[derive(Clone, Debug)]
pub struct Norm {
    kind: Kind,
    /// `[width]`.
    weight: Vec<f32>,
    /// `[width]`; of layer normalisation only.
    bias: Option<Vec<f32>>,
    /// Added to the variance, or to the mean of squares.
    eps: f32,
    /// The numbers on a GPU, once one has asked for them.
    #[cfg(feature = "cuda")]
    on_gpu: std::sync::OnceLock<cuda::NormWeights>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// `(x - mean) / sqrt(variance + eps) * weight + bias`.
    Layer,
    /// `x / sqrt(mean of squares + eps) * weight`.
    Rms,
}

impl Norm {
    /// Layer normalisation with `weight` `[width]` of any stored type.
    pub fn layer(weight: HostTensor, bias: Option<HostTensor>, eps: f64) -> Result<Self> {
        let weight = weight_of(&weight)?;
        let bias = bias
            .map(|bias| tensors::vector(&bias, weight.len(), "the bias of a norm"))
            .transpose()?;
        Ok(Self::of(Kind::Layer, weight, bias, eps as f32))
    }

    /// Root-mean-square normalisation with `weight` `[width]` of any stored type.
    pub fn rms(weight: HostTensor, eps: f64) -> Result<Self> {
        Ok(Self::of(Kind::Rms, weight_of(&weight)?, None, eps as f32))
    }

    fn of(kind: Kind, weight: Vec<f32>, bias: Option<Vec<f32>>, eps: f32) -> Self {
        Self {
            kind,
            weight,
            bias,
            eps,
            #[cfg(feature = "cuda")]
            on_gpu: std::sync::OnceLock::new(),
        }
    }

    /// Normalises `x` `[.., width]` over its last dimension.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let what = "the input of a norm";
        tensors::require_width(x, self.width(), what)?;
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return Ok(cuda::norm(self.on_gpu(x.device())?, x, None)?.1);
        }
        let numbers = Numbers::of(x, what)?;
        // SAFETY: every row is written.
        #[allow(unsafe_code)]
        let mut out = unsafe { tensors::unwritten(numbers.len()) };
        normalise(&numbers, self.row_norm(), &mut out);
        tensors::tensor(out, x.dims())
    }

    /// `x + residual` and its normalisation in one pass; both `[.., width]`.
    pub fn forward_sum(&self, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
        let what = "the input of a norm";
        tensors::require_width(x, self.width(), what)?;
        if x.dims() != residual.dims() {
            let wanted = format!("that of the residual, {:?},", residual.dims());
            return Err(NnError::Shape {
                what,
                shape: x.dims().to_vec(),
                wanted,
            }
            .into());
        }
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let (sum, out) = cuda::norm(self.on_gpu(x.device())?, x, Some(residual))?;
            return Ok((sum.expect("there is a residual"), out));
        }
        let (left, right) = (
            Numbers::of(x, what)?,
            Numbers::of(residual, "the residual")?,
        );
        // SAFETY: every row of both is written.
        #[allow(unsafe_code)]
        let [mut sum, mut out] = [(); 2].map(|()| unsafe { tensors::unwritten(left.len()) });
        add_and_normalise(&left, &right, self.row_norm(), &mut sum, &mut out);
        Ok((
            tensors::tensor(sum, x.dims())?,
            tensors::tensor(out, x.dims())?,
        ))
    }

    /// Size of the last dimension.
    pub fn width(&self) -> usize {
        self.weight.len()
    }

    /// Its weight `[width]`.
    pub fn weight(&self) -> &[f32] {
        &self.weight
    }

    /// The norm whose element `i` is this one's element `order[i]`; repeats and omissions are allowed.
    ///
    /// # Panics
    /// When there is no such element.
    pub fn permuted(&self, order: &[usize]) -> Self {
        let permute = |numbers: &Vec<f32>| order.iter().map(|&index| numbers[index]).collect();
        let bias = self.bias.as_ref().map(permute);
        Self::of(self.kind, permute(&self.weight), bias, self.eps)
    }

    fn row_norm(&self) -> RowNorm<'_> {
        let Self {
            weight, bias, eps, ..
        } = self;
        match self.kind {
            Kind::Layer => RowNorm::Layer {
                weight,
                bias: bias.as_deref(),
                eps: *eps,
            },
            Kind::Rms => RowNorm::Rms { weight, eps: *eps },
        }
    }

    /// The numbers on a GPU; a norm is used on one.
    #[cfg(feature = "cuda")]
    fn on_gpu(&self, device: &candle_core::Device) -> Result<&cuda::NormWeights> {
        if let Some(there) = self.on_gpu.get() {
            return Ok(there);
        }
        let centred = self.kind == Kind::Layer;
        let there = cuda::NormWeights::new(
            &self.weight,
            self.bias.as_deref(),
            (self.eps, centred),
            device,
        )?;
        Ok(self.on_gpu.get_or_init(|| there))
    }
}

fn weight_of(weight: &HostTensor) -> Result<Vec<f32>> {
    let width = weight.shape().last().copied().unwrap_or(0);
    tensors::vector(weight, width, "the weight of a norm")
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn worked_examples_of_both_kinds() {
        let weight = HostTensor::from_f32(vec![2.0, 1.0], &[2]);
        let bias = HostTensor::from_f32(vec![0.5, 0.0], &[2]);
        let x = Tensor::new(&[[1f32, 3.0]], &Device::Cpu).unwrap();
        let layer = Norm::layer(weight.clone(), Some(bias), 0.0).unwrap();
        assert_eq!(
            layer.forward(&x).unwrap().to_vec2::<f32>().unwrap(),
            [[-1.5, 1.0]]
        );
        let rms = Norm::rms(weight, 4.0).unwrap();
        // Mean of squares 5, plus 4: a divisor of 3.
        let third = 1.0f32 / 3.0;
        assert_eq!(
            rms.forward(&x).unwrap().to_vec2::<f32>().unwrap(),
            [[third * 2.0, third * 3.0]]
        );
        let (sum, normed) = rms.forward_sum(&x, &x).unwrap();
        assert_eq!(sum.to_vec2::<f32>().unwrap(), [[2.0, 6.0]]);
        assert_eq!(
            normed.to_vec2::<f32>().unwrap(),
            rms.forward(&sum).unwrap().to_vec2::<f32>().unwrap()
        );
        assert!(
            rms.forward_sum(&x, &Tensor::new(&[1f32, 2.0], &Device::Cpu).unwrap())
                .is_err()
        );
    }
}
