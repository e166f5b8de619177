//! Attention over the cache of a GPU, and what is written there.

use candle_core::{DType, Device, Result, Tensor};

use super::gpu::{Arg, Gpu, Scoring};
use super::numbers::{pointer, suffix};
use super::step::OnGpu;
use crate::attention::{AlibiBias, Attend};
use crate::error::NnError;
use crate::gpus::{HEADS, head_on_gpu};
use crate::step::BLOCK;

/// Tokens of a sequence that one block reads; `SPLIT` in paged.cuh.
pub(super) const SPLIT: usize = 512;

/// Warps of a block, as in paged.cuh.
const WARPS: usize = 4;

/// Threads of a block.
const THREADS: u32 = 32 * WARPS as u32;

/// Bytes of sums that are not yet joined, of the tokens that are computed at a time.
const ROOM: usize = 64 << 20;

/// Sizes of a cache on a GPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) kv_heads: usize,
    pub(crate) head: usize,
}

impl Sizes {
    fn padded(self) -> Result<usize> {
        head_on_gpu(self.head).ok_or_else(|| {
            NnError::Value {
                what: "the size of a head",
                value: self.head.to_string(),
                wanted: format!(
                    "at most {}, as kernels of GPUs need it",
                    HEADS[HEADS.len() - 1]
                ),
            }
            .into()
        })
    }
}

/// Keys or values of one layer: zeros, of which the padding stays.
pub(crate) fn reserve(
    sizes: Sizes,
    blocks: usize,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let numbers = blocks * sizes.kv_heads * sizes.padded()? * BLOCK;
    let gpu = Gpu::of_device(device.as_cuda_device()?)?;
    let bytes = numbers * dtype.size_in_bytes();
    let room = gpu.room(dtype, &[numbers])?;
    gpu.clear(&room, bytes)?;
    Ok(room)
}

/// Rotates `q` `[tokens, heads, head]` in place and writes keys, rotated too, and values `[tokens, kv_heads, head]` to
/// their slots. `angles` are cosines and sines `[tokens, dim / 2]`.
pub(crate) fn write(
    [q, k, v]: [&Tensor; 3],
    [keys, values]: [&Tensor; 2],
    sizes: Sizes,
    step: &OnGpu,
    angles: Option<&[Tensor; 2]>,
) -> Result<()> {
    let (gpu, (tokens, heads, head)) = (Gpu::of(q)?, q.dims3()?);
    let (cos, sin, dim) = match angles {
        Some([cos, sin]) => (
            pointer(cos, "cosines")?,
            pointer(sin, "sines")?,
            2 * cos.dim(1)?,
        ),
        None => (Arg::Pointer(0), Arg::Pointer(0), 0),
    };
    let args = [
        pointer(q, "the queries")?,
        pointer(k, "the keys")?,
        pointer(v, "the values")?,
        pointer(keys, "the cache")?,
        pointer(values, "the cache")?,
        cos,
        sin,
        pointer(&step.indices, "indices")?,
        pointer(&step.slots, "slots")?,
        Arg::Int(heads),
        Arg::Int(sizes.kv_heads),
        Arg::Int(head),
        Arg::Int(sizes.padded()?),
        Arg::Int(dim),
    ];
    let threads = (head.div_ceil(32) * 32) as u32;
    let name = format!("rotate_and_write_{}", suffix(q.dtype())?);
    gpu.launch(
        name,
        [tokens, heads + 2 * sizes.kv_heads, 1],
        threads,
        &args,
    )
}

/// `q` `[tokens, heads, head]` over what the cache holds; `[tokens, heads * head]`.
pub(crate) fn attend(
    q: &Tensor,
    [keys, values]: [&Tensor; 2],
    sizes: Sizes,
    step: &OnGpu,
    how: &Attend,
) -> Result<Tensor> {
    let (gpu, (tokens, heads, head)) = (Gpu::of(q)?, q.dims3()?);
    let out = gpu.room(q.dtype(), &[tokens, heads * head])?;
    let slopes = match &how.alibi {
        Some(alibi) => Some(step.slopes(&alibi.slopes)?),
        None => None,
    };
    let launches = Launches {
        gpu: &gpu,
        keys,
        values,
        step,
        scoring: scoring(how, slopes.as_ref())?,
        sizes,
        heads,
        splits: step.longest.div_ceil(SPLIT).max(1),
    };
    let each = launches.splits * heads * (sizes.padded()? + 2) * size_of::<f32>();
    let at_a_time = (ROOM / each).clamp(1, tokens.max(1));
    let by_tiles = step.tiles.as_ref().filter(|_| gpu.has_tiles_of(q.dtype()));
    let all = [0..tokens];
    let singles = match by_tiles {
        Some(tiles) => {
            launches.prompts(q, tiles, &out)?;
            &*step.singles
        }
        None => &all,
    };
    for run in singles {
        for first in run.clone().step_by(at_a_time) {
            let count = at_a_time.min(run.end - first);
            launches.run(
                &q.narrow(0, first, count)?,
                first,
                &out.narrow(0, first, count)?,
            )?;
        }
    }
    Ok(out)
}

fn scoring(how: &Attend, slopes: Option<&Tensor>) -> Result<Scoring> {
    let slopes = match slopes.map(|slopes| pointer(slopes, "slopes")).transpose()? {
        Some(Arg::Pointer(address)) => address,
        _ => 0,
    };
    let (rounded, factor) = match how.alibi.as_ref().map(|alibi| alibi.bias) {
        Some(AlibiBias::Rounded { factor }) => (1, factor),
        _ => (0, 0.0),
    };
    Ok(Scoring {
        scale: how.scale,
        window: how.window.map_or(0, |window| window as u32),
        softcap: how.softcap.unwrap_or(0.0),
        slopes,
        rounded,
        factor,
    })
}

/// What the launches of one layer have in common.
struct Launches<'a> {
    gpu: &'a Gpu,
    keys: &'a Tensor,
    values: &'a Tensor,
    step: &'a OnGpu,
    scoring: Scoring,
    sizes: Sizes,
    heads: usize,
    splits: usize,
}

impl Launches<'_> {
    /// The prompts of the step, by tiles.
    fn prompts(&self, q: &Tensor, tiles: &Tensor, out: &Tensor) -> Result<()> {
        let Sizes { kv_heads, head } = self.sizes;
        let count = tiles.dim(0)?;
        let warps = (count * (self.heads / kv_heads)).div_ceil(WARPS);
        let args = [
            pointer(q, "the queries")?,
            pointer(self.keys, "the cache")?,
            pointer(self.values, "the cache")?,
            pointer(&self.step.tables, "tables")?,
            pointer(&self.step.rows, "rows")?,
            pointer(&self.step.positions, "positions")?,
            pointer(tiles, "tiles")?,
            Arg::Int(count),
            Arg::Scoring(self.scoring),
            Arg::Int(self.heads),
            Arg::Int(kv_heads),
            Arg::Int(head),
            Arg::Int(self.step.most),
            pointer(out, "the result of attention")?,
        ];
        let name = format!(
            "attend_prompt_{}_{}",
            suffix(q.dtype())?,
            self.sizes.padded()?
        );
        self.gpu.launch(name, [warps, kv_heads, 1], THREADS, &args)
    }

    /// Tokens `first` and on.
    fn run(&self, q: &Tensor, first: usize, out: &Tensor) -> Result<()> {
        let (tokens, dtype) = (q.dim(0)?, q.dtype());
        let Self {
            gpu,
            step,
            heads,
            splits,
            ..
        } = *self;
        let Sizes { kv_heads, head } = self.sizes;
        let padded = self.sizes.padded()?;
        let group = heads / kv_heads;
        let tile = [1, 2, 4]
            .into_iter()
            .find(|&tile| group <= tile)
            .unwrap_or(8);
        let places = tokens * splits * heads;
        let largest = gpu.room(DType::F32, &[places])?;
        let total = gpu.room(DType::F32, &[places])?;
        let sums = gpu.room(DType::F32, &[places, padded])?;
        let of_tokens = |all: &Tensor, what| pointer(&all.narrow(0, first, tokens)?, what);
        let args = [
            pointer(q, "the queries")?,
            pointer(self.keys, "the cache")?,
            pointer(self.values, "the cache")?,
            pointer(&step.tables, "tables")?,
            of_tokens(&step.rows, "rows")?,
            of_tokens(&step.positions, "positions")?,
            Arg::Scoring(self.scoring),
            Arg::Int(heads),
            Arg::Int(kv_heads),
            Arg::Int(head),
            Arg::Int(step.most),
            pointer(&largest, "scores")?,
            pointer(&total, "sums")?,
            pointer(&sums, "sums")?,
        ];
        let name = format!("attend_{}_{padded}_{tile}", suffix(dtype)?);
        let grid = [tokens, kv_heads * group.div_ceil(tile), splits];
        gpu.launch(name, grid, THREADS, &args)?;
        let args = [
            pointer(&largest, "scores")?,
            pointer(&total, "sums")?,
            pointer(&sums, "sums")?,
            of_tokens(&step.positions, "positions")?,
            Arg::Index(self.scoring.window),
            Arg::Int(splits),
            Arg::Int(heads),
            Arg::Int(head),
            Arg::Int(padded),
            pointer(out, "the result of attention")?,
        ];
        let threads = (head.div_ceil(32) * 32) as u32;
        let name = format!("join_{}", suffix(dtype)?);
        gpu.launch(name, [tokens, heads, 1], threads, &args)
    }
}
