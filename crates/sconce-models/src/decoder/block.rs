//! One layer of the decoder and its place in the residual stream.
//!
//! ```text
//!   Pre          x ──┬─ norm ─ attention ─ + ──┬─ norm ─ mlp ─ + ──▶
//!                    └─────────────────────┘   └───────────────┘
//!   PreFromNorm  x ─ norm ─┬─ attention ─ + ─ norm ─┬─ mlp ─ + ──▶
//!                          └──────────────┘         └────────┘
//!   Post         x ──┬─ attention ─ + ─ norm ──┬─ mlp ─ + ─ norm ──▶
//!                    └──────────────┘          └────────┘
//!   Output       x ──┬─ attention ─ norm ─ + ──┬─ mlp ─ norm ─ + ──▶
//!                    └─────────────────────┘   └───────────────┘
//!   Sandwich     as Pre and Output together
//!   Parallel     x ──┬─ norm ─ attention ─ + ──▶    (ParallelShared: one norm for both)
//!                    ├─ norm ─ mlp ────────┤
//!                    └─────────────────────┘
//! ```

use candle_core::{Result, Tensor};
use sconce_nn::{KvLayer, Norm, add, scale};

use super::Pass;
use super::attention::Attention;
use super::load::Loader;
use super::load_error::LoadError;
use super::mlp::MlpLayer;
use super::slots::Slot;
use super::spec::{Residual, Spec};

/// Attention and MLP with their norms.
pub(crate) struct Block {
    attention: Attention,
    mlp: MlpLayer,
    norms: Norms,
    /// What both outputs are multiplied by.
    scale: f32,
}

/// The norms of a block by its place in the residual stream.
enum Norms {
    Pre { attn: Norm, mlp: Norm },
    PreFromNorm { attn: Norm, mlp: Norm },
    Post { attn: Norm, mlp: Norm },
    Output { attn: Norm, mlp: Norm },
    Sandwich { before: [Norm; 2], after: [Norm; 2] },
    Parallel { attn: Norm, mlp: Norm },
    ParallelShared(Norm),
}

impl Block {
    pub(crate) fn load(
        loader: &mut Loader,
        spec: &Spec,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            norms: Norms::load(loader, spec.residual, layer)?,
            attention: Attention::load(loader, spec, layer)?,
            mlp: MlpLayer::load(loader, spec, layer)?,
            scale: spec.residual_scale,
        })
    }

    /// `[tokens, width]` to the same. Attention and MLP give this rank's summand, so that a parallel block sums once.
    pub(crate) fn forward(&self, x: &Tensor, kv: &mut KvLayer, pass: &Pass) -> Result<Tensor> {
        let mut attend = |x: &Tensor| self.attention.forward(x, kv, pass);
        let joined = |part: Tensor| self.scaled(pass.comm.all_reduce(&part)?);
        let feed = |x: &Tensor| joined(self.mlp.forward(x, pass)?);
        match &self.norms {
            Norms::Pre { attn, mlp } => {
                let attended = joined(attend(&attn.forward(x)?)?)?;
                let (x, normed) = mlp.forward_sum(&attended, x)?;
                add(&x, &feed(&normed)?)
            }
            Norms::PreFromNorm { attn, mlp } => {
                let x = attn.forward(x)?;
                let attended = joined(attend(&x)?)?;
                let x = mlp.forward(&add(&x, &attended)?)?;
                add(&x, &feed(&x)?)
            }
            Norms::Post { attn, mlp } => {
                let x = attn.forward(&add(x, &joined(attend(x)?)?)?)?;
                mlp.forward(&add(&x, &feed(&x)?)?)
            }
            Norms::Output { attn, mlp } => {
                let x = add(x, &attn.forward(&joined(attend(x)?)?)?)?;
                add(&x, &mlp.forward(&feed(&x)?)?)
            }
            Norms::Sandwich { before, after } => {
                let attended = joined(attend(&before[0].forward(x)?)?)?;
                let (x, normed) = before[1].forward_sum(&after[0].forward(&attended)?, x)?;
                add(&x, &after[1].forward(&feed(&normed)?)?)
            }
            Norms::Parallel { attn, mlp } => {
                let attended = attend(&attn.forward(x)?)?;
                let fed = self.mlp.forward(&mlp.forward(x)?, pass)?;
                add(x, &joined(add(&attended, &fed)?)?)
            }
            Norms::ParallelShared(norm) => {
                let normed = norm.forward(x)?;
                let attended = attend(&normed)?;
                add(
                    x,
                    &joined(add(&attended, &self.mlp.forward(&normed, pass)?)?)?,
                )
            }
        }
    }

    fn scaled(&self, x: Tensor) -> Result<Tensor> {
        if self.scale == 1.0 {
            return Ok(x);
        }
        scale(&x, self.scale)
    }
}

impl Norms {
    fn load(
        loader: &mut Loader,
        residual: Residual,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        let mut norm = |slot| loader.norm(slot, layer);
        Ok(match residual {
            Residual::Pre => Self::Pre {
                attn: norm(Slot::AttnNorm)?,
                mlp: norm(Slot::MlpNorm)?,
            },
            Residual::PreFromNorm => Self::PreFromNorm {
                attn: norm(Slot::AttnNorm)?,
                mlp: norm(Slot::MlpNorm)?,
            },
            Residual::Post => Self::Post {
                attn: norm(Slot::AttnNorm)?,
                mlp: norm(Slot::MlpNorm)?,
            },
            Residual::Output => Self::Output {
                attn: norm(Slot::AttnOutNorm)?,
                mlp: norm(Slot::MlpOutNorm)?,
            },
            Residual::Sandwich => Self::Sandwich {
                before: [norm(Slot::AttnNorm)?, norm(Slot::MlpNorm)?],
                after: [norm(Slot::AttnOutNorm)?, norm(Slot::MlpOutNorm)?],
            },
            Residual::Parallel => Self::Parallel {
                attn: norm(Slot::AttnNorm)?,
                mlp: norm(Slot::MlpNorm)?,
            },
            Residual::ParallelShared => Self::ParallelShared(norm(Slot::AttnNorm)?),
        })
    }
}
