//! The feed-forward part of a layer.

use candle_core::{Result, Tensor};
use sconce_nn::{Act, Linear};

use super::load::Loader;
use super::load_error::LoadError;
use super::slots::Slot;
use super::spec::{Mlp, Spec};

/// This rank's part of the inner width of one layer.
pub(crate) enum MlpLayer {
    /// down(act(up(x)))
    Plain { act: Act, up: Linear, down: Linear },
    /// down(act(gate(x)) * up(x))
    Gated {
        act: Act,
        gate: Linear,
        up: Linear,
        down: Linear,
    },
}

impl MlpLayer {
    pub(crate) fn load(
        loader: &mut Loader,
        spec: &Spec,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        let mut linear = |slot| loader.linear(slot, layer);
        Ok(match spec.mlp {
            Mlp::Plain(act) => Self::Plain {
                act,
                up: linear(Slot::Up)?,
                down: linear(Slot::Down)?,
            },
            Mlp::Gated(act) => Self::Gated {
                act,
                gate: linear(Slot::Gate)?,
                up: linear(Slot::Up)?,
                down: linear(Slot::Down)?,
            },
        })
    }

    /// `[tokens, width]` to this rank's summand of the same.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain { act, up, down } => down.forward(&act.apply(&up.forward(x)?)?),
            Self::Gated {
                act,
                gate,
                up,
                down,
            } => down.forward(&act.gate(&gate.forward(x)?, &up.forward(x)?)?),
        }
    }
}
