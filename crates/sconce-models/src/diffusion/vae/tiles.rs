//! Large pictures tile by tile, in memory that depends on the tile: diffusers' `enable_tiling`. Tiles overlap by a quarter
//! and are blended there. Norms and attention see one tile only, so a picture differs a little from that in one piece.

use candle_core::{Device, Result, Tensor};

/// The size of tiles on both sides of the autoencoder, as `AutoencoderKL` derives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiling {
    /// Pixels along a side of a tile.
    pub pixels: usize,
    /// Latents along a side of a tile.
    pub latents: usize,
}

/// From which tiles, to which.
#[derive(Clone, Copy)]
pub(super) struct Through {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The part of a tile that overlaps with its neighbour.
const OVERLAP: f64 = 0.25;

/// A computed tile, `[height, width, channels]`.
struct Tile {
    height: usize,
    width: usize,
    channels: usize,
    numbers: Vec<f32>,
}

impl Through {
    /// Computes images `[images, height, width, channels]` whose tiles are of one image each, and joins what becomes of them.
    pub(super) fn join(
        self,
        x: &Tensor,
        compute: impl Fn(&Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (images, ..) = x.dims4()?;
        let each = (0..images).map(|at| self.image(&x.narrow(0, at, 1)?, &compute));
        Tensor::cat(&each.collect::<Result<Vec<_>>>()?, 0)
    }

    fn image(self, x: &Tensor, compute: &impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
        let (_, height, width, _) = x.dims4()?;
        let stride = (self.from as f64 * (1.0 - OVERLAP)) as usize;
        let blended = (self.to as f64 * OVERLAP) as usize;
        let kept = self.to - blended;
        let (mut above, mut out): (Vec<Tile>, Vec<f32>) = (Vec::new(), Vec::new());
        let (mut rows, mut columns, mut channels) = (0, 0, 0);
        for y in (0..height).step_by(stride) {
            let mut row: Vec<Tile> = Vec::new();
            for x_at in (0..width).step_by(stride) {
                let part = x
                    .narrow(1, y, self.from.min(height - y))?
                    .narrow(2, x_at, self.from.min(width - x_at))?
                    .contiguous()?;
                let mut tile = Tile::of(&compute(&part)?)?;
                if let Some(above) = above.get(row.len()) {
                    tile.blend_below(above, blended);
                }
                if let Some(left) = row.last() {
                    tile.blend_beside(left, blended);
                }
                row.push(tile);
            }
            let lines = row.first().map_or(0, |tile| tile.height.min(kept));
            for line in 0..lines {
                for tile in &row {
                    let own = tile.line(line);
                    out.extend(&own[..tile.width.min(kept) * tile.channels]);
                }
            }
            rows += lines;
            columns = row.iter().map(|tile| tile.width.min(kept)).sum();
            channels = row.first().map_or(0, |tile| tile.channels);
            above = row;
        }
        Tensor::from_vec(out, (1, rows, columns, channels), &Device::Cpu)
    }
}

impl Tile {
    fn of(computed: &Tensor) -> Result<Self> {
        let (_, height, width, channels) = computed.dims4()?;
        Ok(Self {
            height,
            width,
            channels,
            numbers: computed.flatten_all()?.to_vec1()?,
        })
    }

    fn line(&self, at: usize) -> &[f32] {
        let len = self.width * self.channels;
        &self.numbers[at * len..][..len]
    }

    /// Fades from the last lines of the tile above to the own first ones.
    fn blend_below(&mut self, above: &Self, extent: usize) {
        let extent = extent.min(above.height).min(self.height);
        let len = self.width * self.channels;
        for line in 0..extent {
            let others = above.line(above.height - extent + line);
            let own = &mut self.numbers[line * len..][..len];
            fade(own, others, line as f64 / extent as f64);
        }
    }

    /// The same with the tile to the left.
    fn blend_beside(&mut self, left: &Self, extent: usize) {
        let extent = extent.min(left.width).min(self.width);
        let (len, channels) = (self.width * self.channels, self.channels);
        for line in 0..self.height {
            let others = &left.line(line)[(left.width - extent) * channels..];
            let own = &mut self.numbers[line * len..][..extent * channels];
            let pixels = own
                .chunks_exact_mut(channels)
                .zip(others.chunks_exact(channels));
            for (at, (own, others)) in pixels.enumerate() {
                fade(own, others, at as f64 / extent as f64);
            }
        }
    }
}

/// `share` of the own numbers and the rest of the others.
fn fade(own: &mut [f32], others: &[f32], share: f64) {
    let (of_own, of_others) = (share as f32, (1.0 - share) as f32);
    for (own, other) in own.iter_mut().zip(others) {
        *own = other * of_others + *own * of_own;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_pixel_keeps_is_the_same_in_tiles() {
        let numbers: Vec<f32> = (0..2 * 19 * 13 * 2).map(|at| at as f32).collect();
        let x = Tensor::from_vec(numbers.clone(), (2, 19, 13, 2), &Device::Cpu).unwrap();
        let through = Through { from: 8, to: 8 };
        let joined = through.join(&x, |tile| Ok(tile.clone())).unwrap();
        assert_eq!(joined.dims(), [2, 19, 13, 2]);
        let made: Vec<f32> = joined.flatten_all().unwrap().to_vec1().unwrap();
        let apart = made.iter().zip(&numbers).map(|(x, y)| (x - y).abs());
        assert!(apart.fold(0.0, f32::max) < 1e-3);
    }

    #[test]
    fn neighbours_fade_into_each_other() {
        // Each tile is its own number everywhere.
        let x = Tensor::zeros((1, 4, 7, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        let through = Through { from: 4, to: 8 };
        let count = std::cell::Cell::new(0.0_f32);
        let joined = through.join(&x, |tile| {
            let (_, height, width, _) = tile.dims4()?;
            count.set(count.get() + 1.0);
            Tensor::full(count.get(), (1, 2 * height, 2 * width, 1), &Device::Cpu)
        });
        let line: Vec<f32> = joined.unwrap().flatten_all().unwrap().to_vec1().unwrap();
        let wanted = [1., 1., 1., 1., 1., 1., 1., 1.5, 2., 2., 2., 2., 2., 2.5];
        assert_eq!(line[..14], wanted);
    }
}
