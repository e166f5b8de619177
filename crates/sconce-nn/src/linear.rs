//! `Linear`: a matrix product with weights that stay in the checkpoint's type and place.

use candle_core::{Device, Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::matmul::matmul;
use crate::kernels::cpu::operand::{self as kernels, Layout, Part, Precision};
use crate::kernels::cpu::{quant, winograd};
#[cfg(feature = "cuda")]
use crate::kernels::cuda;
use crate::low_rank::{Adapted, LowRank};
use crate::tensors::{self, Numbers};
use crate::weights::{HostTensor, Matrix, StoredDtype, WeightError};

/// What errors say of it.
const WEIGHT: &str = "the weight of a linear layer";

/// `y = x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// `[out, in]`, f32, f16, bf16 or blocks.
    weight: Matrix,
    bias: Option<Vec<f32>>,
    precision: Precision,
    #[cfg(feature = "cuda")]
    bias_on_gpu: Option<Tensor>,
}

impl Linear {
    /// A layer with `weight` `[out, in]` in f32, f16, bf16 or blocks and an optional `bias` `[out]`.
    ///
    /// The weight is read in place where it lies as this machine multiplies, else it is copied once.
    pub fn new(weight: HostTensor, bias: Option<HostTensor>, device: &Device) -> Result<Self> {
        let weight = tensors::matrix(&weight, WEIGHT)?;
        Self::of(weight, bias, device)
    }

    /// As [`Self::new`], of a matrix that lies as it is multiplied.
    pub fn of(weight: Matrix, bias: Option<HostTensor>, device: &Device) -> Result<Self> {
        tensors::require_multiplied(weight.dtype(), WEIGHT)?;
        let vector = |bias: HostTensor| {
            tensors::vector(&bias, weight.shape()[0], "the bias of a linear layer")
        };
        let bias = bias.map(vector).transpose()?;
        #[cfg(feature = "cuda")]
        let bias_on_gpu = match &bias {
            Some(bias) if device.is_cuda() => Some(Tensor::new(&**bias, device)?),
            _ => None,
        };
        Ok(Self {
            weight: weight.on(device, WEIGHT)?,
            bias,
            precision: Precision::Exact,
            #[cfg(feature = "cuda")]
            bias_on_gpu,
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
        Self::forward_adapted(layers, x, [&[]; N])
    }

    /// The same, and to some rows is added what adapters make of them.
    pub fn forward_adapted<const N: usize>(
        layers: [&Self; N],
        x: &Tensor,
        adapted: [&[Adapted<'_>]; N],
    ) -> Result<[Tensor; N]> {
        let what = "the input of a linear layer";
        for layer in layers {
            tensors::require_width(x, layer.in_features(), what)?;
        }
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            if adapted.iter().any(|groups| !groups.is_empty()) {
                let (what, device) = ("an adapter", format!("{:?}", x.device().location()));
                return Err(NnError::Device { what, device }.into());
            }
            let made = layers.into_iter().map(|layer| layer.forward_on_gpu(x));
            let made: Vec<Tensor> = made.collect::<Result<_>>()?;
            return Ok(made.try_into().expect("one for each layer"));
        }
        let numbers = Numbers::of(x, what)?;
        let rows: usize = x.dims().iter().rev().skip(1).product();
        // SAFETY: the products write every output.
        #[allow(unsafe_code)]
        let room = |layer: &Self| unsafe { tensors::unwritten(rows * layer.out_features()) };
        let mut outs = layers.map(room);
        let (mut floats, mut blocks) = (Vec::with_capacity(N), Vec::with_capacity(N));
        for (layer, out) in layers.iter().zip(&mut outs) {
            match layer.weight.dtype() {
                StoredDtype::Quantised(_) => blocks.push(layer.part_of_blocks(out)?),
                _ => floats.push(layer.part(out)?),
            }
        }
        matmul(&numbers, &mut floats);
        quant::matmul(&numbers, &mut blocks);
        for (groups, out) in adapted.into_iter().zip(&mut outs) {
            LowRank::add(&numbers, out, groups);
        }
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

    /// `x` `[rows, in]` without gaps into `out` `[rows, out]`: what [`Self::forward`] does, for layers that are products
    /// of something that they make of their input.
    pub(crate) fn write(&self, x: &[f32], out: &mut [f32]) -> Result<()> {
        match self.weight.dtype() {
            StoredDtype::Quantised(_) => quant::matmul(x, &mut [self.part_of_blocks(out)?]),
            _ => matmul(x, &mut [self.part(out)?]),
        }
        Ok(())
    }

    /// What it multiplies with, if that lies in panels and is computed with in f32.
    pub(crate) fn exact_panels(&self) -> Option<winograd::Weights<'_>> {
        let dtype = self.weight.dtype();
        let rounds = self.precision == Precision::Bf16 && dtype == StoredDtype::BF16;
        let panels = self.weight.panels().filter(|_| !rounds)?;
        Some(winograd::Weights {
            panels,
            dtype,
            bias: self.bias.as_deref(),
        })
    }

    /// The product that this layer is, with its results in `out`.
    fn part<'a>(&'a self, out: &'a mut [f32]) -> Result<Part<'a>> {
        let (numbers, layout) = match self.weight.rows() {
            Some(rows) => {
                let (numbers, stride) = rows.rows().map_err(unreadable)?;
                (numbers, Layout::Rows { stride })
            }
            None => (
                self.weight.storage().rows().map_err(unreadable)?.0,
                Layout::Panels,
            ),
        };
        let matrix = kernels::Matrix {
            numbers,
            layout,
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

    /// The same of quantised weights.
    fn part_of_blocks<'a>(&'a self, out: &'a mut [f32]) -> Result<quant::Part<'a>> {
        let (format, panels) = self.weight.panels_of_blocks().map_err(unreadable)?;
        Ok(quant::Part {
            matrix: quant::QuantMatrix {
                format,
                panels,
                n: self.out_features(),
                k: self.in_features(),
            },
            bias: self.bias.as_deref(),
            out,
        })
    }

    #[cfg(feature = "cuda")]
    fn forward_on_gpu(&self, x: &Tensor) -> Result<Tensor> {
        match self.weight.on_gpu() {
            Some(weight) => cuda::linear(weight, self.bias_on_gpu.as_ref(), x),
            None => {
                let device = format!("{:?}", x.device().location());
                let what = "the input of a linear layer of the processor";
                Err(NnError::Device { what, device }.into())
            }
        }
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

fn unreadable(cause: WeightError) -> NnError {
    NnError::Weight {
        what: WEIGHT,
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::BlockFormat;
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
