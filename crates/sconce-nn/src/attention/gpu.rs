//! Attention on GPUs: what the step says is checked here, and uploaded once for all layers.

use candle_core::{Result, Tensor};

use super::{Attend, Sizes, check};
use crate::cache::KvLayer;
use crate::error::NnError;
use crate::kernels::cuda;
use crate::rope::Rope;
use crate::step::Placed;

pub(super) fn rotate_and_attend(
    rope: Option<&Rope>,
    [q, k, v]: [&Tensor; 3],
    kv: &mut KvLayer,
    step: &Placed,
    how: &Attend,
) -> Result<Tensor> {
    let sizes = Sizes::of(q, k, v, kv)?;
    check::step(step, &sizes, kv)?;
    check::how(how, &sizes)?;
    let device = q.device();
    let Some([keys, values]) = &kv.on_gpu else {
        let (what, device) = ("the queries", format!("{:?}", device.location()));
        return Err(NnError::Device { what, device }.into());
    };
    let uploaded = step.on_gpu(device)?;
    let angles = match rope {
        Some(rope) => {
            rope.check(q, step)?;
            Some(uploaded.angles(rope)?)
        }
        None => None,
    };
    let cache = [keys, values];
    let sizes = cuda::Sizes {
        kv_heads: kv.shape.kv_heads,
        head: kv.shape.head_dim,
    };
    cuda::write([q, k, v], cache, sizes, uploaded, angles)?;
    cuda::attend(q, cache, sizes, uploaded, how)
}
