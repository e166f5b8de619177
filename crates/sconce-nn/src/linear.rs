//! `Linear`: a matrix product with weights that stay in the checkpoint's type and place.

use candle_core::{Device, Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::matmul::matmul;
use crate::kernels::cpu::operand::{Matrix, Part, Precision};
use crate::tensors::{self, Numbers};
use crate::weights::HostTensor;

/// `y = x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Packed, `[out, in]`, f32, f16 or bf16.
    weight: HostTensor,
    bias: Option<Vec<f32>>,
    precision: Precision,
}

impl Linear {
    /// A layer with `weight` `[out, in]` in f32, f16 or bf16, read in place, and an optional `bias` `[out]`.
    ///
    /// A weight whose rows are scattered (a transposed view) is copied once.
    pub fn new(weight: HostTensor, bias: Option<HostTensor>, device: &Device) -> Result<Self> {
        tensors::require_cpu(device, "a linear layer")?;
        let weight = tensors::matrix(&weight, "the weight of a linear layer")?;
        let vector = |bias: HostTensor| {
            tensors::vector(&bias, weight.shape()[0], "the bias of a linear layer")
        };
        let bias = bias.map(vector).transpose()?;
        Ok(Self {
            weight,
            bias,
            precision: Precision::Exact,
        })
    }

    /// The same layer, with its input rounded to bf16 where the weight is bf16 and the machine multiplies such numbers
    /// faster: the precision of a model that computes in bf16, instead of f32.
    pub fn with_bf16_products(self) -> Self {
        Self {
            precision: Precision::Bf16,
            ..self
        }
    }

    /// `x` `[.., in]` in f32 to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [y] = Self::forward_all([self], x)?;
        Ok(y)
    }

    /// Several layers of the same input, computed together: every thread reads its share of all weights in one go.
    /// Each result has the bits that its layer gives alone.
    pub fn forward_all<const N: usize>(layers: [&Self; N], x: &Tensor) -> Result<[Tensor; N]> {
        let what = "the input of a linear layer";
        let numbers = Numbers::of(x, what)?;
        let rows: usize = x.dims().iter().rev().skip(1).product();
        for layer in layers {
            tensors::require_width(x, layer.in_features(), what)?;
        }
        let mut outs = layers.map(|layer| vec![0.0; rows * layer.out_features()]);
        let parts = layers
            .iter()
            .zip(&mut outs)
            .map(|(layer, out)| layer.part(out));
        matmul(&numbers, &mut parts.collect::<Result<Vec<_>>>()?);
        let mut shape = x.dims().to_vec();
        let tensor = |(layer, out): (&Self, Vec<f32>)| {
            if let Some(width) = shape.last_mut() {
                *width = layer.out_features();
            }
            tensors::tensor(out, &shape)
        };
        let made = layers.into_iter().zip(outs).map(tensor);
        let made: Vec<Tensor> = made.collect::<Result<_>>()?;
        Ok(made.try_into().expect("one for each layer"))
    }

    /// The product that this layer is, with its results in `out`.
    fn part<'a>(&'a self, out: &'a mut [f32]) -> Result<Part<'a>> {
        let what = "the weight of a linear layer";
        let rows = self.weight.rows();
        let (rows, stride) = rows.map_err(|cause| NnError::Weight { what, cause })?;
        let matrix = Matrix {
            rows,
            stride,
            n: self.out_features(),
            k: self.in_features(),
        };
        Ok(Part {
            matrix,
            precision: self.precision,
            bias: self.bias.as_deref(),
            out,
        })
    }

    /// Width of the output.
    pub fn out_features(&self) -> usize {
        self.weight.shape()[0]
    }

    /// Width of the input.
    pub fn in_features(&self) -> usize {
        self.weight.shape()[1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::DType;

    fn layer() -> Linear {
        let weight = HostTensor::from_f32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[2, 3]);
        Linear::new(
            weight,
            Some(HostTensor::from_f32(vec![10.0, 20.0], &[2])),
            &Device::Cpu,
        )
        .unwrap()
    }

    #[test]
    fn leading_dimensions_are_kept_and_views_at_an_offset_are_read() {
        let x = Tensor::arange(0f32, 12.0, &Device::Cpu)
            .unwrap()
            .reshape((4, 3))
            .unwrap();
        let y = layer()
            .forward(&x.narrow(0, 2, 2).unwrap().reshape((2, 1, 3)).unwrap())
            .unwrap();
        assert_eq!(y.dims(), [2, 1, 2]);
        assert_eq!(
            y.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [54.0, 127.0, 72.0, 172.0]
        );
    }

    #[test]
    fn a_column_cut_and_a_transposed_weight_give_the_same_as_a_copy() {
        let stored = HostTensor::from_f32((0..12).map(|n| n as f32).collect(), &[3, 4]);
        let x = Tensor::new(&[[1f32, 10.0]], &Device::Cpu).unwrap();
        let cut = Linear::new(stored.narrow(1, 1, 2).unwrap(), None, &Device::Cpu).unwrap();
        assert_eq!(
            cut.forward(&x).unwrap().to_vec2::<f32>().unwrap(),
            [[21.0, 65.0, 109.0]]
        );
        let turned = stored.narrow(0, 0, 2).unwrap().transpose().unwrap();
        let turned = Linear::new(turned, None, &Device::Cpu).unwrap();
        assert_eq!(
            turned.forward(&x).unwrap().to_vec2::<f32>().unwrap(),
            [[40.0, 51.0, 62.0, 73.0]]
        );
    }

    #[test]
    fn wrong_inputs_are_errors_that_name_the_sizes() {
        let zeros = |shape: &[usize], dtype| Tensor::zeros(shape, dtype, &Device::Cpu).unwrap();
        let error = |x: &Tensor| layer().forward(x).unwrap_err().to_string();
        assert!(error(&zeros(&[1, 4], DType::F32)).contains("[1, 4], where [.., 3]"));
        assert!(error(&zeros(&[1, 3], DType::F64)).contains("f64"));
        assert!(error(&zeros(&[3, 2], DType::F32).t().unwrap()).contains("strided"));
        let bad = Linear::new(HostTensor::from_f32(vec![0.0; 4], &[4]), None, &Device::Cpu);
        assert!(bad.unwrap_err().to_string().contains("a matrix"));
        let bias = HostTensor::from_f32(vec![0.0; 3], &[3]);
        let bad = Linear::new(
            HostTensor::from_f32(vec![0.0; 4], &[2, 2]),
            Some(bias),
            &Device::Cpu,
        );
        assert!(bad.unwrap_err().to_string().contains("[3], where [2]"));
    }
}
