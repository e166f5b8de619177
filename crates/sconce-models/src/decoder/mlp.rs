//! The feed-forward part of a layer.

use candle_core::{Result, Tensor};
use sconce_nn::{Act, Linear};

use super::Pass;
use super::experts::Experts;
use super::load::Loader;
use super::load_error::LoadError;
use super::slots::Slot;
use super::spec::{Mlp, Spec};
use crate::adapter::Place;

/// This rank's part of the inner width of one layer.
pub(crate) enum MlpLayer {
    /// down(act(up(x)))
    Plain { act: Act, up: Linear, down: Linear },
    /// One gated MLP for all tokens.
    Gated(Gated),
    /// Several, of which each token uses some.
    Experts(Box<Experts>),
}

/// down(act(gate(x)) * up(x))
pub(crate) struct Gated {
    pub(crate) act: Act,
    pub(crate) gate: Linear,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

impl MlpLayer {
    pub(crate) fn load(
        loader: &mut Loader,
        spec: &Spec,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        Ok(match spec.layers[layer].mlp {
            Mlp::Plain(act) => Self::Plain {
                act,
                up: loader.linear(Slot::Up, layer)?,
                down: loader.linear(Slot::Down, layer)?,
            },
            Mlp::Gated(act) => {
                let [gate, up] = loader.gate_up(layer)?;
                let down = loader.linear(Slot::Down, layer)?;
                Self::Gated(Gated {
                    act,
                    gate,
                    up,
                    down,
                })
            }
            Mlp::Experts(act, routing) => Self::Experts(Box::new(Experts::load(
                loader,
                act,
                routing,
                spec.dims.experts,
                layer,
            )?)),
        })
    }

    /// `[tokens, width]` to this rank's summand of the same.
    pub(crate) fn forward(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        match self {
            Self::Plain { act, up, down } => {
                let [inner] = pass.linear([up], [Place::Up], x)?;
                let [out] = pass.linear([down], [Place::Down], &act.apply(&inner)?)?;
                Ok(out)
            }
            Self::Gated(gated) => gated.forward_adapted(x, pass),
            Self::Experts(experts) => experts.forward(x, pass.comm),
        }
    }
}

impl Gated {
    /// With what adapters add.
    fn forward_adapted(&self, x: &Tensor, pass: &Pass) -> Result<Tensor> {
        let layers = [&self.gate, &self.up];
        let [gate, up] = pass.linear(layers, [Place::Gate, Place::Up], x)?;
        let inner = self.act.gate(&gate, &up)?;
        let [out] = pass.linear([&self.down], [Place::Down], &inner)?;
        Ok(out)
    }

    /// As an expert, which no adapter changes.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [gate, up] = Linear::forward_all([&self.gate, &self.up], x)?;
        self.down.forward(&self.act.gate(&gate, &up)?)
    }
}
