//! Images side by side: joins the channels of two, pixel by pixel.
#![allow(unsafe_code)]

use candle_core::{Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::parallel;
use crate::tensors::{self, Numbers};

/// `[.., a]` and `[.., b]`, alike but for the channels, to `[.., a + b]`.
pub fn join_channels(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (pixels, width) = split(a)?;
    let (others, other_width) = split(b)?;
    if pixels != others {
        return Err(NnError::Shape {
            what: "channels to join",
            shape: b.dims().to_vec(),
            wanted: format!("that of the others, {:?},", a.dims()),
        }
        .into());
    }
    let (left, right) = (
        Numbers::of(a, "channels to join")?,
        Numbers::of(b, "channels to join")?,
    );
    let joined = width + other_width;
    let rows: usize = pixels.iter().product();
    // SAFETY: every pixel is written.
    let mut out = unsafe { tensors::unwritten(rows * joined) };
    parallel::over_rows(&mut out, joined, joined, &|first, out| {
        for (at, out) in out.chunks_exact_mut(joined).enumerate() {
            let (one, other) = out.split_at_mut(width);
            one.copy_from_slice(&left[(first + at) * width..][..width]);
            other.copy_from_slice(&right[(first + at) * other_width..][..other_width]);
        }
    });
    tensors::tensor(out, &[pixels, &[joined]].concat())
}

fn split(x: &Tensor) -> Result<(&[usize], usize)> {
    let what = "channels to join";
    let (width, pixels) = x.dims().split_last().ok_or_else(|| NnError::Shape {
        what,
        shape: Vec::new(),
        wanted: "at least one dimension".into(),
    })?;
    Ok((pixels, *width))
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn pixels_have_the_channels_of_both() {
        let a = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu).unwrap();
        let b = Tensor::new(&[[5f32], [6.0]], &Device::Cpu).unwrap();
        let joined = join_channels(&a, &b).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(joined, [[1.0, 2.0, 5.0], [3.0, 4.0, 6.0]]);
        let other = Tensor::zeros((3, 1), DType::F32, &Device::Cpu).unwrap();
        let error = join_channels(&a, &other).unwrap_err().to_string();
        assert!(
            error.contains("[3, 1]") && error.contains("[2, 2]"),
            "{error}"
        );
    }
}
