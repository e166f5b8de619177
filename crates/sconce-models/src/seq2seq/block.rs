//! One layer of a stack and its place in the residual stream. The decoder's has attention to what was read between the
//! other two parts.
//!
//! ```text
//!   Pre   x ──┬─ norm ─ part ─ + ──▶        Post  x ──┬─ part ─ + ─ norm ──▶
//!             └────────────────┘                      └─────────┘
//! ```

use candle_core::{Result, Tensor};
use sconce_nn::{Act, Linear, Norm, add};

use super::load::{Divided, Seq2SeqLoader};
use super::spec::Seq2SeqMlp;
use super::weights::{Seat, Side};
use crate::decoder::{Axis, LoadError};
use crate::encoder::Order;

/// The projections of one attention.
pub(super) struct Attention {
    pub(super) query: Linear,
    pub(super) key: Linear,
    pub(super) value: Linear,
    pub(super) out: Linear,
}

/// A part of a layer and its norm.
pub(super) struct Normed<T> {
    pub(super) part: T,
    norm: Norm,
    order: Order,
}

/// The weights of a layer.
pub(super) struct Block {
    pub(super) attention: Normed<Attention>,
    /// Of the decoder.
    pub(super) cross: Option<Normed<Attention>>,
    pub(super) mlp: Normed<Mlp>,
}

pub(super) enum Mlp {
    Plain {
        act: Act,
        up: Linear,
        down: Linear,
    },
    Gated {
        act: Act,
        gate: Linear,
        up: Linear,
        down: Linear,
    },
}

impl Block {
    pub(super) fn load(
        loader: &mut Seq2SeqLoader<'_>,
        side: Side,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        let own = [Seat::Query, Seat::Key, Seat::Value, Seat::Out];
        let cross = [
            Seat::CrossQuery,
            Seat::CrossKey,
            Seat::CrossValue,
            Seat::CrossOut,
        ];
        Ok(Self {
            attention: Normed {
                part: Attention::load(loader, side, own, layer)?,
                norm: loader.norm(side, Seat::AttnNorm, layer)?,
                order: loader.spec.order,
            },
            cross: match side {
                Side::Encoder => None,
                Side::Decoder => Some(Normed {
                    part: Attention::load(loader, side, cross, layer)?,
                    norm: loader.norm(side, Seat::CrossNorm, layer)?,
                    order: loader.spec.order,
                }),
            },
            mlp: Normed {
                part: Mlp::load(loader, side, layer)?,
                norm: loader.norm(side, Seat::MlpNorm, layer)?,
                order: loader.spec.order,
            },
        })
    }
}

impl<T> Normed<T> {
    /// `[tokens, width]` to the same, with what `compute` makes of the part's input.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        compute: impl FnOnce(&T, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        match self.order {
            Order::Pre => add(x, &compute(&self.part, &self.norm.forward(x)?)?),
            Order::Post => {
                let (_, normed) = self.norm.forward_sum(&compute(&self.part, x)?, x)?;
                Ok(normed)
            }
        }
    }
}

impl Attention {
    fn load(
        loader: &mut Seq2SeqLoader<'_>,
        side: Side,
        [query, key, value, out]: [Seat; 4],
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (width, heads) = (loader.spec.width, loader.dims(side).all_heads());
        let mut linear = |seat, how| loader.linear(side, seat, layer, how);
        let inwards = ([heads, width], Divided::Outputs(Axis::Heads));
        Ok(Self {
            query: linear(query, inwards)?,
            key: linear(key, inwards)?,
            value: linear(value, inwards)?,
            out: linear(out, ([width, heads], Divided::Inputs(Axis::Heads)))?,
        })
    }
}

impl Mlp {
    fn load(
        loader: &mut Seq2SeqLoader<'_>,
        side: Side,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (width, inner) = (loader.spec.width, loader.dims(side).inner);
        let mlp = loader.spec.mlp;
        let mut linear = |seat, how| loader.linear(side, seat, layer, how);
        let inwards = ([inner, width], Divided::Outputs(Axis::Inner));
        let outwards = ([width, inner], Divided::Inputs(Axis::Inner));
        Ok(match mlp {
            Seq2SeqMlp::Plain(act) => Self::Plain {
                act,
                up: linear(Seat::Up, inwards)?,
                down: linear(Seat::Down, outwards)?,
            },
            Seq2SeqMlp::Gated(act) => Self::Gated {
                act,
                gate: linear(Seat::Gate, inwards)?,
                up: linear(Seat::GatedUp, inwards)?,
                down: linear(Seat::Down, outwards)?,
            },
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain { act, up, down } => down.forward(&act.apply(&up.forward(x)?)?),
            Self::Gated {
                act,
                gate,
                up,
                down,
            } => {
                let [gate, up] = Linear::forward_all([gate, up], x)?;
                down.forward(&act.gate(&gate, &up)?)
            }
        }
    }
}
