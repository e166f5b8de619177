//! What a model says of the tokens that may come next, in memory of the host: whole rows of logits, or as much of them as
//! picking a token needs.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use crate::kernels::cuda;
use crate::ops::to_host;

/// The largest logits of a row that are told at most.
pub const MOST_BEST: usize = 256;

/// The largest logits of a row, and whatever equals the last of them or lies little below.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Best {
    /// In rising order.
    pub ids: Vec<u32>,
    /// `[ids]`.
    pub logits: Vec<f32>,
    /// Natural logarithm of the sum of `exp(logit - largest logit)` over the whole row.
    pub ln_sum: f64,
}

/// What was computed for the sampled tokens of a step.
#[derive(Clone, Debug)]
pub struct Scores {
    /// f32 logits `[whole rows, vocab]` on the host.
    pub logits: Tensor,
    /// By sampled token; `None`: its row is among `logits`, in order. Empty: all of them are.
    pub best: Vec<Option<Best>>,
}

impl Scores {
    /// All rows whole.
    pub fn whole(logits: Tensor) -> Self {
        Self {
            logits,
            best: Vec::new(),
        }
    }

    /// What is wanted of logits `[sampled, vocab]` on any device, once they are computed: `best` says for each row how many
    /// of the largest suffice, at most [`MOST_BEST`]; 0: all of it. The processor has rows at hand, so there they stay
    /// whole, as does a row that has something that is no number. `settle` as in [`to_host`].
    pub fn of(logits: &Tensor, best: &[u32], settle: &dyn Fn() -> Result<()>) -> Result<Self> {
        #[cfg(feature = "cuda")]
        if logits.device().is_cuda() && best.iter().any(|&count| count > 0) {
            return cuda::scores(logits, best, settle);
        }
        let _ = best;
        to_host(logits, settle).map(Self::whole)
    }
}
