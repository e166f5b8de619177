//! `Step`: one packed batch as the kernels want it. Making one from a plan is left to `sconce-engine`.

#[cfg(feature = "cuda")]
use crate::kernels::cuda::OnGpu;
use crate::rope::Rope;

/// Tokens per block of the paged cache.
pub const BLOCK: usize = 32;

/// One packed batch: tokens of all rows end to end, no padding. Host vectors; a device uploads them once per step.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Token ids, `[tokens]`.
    pub ids: Vec<u32>,
    /// Position of each token in its sequence, `[tokens]`.
    pub positions: Vec<u32>,
    /// Where the key and value of each token go, `[tokens]`: block times [`BLOCK`] plus the offset in the block.
    pub slots: Vec<u32>,
    /// One entry for each sequence, in the order of the tokens.
    pub rows: Vec<StepRow>,
    /// Indices of the tokens whose logits are wanted.
    pub sampled: Vec<u32>,
    /// How many of the largest logits suffice for each of these, `[sampled]`; 0: all are wanted. Empty: all of all.
    pub best: Vec<u32>,
}

/// A step during one forward pass, and the rotations of its model; what kernels read of it goes to a GPU once, when the
/// first layer there asks for it.
#[derive(Debug)]
pub struct Placed<'a> {
    step: &'a Step,
    #[cfg(feature = "cuda")]
    ropes: &'a [Rope],
    #[cfg(feature = "cuda")]
    on_gpu: std::cell::OnceCell<OnGpu>,
    /// What is there already.
    #[cfg(feature = "cuda")]
    given: Option<&'a OnGpu>,
}

impl<'a> Placed<'a> {
    /// Of that step, by which only these rotate.
    pub fn new(step: &'a Step, ropes: &'a [Rope]) -> Self {
        #[cfg(not(feature = "cuda"))]
        let _ = ropes;
        Self {
            step,
            #[cfg(feature = "cuda")]
            ropes,
            #[cfg(feature = "cuda")]
            on_gpu: std::cell::OnceCell::new(),
            #[cfg(feature = "cuda")]
            given: None,
        }
    }

    /// Of a step that is on a GPU.
    #[cfg(feature = "cuda")]
    pub(crate) fn on(step: &'a Step, ropes: &'a [Rope], given: &'a OnGpu) -> Self {
        Self {
            given: Some(given),
            ..Self::new(step, ropes)
        }
    }

    /// What kernels read, on the GPU of a tensor; all of a pass are on one.
    #[cfg(feature = "cuda")]
    pub(crate) fn on_gpu(&self, device: &candle_core::Device) -> candle_core::Result<&OnGpu> {
        if let Some(uploaded) = self.given.or(self.on_gpu.get()) {
            return Ok(uploaded);
        }
        let uploaded = OnGpu::new(self.step, self.ropes, device)?;
        Ok(self.on_gpu.get_or_init(|| uploaded))
    }

    /// Says that the next layer begins: what the last one left but for its result is of no use any more.
    pub fn next_layer(&self, device: &candle_core::Device) {
        #[cfg(feature = "cuda")]
        crate::kernels::cuda::next_layer(device);
        #[cfg(not(feature = "cuda"))]
        let _ = device;
    }
}

impl std::ops::Deref for Placed<'_> {
    type Target = Step;

    fn deref(&self) -> &Step {
        self.step
    }
}

/// The part of one sequence in a [`Step`].
#[derive(Clone, Debug, Default)]
pub struct StepRow {
    /// Index of its first token in the step.
    pub q_start: usize,
    /// Number of its tokens in the step.
    pub q_len: usize,
    /// Length of the sequence with the new tokens; its last token has position `k_len - 1`.
    pub k_len: usize,
    /// Tokens of the sequence that are known, be they computed or not; at least `k_len`. Rotations that depend on the
    /// length of a sequence go by it.
    pub known: usize,
    /// Cache blocks that hold positions `0..k_len`, in order.
    pub blocks: Vec<u32>,
}
