//! `Linear`: a matrix product with weights that stay in the checkpoint's type and place.

use candle_core::{Device, Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::matmul::{Matrix, matmul};
use crate::kernels::cpu::quant;
use crate::tensors::{self, Numbers};
use crate::weights::HostTensor;

/// `y = x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// Packed, `[out, in]`, f32, f16, bf16 or blocks.
    weight: HostTensor,
    bias: Option<Vec<f32>>,
}

impl Linear {
    /// A layer with `weight` `[out, in]` in f32, f16, bf16 or blocks, read in place, and an optional `bias` `[out]`.
    ///
    /// A weight whose rows are scattered (a transposed view) is copied once.
    pub fn new(weight: HostTensor, bias: Option<HostTensor>, device: &Device) -> Result<Self> {
        tensors::require_cpu(device, "a linear layer")?;
        let weight = tensors::matrix(&weight, "the weight of a linear layer")?;
        let vector = |bias: HostTensor| {
            tensors::vector(&bias, weight.shape()[0], "the bias of a linear layer")
        };
        let bias = bias.map(vector).transpose()?;
        Ok(Self { weight, bias })
    }

    /// `x` `[.., in]` in f32 to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let what = "the input of a linear layer";
        tensors::require_width(x, self.in_features(), what)?;
        let numbers = Numbers::of(x, what)?;
        let mut shape = x.dims().to_vec();
        if let Some(width) = shape.last_mut() {
            *width = self.out_features();
        }
        let mut out = vec![0.0; shape.iter().product()];
        if self.weight.dtype().is_quantised() {
            quant::matmul(&numbers, &mut [self.part_of_blocks(&mut out)?]);
            return tensors::tensor(out, &shape);
        }
        let (rows, stride) = self
            .weight
            .rows()
            .map_err(|cause| NnError::Weight { what, cause })?;
        let matrix = Matrix {
            rows,
            stride,
            n: self.out_features(),
            k: self.in_features(),
        };
        matmul(&numbers, matrix, self.bias.as_deref(), &mut out);
        tensors::tensor(out, &shape)
    }

    /// The product that a layer of quantised weights is, with its results in `out`.
    fn part_of_blocks<'a>(&'a self, out: &'a mut [f32]) -> Result<quant::Part<'a>> {
        let what = "the weight of a linear layer";
        let blocks = self.weight.blocks();
        let blocks = blocks.map_err(|cause| NnError::Weight { what, cause })?;
        Ok(quant::Part {
            matrix: quant::QuantMatrix {
                format: blocks.format,
                blocks: blocks.bytes,
                stride: blocks.stride,
                n: self.out_features(),
                k: self.in_features(),
            },
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
    use crate::weights::{BlockFormat, StoredDtype};
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
    fn weights_in_blocks_give_what_their_numbers_give_but_for_the_rounding_of_the_input() {
        let numbers: Vec<f32> = (0..7 * 512)
            .map(|n| ((n * 37) % 101) as f32 / 50.0 - 1.0)
            .collect();
        let weight = HostTensor::from_f32(numbers, &[7, 512]);
        let bias = HostTensor::from_f32((0..7).map(|n| n as f32).collect(), &[7]);
        let x: Vec<f32> = (0..3 * 256)
            .map(|n| ((n * 29) % 83) as f32 / 41.0 - 1.0)
            .collect();
        let x = Tensor::from_vec(x, (3, 256), &Device::Cpu).unwrap();
        for format in BlockFormat::ALL {
            let blocks = weight.to_dtype(StoredDtype::Quantised(format)).unwrap();
            let cut = blocks.narrow(1, 256, 256).unwrap();
            let wide = cut.to_dtype(StoredDtype::F32).unwrap();
            let compute = |weight, x: &Tensor| {
                let layer = Linear::new(weight, Some(bias.clone()), &Device::Cpu).unwrap();
                layer.forward(x).unwrap().to_vec2::<f32>().unwrap()
            };
            let (got, wanted) = (compute(cut.clone(), &x), compute(wide, &x));
            for (got, wanted) in got.iter().flatten().zip(wanted.iter().flatten()) {
                // Half a step of 1/127 in each of 256 inputs; the errors cancel out for the most part.
                assert!((got - wanted).abs() < 0.12, "{format}: {got}, not {wanted}");
            }
            assert_eq!(compute(cut, &x.narrow(0, 1, 1).unwrap())[0], got[1]);
        }
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
