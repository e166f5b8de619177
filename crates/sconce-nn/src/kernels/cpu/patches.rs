//! Gathers what a convolution sees around each of its outputs into rows, of which a product with the weights makes
//! outputs. Images are `[height, width, channels]`.
#![allow(unsafe_code)]

use super::parallel::{self, Shared};
use super::pool;

/// Where the numbers of the rows are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patches {
    /// Height, width and channels of an input as it lies in memory.
    pub(crate) input: [usize; 3],
    /// Height and width that it is taken to have: each number stands for the nearest ones.
    pub(crate) seen: [usize; 2],
    /// Height and width of the output.
    pub(crate) output: [usize; 2],
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    /// Zeros before the first row and column.
    pub(crate) before: usize,
}

impl Patches {
    /// The channels of a pixel of an image, counted from where the padding begins; `None`: it is padding.
    pub(crate) fn pixel<'a>(
        &self,
        images: &'a [f32],
        image: usize,
        [y, x]: [usize; 2],
    ) -> Option<&'a [f32]> {
        let [height, width, channels] = self.input;
        let (y, x) = (self.source(y, 0)?, self.source(x, 1)?);
        Some(&images[((image * height + y) * width + x) * channels..][..channels])
    }

    /// Numbers of a row.
    pub(crate) fn width(&self) -> usize {
        self.kernel * self.kernel * self.input[2]
    }

    /// Writes the rows from `first` on, counted over all images, as many as `to` has room for.
    pub(crate) fn gather(&self, images: &[f32], first: usize, to: &mut [f32]) {
        let width = self.width();
        let rows = to.len() / width;
        let (tasks, run) = parallel::cut(rows, width);
        let to = Shared::new(to);
        pool::run(tasks, &|task| {
            for row in task * run..rows.min((task + 1) * run) {
                // SAFETY: a row belongs to one task, and `to` is borrowed during the call.
                let to = unsafe { to.part(row * width, width) };
                self.row(images, first + row, to);
            }
        });
    }

    fn row(&self, images: &[f32], index: usize, to: &mut [f32]) {
        let [height, width, channels] = self.input;
        let [out_height, out_width] = self.output;
        let (image, place) = (
            index / (out_height * out_width),
            index % (out_height * out_width),
        );
        let image = &images[image * height * width * channels..][..height * width * channels];
        let (y, x) = (
            place / out_width * self.stride,
            place % out_width * self.stride,
        );
        let is_plain = self.seen == [height, width];
        let line = self.kernel * channels;
        for (down, to) in to.chunks_exact_mut(line).enumerate() {
            let Some(y) = self.source(y + down, 0) else {
                to.fill(0.0);
                continue;
            };
            let row = &image[y * width * channels..][..width * channels];
            let inside = x >= self.before && x + self.kernel <= width + self.before;
            if is_plain && inside {
                to.copy_from_slice(&row[(x - self.before) * channels..][..line]);
                continue;
            }
            for (across, to) in to.chunks_exact_mut(channels).enumerate() {
                match self.source(x + across, 1) {
                    Some(x) => to.copy_from_slice(&row[x * channels..][..channels]),
                    None => to.fill(0.0),
                }
            }
        }
    }

    /// The row (dimension 0) or column of the input that a padded one is, unless it is padding.
    fn source(&self, padded: usize, dim: usize) -> Option<usize> {
        let at = padded.checked_sub(self.before)?;
        let (stored, seen) = (self.input[dim], self.seen[dim]);
        (at < seen).then(|| at * stored / seen)
    }
}
