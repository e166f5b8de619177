//! One layer of the decoder and its place in the residual stream.
//!
//! ```text
//!   Pre       x ──┬─ norm ─ attention ─ + ──┬─ norm ─ mlp ─ + ──▶
//!                 └─────────────────────┘   └───────────────┘
//!   Parallel  x ──┬─ norm ─ attention ─ + ──▶
//!                 ├─ norm ─ mlp ────────┤
//!                 └─────────────────────┘
//! ```

use candle_core::{Result, Tensor};
use sconce_nn::{KvLayer, Norm};

use super::Pass;
use super::attention::Attention;
use super::load::Loader;
use super::load_error::LoadError;
use super::mlp::MlpLayer;
use super::share::Share;
use super::slots::Slot;
use super::spec::{Residual, Spec};

/// Attention and MLP with their norms.
pub(crate) struct Block {
    attn_norm: Norm,
    attention: Attention,
    mlp_norm: Norm,
    mlp: MlpLayer,
    residual: Residual,
}

impl Block {
    pub(crate) fn load(
        loader: &mut Loader,
        spec: &Spec,
        share: Share,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        Ok(Self {
            attn_norm: loader.norm(Slot::AttnNorm, layer)?,
            attention: Attention::load(loader, spec, share, layer)?,
            mlp_norm: loader.norm(Slot::MlpNorm, layer)?,
            mlp: MlpLayer::load(loader, spec, layer)?,
            residual: spec.residual,
        })
    }

    /// `[tokens, width]` to the same. Attention and MLP give this rank's summand, so that a parallel block sums once.
    pub(crate) fn forward(&self, x: &Tensor, kv: &mut KvLayer, pass: &Pass) -> Result<Tensor> {
        let attended = self
            .attention
            .forward(&self.attn_norm.forward(x)?, kv, pass)?;
        match self.residual {
            Residual::Pre => {
                let (x, normed) = self
                    .mlp_norm
                    .forward_sum(&pass.comm.all_reduce(&attended)?, x)?;
                x + pass.comm.all_reduce(&self.mlp.forward(&normed)?)?
            }
            Residual::Parallel => {
                let fed = self.mlp.forward(&self.mlp_norm.forward(x)?)?;
                x + pass.comm.all_reduce(&(attended + fed)?)?
            }
        }
    }
}
