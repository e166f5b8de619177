//! `Conv2d`: convolutions of images that lie pixel by pixel, `[images, height, width, channels]`, as products of what
//! the kernel sees with weights that stay in the checkpoint's type. An output is one dot product, so its bits do not
//! depend on what else is computed.
#![allow(unsafe_code)]

use candle_core::{Device, Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::patches::Patches;
use crate::kernels::cpu::winograd::{self, Winograd};
use crate::linear::Linear;
use crate::tensors::{self, Numbers};
use crate::weights::{HostTensor, Matrix};

/// Bytes of rows that are gathered at a time: they are multiplied while they are in the cache.
const BAND_BYTES: usize = 2 << 20;

/// Bytes that a convolution takes beside its input and output, at most.
pub const CONV_SCRATCH: usize = BAND_BYTES + winograd::SCRATCH;

/// The size of the kernel and how it moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Height and width of the kernel.
    pub kernel: usize,
    /// Pixels from one place to the next.
    pub stride: usize,
    /// Zeros before the first and behind the last pixel, in both directions.
    pub padding: [usize; 2],
}

impl ConvShape {
    /// A kernel that leaves the size as it is.
    pub fn same(kernel: usize) -> Self {
        Self {
            kernel,
            stride: 1,
            padding: [kernel / 2; 2],
        }
    }

    /// The size of the output along one side; `None`: the kernel does not fit.
    pub fn output(&self, side: usize) -> Option<usize> {
        let [before, behind] = self.padding;
        let room = (side + before + behind).checked_sub(self.kernel)?;
        Some(room / self.stride + 1)
    }
}

/// A convolution.
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// `[out, kernel * kernel * in]`.
    product: Linear,
    shape: ConvShape,
    channels: usize,
}

impl Conv2d {
    /// Of a matrix `[out, kernel * kernel * in]`, in the order of [`HostTensor::channels_last`], and a bias `[out]`.
    pub fn new(weight: Matrix, bias: Option<HostTensor>, shape: ConvShape) -> Result<Self> {
        let [_, seen] = weight.shape();
        let places = shape.kernel * shape.kernel;
        if shape.stride == 0 || places == 0 || !seen.is_multiple_of(places) {
            return Err(NnError::Shape {
                what: "the weight of a convolution",
                shape: weight.shape().to_vec(),
                wanted: format!("a multiple of {places} numbers for each output"),
            }
            .into());
        }
        Ok(Self {
            product: Linear::of(weight, bias, &Device::Cpu)?,
            shape,
            channels: seen / places,
        })
    }

    /// The same layer with inputs rounded to bf16, see [`Linear::with_bf16_products`].
    pub fn with_bf16_products(self) -> Self {
        Self {
            product: self.product.with_bf16_products(),
            ..self
        }
    }

    /// Channels of the output.
    pub fn out_channels(&self) -> usize {
        self.product.out_features()
    }

    /// `x` `[images, height, width, in]` to `[images, height, width, out]`, of the size that the shape makes of it.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, height, width, _) = x.dims4()?;
        self.forward_resized(x, [height, width])
    }

    /// The same of `x` brought to another height and width first, where each pixel is that nearest in `x`.
    pub fn forward_resized(&self, x: &Tensor, seen: [usize; 2]) -> Result<Tensor> {
        let what = "the input of a convolution";
        let (images, height, width, channels) = x.dims4()?;
        tensors::require_width(x, self.channels, what)?;
        let output = seen.map(|side| self.shape.output(side).filter(|_| side > 0));
        let ([Some(out_height), Some(out_width)], true) = (output, height * width > 0) else {
            return Err(NnError::Shape {
                what,
                shape: x.dims().to_vec(),
                wanted: format!("room for a kernel of {} pixels", self.shape.kernel),
            }
            .into());
        };
        let numbers = Numbers::of(x, what)?;
        let (rows, outputs) = (images * out_height * out_width, self.out_channels());
        // SAFETY: the products write every output of every row.
        let mut out = unsafe { tensors::unwritten(rows * outputs) };
        let patches = Patches {
            input: [height, width, channels],
            seen,
            output: [out_height, out_width],
            kernel: self.shape.kernel,
            stride: self.shape.stride,
            before: self.shape.padding[0],
        };
        if self.shape == ConvShape::same(1) && seen == [height, width] {
            self.product.write(&numbers, &mut out)?;
        } else if let Some(winograd) = self.winograd(&patches) {
            winograd.run(&numbers, &mut out);
        } else {
            self.in_bands(&patches, &numbers, &mut out)?;
        }
        tensors::tensor(out, &[images, out_height, out_width, outputs])
    }

    /// The way with fewer products, where it is faster.
    fn winograd<'a>(&'a self, patches: &'a Patches) -> Option<Winograd<'a>> {
        let outputs = self.out_channels();
        if self.shape != ConvShape::same(3)
            || !winograd::suits(self.channels, outputs, patches.output)
        {
            return None;
        }
        Some(Winograd {
            weights: self.product.exact_panels()?,
            outputs,
            patches,
        })
    }

    fn in_bands(&self, patches: &Patches, images: &[f32], out: &mut [f32]) -> Result<()> {
        let (width, outputs) = (patches.width(), self.out_channels());
        let rows = out.len() / outputs;
        let band = (BAND_BYTES / (width * size_of::<f32>())).clamp(1, rows.max(1));
        // SAFETY: rows are gathered whole before they are multiplied.
        let mut gathered = unsafe { tensors::unwritten(band * width) };
        for (index, out) in out.chunks_mut(band * outputs).enumerate() {
            let gathered = &mut gathered[..out.len() / outputs * width];
            patches.gather(images, index * band, gathered);
            self.product.write(gathered, out)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::cpu::testing::{assert_close, numbers};
    use crate::weights::StoredDtype;

    fn layer(weight: &[f32], bias: &[f32], channels: usize, shape: ConvShape) -> Conv2d {
        layer_of(weight, bias, (channels, StoredDtype::F32), shape)
    }

    fn layer_of(
        weight: &[f32],
        bias: &[f32],
        (channels, dtype): (usize, StoredDtype),
        shape: ConvShape,
    ) -> Conv2d {
        let dims = [bias.len(), channels, shape.kernel, shape.kernel];
        let weight = HostTensor::from_slice(weight, &dims)
            .channels_last()
            .unwrap();
        let matrix = Matrix::of(&weight, dtype).unwrap();
        Conv2d::new(
            matrix,
            Some(HostTensor::from_slice(bias, &[bias.len()])),
            shape,
        )
        .unwrap()
    }

    /// The plain twin, of one image `[height, width, channels]` and weights `[out, in, kernel, kernel]`.
    fn reference(
        image: &[f32],
        [height, width, channels]: [usize; 3],
        [seen_height, seen_width]: [usize; 2],
        (weight, bias): (&[f32], &[f32]),
        shape: ConvShape,
    ) -> Vec<f32> {
        let (out_height, out_width) = (
            shape.output(seen_height).unwrap(),
            shape.output(seen_width).unwrap(),
        );
        let at = |y: isize, x: isize, channel: usize| -> f64 {
            let inside = |at: isize, len: usize| at >= 0 && (at as usize) < len;
            if !inside(y, seen_height) || !inside(x, seen_width) {
                return 0.0;
            }
            let y = y as usize * height / seen_height;
            let x = x as usize * width / seen_width;
            f64::from(image[(y * width + x) * channels + channel])
        };
        let before = shape.padding[0] as isize;
        let mut out = Vec::new();
        for y in 0..out_height {
            for x in 0..out_width {
                for (output, bias) in bias.iter().enumerate() {
                    let mut sum = f64::from(*bias);
                    for channel in 0..channels {
                        for down in 0..shape.kernel {
                            for across in 0..shape.kernel {
                                let index = ((output * channels + channel) * shape.kernel + down)
                                    * shape.kernel
                                    + across;
                                let y = (y * shape.stride + down) as isize - before;
                                let x = (x * shape.stride + across) as isize - before;
                                sum += at(y, x, channel) * f64::from(weight[index]);
                            }
                        }
                    }
                    out.push(sum as f32);
                }
            }
        }
        out
    }

    #[test]
    fn every_shape_equals_the_plain_loops_and_images_do_not_depend_on_company() {
        let down = ConvShape {
            kernel: 3,
            stride: 2,
            padding: [1, 1],
        };
        let uneven = ConvShape {
            padding: [0, 1],
            ..down
        };
        let patches = ConvShape {
            kernel: 2,
            stride: 2,
            padding: [0, 0],
        };
        for (shape, [height, width, channels], outputs, seen) in [
            (ConvShape::same(3), [5, 7, 3], 4, [5, 7]),
            (ConvShape::same(1), [3, 2, 5], 7, [3, 2]),
            (ConvShape::same(3), [40, 40, 37], 33, [40, 40]),
            (ConvShape::same(3), [4, 5, 3], 2, [8, 9]),
            (down, [9, 7, 4], 3, [9, 7]),
            (uneven, [8, 6, 4], 3, [8, 6]),
            (patches, [4, 6, 3], 5, [4, 6]),
            (ConvShape::same(3), [1, 1, 2], 2, [1, 1]),
        ] {
            let weight = numbers(outputs * channels * shape.kernel * shape.kernel, 1);
            let bias = numbers(outputs, 2);
            let one = height * width * channels;
            let x = numbers(2 * one, 3);
            let conv = layer(&weight, &bias, channels, shape);
            let compute = |x: &[f32]| {
                let dims = (x.len() / one, height, width, channels);
                let x = Tensor::from_slice(x, dims, &Device::Cpu).unwrap();
                let out = conv.forward_resized(&x, seen).unwrap();
                out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let (got, weights) = (compute(&x), (&weight[..], &bias[..]));
            for (image, got) in x.chunks(one).zip(got.chunks(got.len() / 2)) {
                let wanted = reference(image, [height, width, channels], seen, weights, shape);
                assert_close(got, &wanted, 1e-5);
                assert_eq!(compute(image), got);
            }
        }
    }

    #[test]
    fn large_images_in_every_type_equal_the_plain_loops_and_do_not_depend_on_company() {
        for (dtype, [height, width, channels], outputs, seen) in [
            (StoredDtype::F32, [23, 24, 34], 40, [23, 24]),
            (StoredDtype::F32, [12, 12, 32], 64, [24, 24]),
            (StoredDtype::F16, [25, 22, 34], 70, [25, 22]),
            (StoredDtype::BF16, [24, 24, 36], 33, [24, 24]),
        ] {
            // Numbers that all types hold.
            let round = |x: f32| (x * 64.0).round() / 64.0;
            let weight: Vec<f32> = numbers(outputs * channels * 9, 1)
                .into_iter()
                .map(round)
                .collect();
            let bias = numbers(outputs, 2);
            let one = height * width * channels;
            let x = numbers(2 * one, 3);
            let shape = ConvShape::same(3);
            let conv = layer_of(&weight, &bias, (channels, dtype), shape);
            let compute = |x: &[f32]| {
                let dims = (x.len() / one, height, width, channels);
                let x = Tensor::from_slice(x, dims, &Device::Cpu).unwrap();
                let out = conv.forward_resized(&x, seen).unwrap();
                out.flatten_all().unwrap().to_vec1::<f32>().unwrap()
            };
            let (got, weights) = (compute(&x), (&weight[..], &bias[..]));
            for (image, got) in x.chunks(one).zip(got.chunks(got.len() / 2)) {
                let wanted = reference(image, [height, width, channels], seen, weights, shape);
                assert_close(got, &wanted, 3e-5);
                assert_eq!(compute(image), got);
            }
        }
    }

    /// Of the UNets and the autoencoder of Stable Diffusion: with so many terms rounding adds up, and weights take several
    /// bands.
    #[test]
    fn both_ways_agree_at_the_channels_of_real_models() {
        for (dtype, [side, channels], outputs, seen) in [
            (StoredDtype::F16, [64, 320], 320, 64),
            (StoredDtype::F32, [32, 640], 640, 32),
            (StoredDtype::BF16, [24, 960], 320, 24),
            (StoredDtype::F32, [32, 512], 512, 64),
            (StoredDtype::F32, [96, 256], 128, 96),
        ] {
            // Products of normal size, as behind a norm, with weights as training leaves them.
            let scale = (9.0 * channels as f32).sqrt().recip();
            let weight: Vec<f32> = numbers(outputs * channels * 9, 1)
                .into_iter()
                .map(|x| scale * x)
                .collect();
            let bias = numbers(outputs, 2);
            let image = numbers(side * side * channels, 3);
            let conv = layer_of(&weight, &bias, (channels, dtype), ConvShape::same(3));
            let patches = Patches {
                input: [side, side, channels],
                seen: [seen; 2],
                output: [seen; 2],
                kernel: 3,
                stride: 1,
                before: 1,
            };
            let Some(winograd) = conv.winograd(&patches) else {
                println!("skipped: weights lie in rows on this machine");
                return;
            };
            let (mut fewer, mut plain) = (
                vec![0.0; seen * seen * outputs],
                vec![0.0; seen * seen * outputs],
            );
            winograd.run(&image, &mut fewer);
            conv.in_bands(&patches, &image, &mut plain).unwrap();
            let largest = plain.iter().fold(0f32, |most, x| most.max(x.abs()));
            let apart = fewer.iter().zip(&plain).map(|(a, b)| (a - b).abs());
            let apart = apart.fold(0f32, f32::max);
            assert!(
                largest > 1.0 && apart < 1e-5 * largest,
                "{channels} to {outputs}: {apart} of {largest}"
            );
            let x = Tensor::from_slice(&image, (1, side, side, channels), &Device::Cpu).unwrap();
            let out = conv.forward_resized(&x, [seen; 2]).unwrap();
            let out = out.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(
                out, fewer,
                "{channels} to {outputs} goes the way with fewer products"
            );
        }
    }

    #[test]
    fn inputs_that_do_not_fit_are_errors() {
        let shape = ConvShape {
            kernel: 3,
            stride: 1,
            padding: [0, 0],
        };
        let conv = layer(&[0.0; 18], &[0.0], 2, shape);
        let zeros = |dims: (usize, usize, usize, usize)| {
            let x = Tensor::zeros(dims, candle_core::DType::F32, &Device::Cpu).unwrap();
            conv.forward(&x).unwrap_err().to_string()
        };
        assert!(zeros((1, 2, 5, 2)).contains("a kernel of 3 pixels"));
        assert!(zeros((1, 4, 5, 3)).contains("[.., 2]"));
    }
}
