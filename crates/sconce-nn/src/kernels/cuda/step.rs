//! The index vectors of a step on a GPU: uploaded once, at their first use, for all layers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use candle_core::{Device, Result, Tensor};

use crate::step::Step;

/// What the kernels of attention read of a step.
#[derive(Debug)]
pub(crate) struct OnGpu {
    /// `[tokens]`: the position of each.
    pub(super) positions: Tensor,
    /// `[tokens]`: where its key and value go.
    pub(super) slots: Tensor,
    /// `[tokens]`: the row of `tables` that it has.
    pub(super) rows: Tensor,
    /// `[rows, most]`: the blocks of each row.
    pub(super) tables: Tensor,
    /// `[tokens]`: 0, 1, 2 ...
    pub(super) indices: Tensor,
    pub(super) most: usize,
    /// The longest sequence.
    pub(super) longest: usize,
    /// Cosines and sines of each token, `[tokens, dim / 2]`, by the rotation that they are of.
    angles: Mutex<HashMap<usize, [Tensor; 2]>>,
}

impl OnGpu {
    pub(crate) fn new(step: &Step, device: &Device) -> Result<Self> {
        let tokens = step.positions.len();
        let most = step.rows.iter().map(|row| row.blocks.len()).max();
        let most = most.unwrap_or(0).max(1);
        // One copy for all: a copy costs more than its bytes.
        let mut all = Vec::with_capacity(4 * tokens + step.rows.len() * most);
        all.extend_from_slice(&step.positions);
        all.extend_from_slice(&step.slots);
        for (index, row) in step.rows.iter().enumerate() {
            all.extend(std::iter::repeat_n(index as u32, row.q_len));
        }
        all.extend(0..tokens as u32);
        for row in &step.rows {
            all.extend_from_slice(&row.blocks);
            all.extend(std::iter::repeat_n(0, most - row.blocks.len()));
        }
        let all = Tensor::new(all, device)?;
        let part = |index: usize| all.narrow(0, index * tokens, tokens);
        Ok(Self {
            positions: part(0)?,
            slots: part(1)?,
            rows: part(2)?,
            indices: part(3)?,
            tables: all.narrow(0, 4 * tokens, step.rows.len() * most)?,
            most,
            longest: step.rows.iter().map(|row| row.k_len).max().unwrap_or(0),
            angles: Mutex::default(),
        })
    }

    /// The cosines and sines of a rotation, which `make` gives when they are first asked for.
    pub(crate) fn angles(
        &self,
        rotation: usize,
        make: impl FnOnce() -> Result<[Tensor; 2]>,
    ) -> Result<[Tensor; 2]> {
        let mut angles = self.angles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = angles.get(&rotation) {
            return Ok(found.clone());
        }
        let made = make()?;
        angles.insert(rotation, made.clone());
        Ok(made)
    }
}
