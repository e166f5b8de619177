//! Other sizes of pictures, to the byte as PIL makes them (`Resample.c` of Pillow): a filter along the rows, rounded, then
//! along the columns, with weights of 22 bits. Noise and guidance can make much of a byte's difference.

use image::RgbImage;

/// Bits behind the point of a weight.
const BITS: u32 = 32 - 8 - 2;

/// Channels of a pixel.
const CHANNELS: usize = 3;

/// How neighbours are weighted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filter {
    /// Cubic, with the parameter -0.5.
    Bicubic,
    /// A sinc within three of its lobes.
    Lanczos,
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        match self {
            Self::Bicubic => {
                const A: f64 = -0.5;
                let x = x.abs();
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 {
        return 1.0;
    }
    let x = x * std::f64::consts::PI;
    x.sin() / x
}

/// The weights of one output: the first input, and one for each from there on.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

fn windows(from: usize, to: usize, filter: Filter) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let wide = scale.max(1.0);
    let support = filter.support() * wide;
    let one = |at: usize| {
        let centre = (at as f64 + 0.5) * scale;
        let first = (centre - support + 0.5).max(0.0) as usize;
        let end = ((centre + support + 0.5) as usize).min(from);
        let weight = |x: usize| filter.at((x as f64 - centre + 0.5) / wide);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: f64| {
            let scaled = weight / total * f64::from(1 << BITS);
            // Half away from zero, by cutting.
            (scaled + 0.5_f64.copysign(scaled)) as i32
        };
        Window {
            first,
            weights: weights.into_iter().map(fixed).collect(),
        }
    };
    (0..to).map(one).collect()
}

/// Height and width.
pub(crate) fn resized(picture: RgbImage, [height, width]: [usize; 2], filter: Filter) -> RgbImage {
    let (wide, high) = (picture.width() as usize, picture.height() as usize);
    let mut bytes = picture.into_raw();
    if wide != width {
        bytes = along(&bytes, (high, CHANNELS), &windows(wide, width, filter));
    }
    if high != height {
        bytes = along(
            &bytes,
            (1, width * CHANNELS),
            &windows(high, height, filter),
        );
    }
    RgbImage::from_raw(width as u32, height as u32, bytes)
        .unwrap_or_else(|| RgbImage::new(width as u32, height as u32))
}

/// Filters `[lines, inputs, together]` along its inputs.
fn along(bytes: &[u8], (lines, together): (usize, usize), windows: &[Window]) -> Vec<u8> {
    let each = bytes.len() / lines.max(1);
    let mut out = Vec::with_capacity(lines * windows.len() * together);
    let mut sums = vec![0; together];
    for line in bytes.chunks_exact(each.max(1)) {
        for window in windows {
            sums.fill(1 << (BITS - 1));
            let inputs = line[window.first * together..].chunks_exact(together);
            for (weight, input) in window.weights.iter().zip(inputs) {
                for (sum, byte) in sums.iter_mut().zip(input) {
                    *sum += weight * i32::from(*byte);
                }
            }
            out.extend(sums.iter().map(|sum| (sum >> BITS).clamp(0, 255) as u8));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of Pillow 13 for the same picture.
    #[test]
    fn bytes_are_those_of_pillow() {
        let picture = |width: u32, height: u32| {
            RgbImage::from_fn(width, height, |x, y| {
                image::Rgb([(x * 40 % 256) as u8, (y * 90 % 256) as u8, 200])
            })
        };
        for (from, to, filter, wanted) in [
            ([5, 3], [2, 3], Filter::Lanczos, LANCZOS_DOWN),
            ([3, 2], [3, 4], Filter::Bicubic, BICUBIC_UP),
        ] {
            let made = resized(picture(from[0], from[1]), to, filter);
            assert_eq!(made.as_raw(), wanted, "{filter:?}");
        }
    }

    const LANCZOS_DOWN: &[u8] = &[
        13, 25, 200, 80, 25, 200, 147, 25, 200, 13, 155, 200, 80, 155, 200, 147, 155, 200,
    ];
    const BICUBIC_UP: &[u8] = &[
        0, 0, 200, 22, 0, 200, 58, 0, 200, 82, 0, 200, 0, 45, 200, 22, 45, 200, 58, 45, 200, 82,
        45, 200, 0, 96, 200, 22, 96, 200, 58, 96, 200, 82, 96, 200,
    ];
}
