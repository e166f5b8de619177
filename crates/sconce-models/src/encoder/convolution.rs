//! A convolution of the embeddings, whose sum with what the first layer gives is normalised: DeBERTa's `ConvLayer`. It
//! sees zeros beside a text, and nothing of the texts next to it.

use candle_core::{Device, Result, Tensor};
use sconce_nn::{Act, Linear, Norm};

use super::load::EncoderLoader;
use super::spec::Convolution;
use super::weights::Place;
use crate::decoder::LoadError;

/// The convolution with its weights.
pub(super) struct Convolved {
    /// Of the neighbours of a token end to end.
    linear: Linear,
    norm: Norm,
    kind: Convolution,
}

impl Convolved {
    pub(super) fn load(
        loader: &mut EncoderLoader<'_>,
        kind: Convolution,
        width: usize,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            linear: loader.convolution(width, kind.taps)?,
            norm: loader.norm(Place::ConvolutionNorm, 0, width)?,
            kind,
        })
    }

    /// `[tokens, width]`: the embeddings, and what the first layer makes of them.
    pub(super) fn forward(&self, x: &Tensor, layer: &Tensor, lens: &[usize]) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let numbers = x.flatten_all()?.to_vec1::<f32>()?;
        let neighbours = neighbours(&numbers, width, lens, self.kind.taps);
        let shape = (tokens, self.kind.taps * width);
        let neighbours = Tensor::from_vec(neighbours, shape, &Device::Cpu)?;
        let act: Act = self.kind.act;
        let convolved = act.apply(&self.linear.forward(&neighbours)?)?;
        let (_, normed) = self.norm.forward_sum(&convolved, layer)?;
        Ok(normed)
    }
}

/// For each token of each text those around it, end to end; zeros where there is none.
fn neighbours(numbers: &[f32], width: usize, lens: &[usize], taps: usize) -> Vec<f32> {
    let half = taps / 2;
    let mut all = vec![0.0; numbers.len() * taps];
    let mut first = 0;
    for &len in lens {
        for token in 0..len {
            let row = &mut all[(first + token) * taps * width..][..taps * width];
            for (tap, place) in row.chunks_exact_mut(width).enumerate() {
                let other = (token + tap).checked_sub(half).filter(|other| *other < len);
                if let Some(other) = other {
                    place.copy_from_slice(&numbers[(first + other) * width..][..width]);
                }
            }
        }
        first += len;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_of_the_same_text_and_zero_beside_it() {
        let found = neighbours(&[1.0, 2.0, 3.0, 4.0], 1, &[3, 1], 3);
        let rows: Vec<&[f32]> = found.chunks_exact(3).collect();
        assert_eq!(rows[0], [0.0, 1.0, 2.0]);
        assert_eq!(rows[1], [1.0, 2.0, 3.0]);
        assert_eq!(rows[2], [2.0, 3.0, 0.0]);
        assert_eq!(rows[3], [0.0, 4.0, 0.0]);
    }
}
