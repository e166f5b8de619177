//! Numbers as cosines and sines of them: `get_timestep_embedding` of diffusers.

use candle_core::{Device, Result, Tensor};

/// How numbers become vectors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Waves {
    pub(super) width: usize,
    pub(super) cosines_first: bool,
    pub(super) shift: f64,
}

impl Waves {
    /// `[numbers, width]`.
    pub(super) fn of(&self, numbers: &[f32]) -> Result<Tensor> {
        let half = self.width / 2;
        let mut all = Vec::with_capacity(numbers.len() * self.width);
        for number in numbers {
            // In f32 as torch computes it.
            let angles = (0..half).map(|index| {
                let exponent = -(10_000f32.ln()) * index as f32 / (half as f64 - self.shift) as f32;
                number * exponent.exp()
            });
            let angles: Vec<f32> = angles.collect();
            let (sines, cosines) = (
                angles.iter().map(|x| x.sin()),
                angles.iter().map(|x| x.cos()),
            );
            if self.cosines_first {
                all.extend(cosines.chain(sines));
            } else {
                all.extend(sines.chain(cosines));
            }
            // An odd width ends with a zero.
            all.extend(std::iter::repeat_n(0.0, self.width % 2));
        }
        Tensor::from_vec(all, (numbers.len(), self.width), &Device::Cpu)
    }
}
