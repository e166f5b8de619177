//! Latents and pictures as tensors: torch has channels first, layers here have them last.

use candle_core::{Device, Result, Tensor};

/// `[images, channels, pixels]` to `[images, pixels, channels]`.
pub(crate) fn channels_last(numbers: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(numbers.len());
    for image in numbers.chunks_exact(channels * pixels) {
        for pixel in 0..pixels {
            out.extend((0..channels).map(|channel| image[channel * pixels + pixel]));
        }
    }
    out
}

/// The other way round.
pub(crate) fn channels_first(numbers: &[f32], channels: usize, pixels: usize) -> Vec<f32> {
    let mut out = Vec::with_capacity(numbers.len());
    for image in numbers.chunks_exact(channels * pixels) {
        for channel in 0..channels {
            out.extend((0..pixels).map(|pixel| image[pixel * channels + channel]));
        }
    }
    out
}

/// A tensor `[images, height, width, channels]` of numbers in that order.
pub(crate) fn images(
    numbers: Vec<f32>,
    [height, width]: [usize; 2],
    channels: usize,
) -> Result<Tensor> {
    let images = numbers.len() / (height * width * channels);
    Tensor::from_vec(numbers, (images, height, width, channels), &Device::Cpu)
}

/// All numbers of a tensor in its order.
pub(crate) fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turning_twice_changes_nothing() {
        let all: Vec<f32> = (0..2 * 3 * 4).map(|x| x as f32).collect();
        let last = channels_last(&all, 3, 4);
        assert_eq!(last[..3], [0.0, 4.0, 8.0]);
        assert_eq!(channels_first(&last, 3, 4), all);
    }
}
