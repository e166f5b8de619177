//! The index vectors of a step on a GPU, and the angles of its rotations: uploaded at once, for all layers.

use std::ops::Range;
use std::sync::OnceLock;

use candle_core::{Device, Result, Tensor};

use super::gpu::Gpu;
use crate::embedding::By;
use crate::rope::Rope;
use crate::step::{BLOCK, Step};

/// Tokens of a tile; `QUERIES` in prompt.cuh.
const QUERIES: usize = 16;

/// So many new tokens of a sequence are computed as a prompt; fewer, as guesses are, one by one as a single one is, so that
/// they get its bits.
const PROMPT: usize = 16;

/// What the kernels read of a step.
#[derive(Debug)]
pub(crate) struct OnGpu {
    /// Everything below, words end to end.
    all: Tensor,
    /// `[tokens]`.
    pub(super) ids: Tensor,
    /// `[tokens]`: the position of each.
    pub(super) positions: Tensor,
    /// `[tokens]`: where its key and value go.
    pub(super) slots: Tensor,
    /// `[tokens]`: the row of `tables` that it has.
    pub(super) rows: Tensor,
    /// `[tokens]`: 0, 1, 2 ...
    pub(super) indices: Tensor,
    /// `[rows, most]`: the blocks of each row.
    pub(super) tables: Tensor,
    pub(super) most: usize,
    /// No sequence is longer.
    pub(super) longest: usize,
    /// `[tiles, 2]`: first tokens and numbers of tokens of the parts of prompts; `None`: there are no prompts.
    pub(super) tiles: Option<Tensor>,
    /// The tokens that are in no tile, as runs.
    pub(super) singles: Vec<Range<usize>>,
    /// Cosines and sines of each token, `[tokens, dim / 2]` as bits, by the rotation that they are of.
    angles: Vec<(usize, [Tensor; 2])>,
    /// Slopes of heads, once a layer has asked for them, and the tensor that has them.
    slopes: OnceLock<(Vec<f32>, Tensor)>,
}

impl OnGpu {
    pub(crate) fn new(step: &Step, ropes: &[Rope], device: &Device) -> Result<Self> {
        let longest = step.rows.iter().map(|row| row.k_len).max();
        let most = step.rows.iter().map(|row| row.blocks.len()).max();
        let most = most.unwrap_or(0).max(1);
        Self::of(step, ropes, device, (most, longest.unwrap_or(0)))
    }

    /// With room for sequences of up to `longest` tokens, so that it can be filled anew.
    pub(super) fn within(
        step: &Step,
        ropes: &[Rope],
        device: &Device,
        longest: usize,
    ) -> Result<Self> {
        Self::of(step, ropes, device, (longest.div_ceil(BLOCK), longest))
    }

    fn of(
        step: &Step,
        ropes: &[Rope],
        device: &Device,
        (most, longest): (usize, usize),
    ) -> Result<Self> {
        check(step, ropes)?;
        let tokens = step.positions.len();
        // One copy for all: a copy costs more than its bytes.
        let all = Tensor::new(words(step, ropes, most), device)?;
        let mut first = 0;
        let mut part = |len: usize| {
            first += len;
            all.narrow(0, first - len, len)
        };
        let [ids, positions, slots, rows, indices] = [
            part(tokens)?,
            part(tokens)?,
            part(tokens)?,
            part(tokens)?,
            part(tokens)?,
        ];
        let tables = part(step.rows.len() * most)?;
        let tiles = match tiles_of(step).count() {
            0 => None,
            count => Some(part(2 * count)?.reshape((count, 2))?),
        };
        let angles = ropes.iter().map(|rope| {
            let pairs = rope.pairs();
            let mut table = || part(tokens * pairs)?.reshape((tokens, pairs));
            Ok((name(rope), [table()?, table()?]))
        });
        let angles = angles.collect::<Result<_>>()?;
        Ok(Self {
            all: all.clone(),
            ids,
            positions,
            slots,
            rows,
            indices,
            tables,
            most,
            longest,
            tiles,
            singles: singles_of(step),
            angles,
            slopes: OnceLock::new(),
        })
    }

    /// Another step of as many tokens and rows, in the same place.
    pub(super) fn refill(&self, step: &Step, ropes: &[Rope]) -> Result<()> {
        check(step, ropes)?;
        let words = words(step, ropes, self.most);
        if words.len() != self.all.elem_count() {
            candle_core::bail!("a step of another size than the one before");
        }
        Gpu::of(&self.all)?.overwrite(&self.all, &words)
    }

    /// Its ids or positions.
    pub(crate) fn by(&self, by: By) -> &Tensor {
        match by {
            By::Ids => &self.ids,
            By::Positions => &self.positions,
        }
    }

    /// Cosines and sines of a rotation.
    pub(crate) fn angles(&self, rope: &Rope) -> Result<&[Tensor; 2]> {
        match self.angles.iter().find(|(of, _)| *of == name(rope)) {
            Some((_, angles)) => Ok(angles),
            None => candle_core::bail!("a rotation that the step does not know"),
        }
    }
}

impl OnGpu {
    /// Slopes of heads, which all layers have alike.
    pub(super) fn slopes(&self, slopes: &[f32]) -> Result<Tensor> {
        let upload = || Tensor::new(slopes, self.all.device());
        match self.slopes.get() {
            Some((there, tensor)) if there == slopes => Ok(tensor.clone()),
            Some(_) => upload(),
            None => {
                let tensor = upload()?;
                let kept = self.slopes.get_or_init(|| (slopes.to_vec(), tensor));
                Ok(kept.1.clone())
            }
        }
    }
}

/// First tokens and numbers of tokens of the parts of prompts.
fn tiles_of(step: &Step) -> impl Iterator<Item = [usize; 2]> + '_ {
    let prompts = step.rows.iter().filter(|row| row.q_len >= PROMPT);
    prompts.flat_map(|row| {
        let parts = (0..row.q_len).step_by(QUERIES);
        parts.map(|done| [row.q_start + done, QUERIES.min(row.q_len - done)])
    })
}

/// The tokens of all other rows.
fn singles_of(step: &Step) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for row in step.rows.iter().filter(|row| row.q_len < PROMPT) {
        match runs.last_mut().filter(|run| run.end == row.q_start) {
            Some(run) => run.end += row.q_len,
            None => runs.push(row.q_start..row.q_start + row.q_len),
        }
    }
    runs
}

/// Fails on positions that a rotation has no angles for.
fn check(step: &Step, ropes: &[Rope]) -> Result<()> {
    ropes.iter().try_for_each(|rope| rope.check_positions(step))
}

/// A rotation stays where it is while a model is there.
fn name(rope: &Rope) -> usize {
    std::ptr::from_ref(rope) as usize
}

fn words(step: &Step, ropes: &[Rope], most: usize) -> Vec<u32> {
    let tokens = step.positions.len();
    let pairs: usize = ropes.iter().map(Rope::pairs).sum();
    let mut all = Vec::with_capacity(5 * tokens + step.rows.len() * most + 2 * pairs * tokens);
    all.extend_from_slice(&step.ids);
    all.extend_from_slice(&step.positions);
    all.extend_from_slice(&step.slots);
    for (index, row) in step.rows.iter().enumerate() {
        all.extend(std::iter::repeat_n(index as u32, row.q_len));
    }
    all.extend(0..tokens as u32);
    for row in &step.rows {
        // There may be more than hold the sequence as it is.
        let used = row.blocks.len().min(most);
        all.extend_from_slice(&row.blocks[..used]);
        all.extend(std::iter::repeat_n(0, most - used));
    }
    all.extend(tiles_of(step).flatten().map(|number| number as u32));
    for rope in ropes {
        let angles = rope.angles(step);
        all.extend(angles.iter().flatten().map(|angle| angle.to_bits()));
    }
    all
}
