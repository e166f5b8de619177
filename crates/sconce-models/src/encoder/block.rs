//! One stored layer of an encoder and its place in the residual stream.
//!
//! ```text
//!   Post  x ──┬─ attention ─ + ─ norm ──┬─ mlp ─ + ─ norm ──▶
//!             └──────────────┘          └────────┘
//!   Pre   x ──┬─ norm ─ attention ─ + ──┬─ norm ─ mlp ─ + ──▶
//!             └─────────────────────┘   └───────────────┘
//! ```

use candle_core::{Result, Tensor};
use sconce_nn::{
    Act, AttendMutually, DistanceBiases, DistanceVectors, Distances, Linear, Norm, Rope, Step, add,
    attend_mutually,
};

use super::load::{EncoderLoader, needs_attn_norm};
use super::spec::{DistanceKind, EncoderLayer, EncoderMlp, EncoderSpec, Order, VectorsOfDistances};
use super::weights::Place;
use crate::decoder::LoadError;

/// What all layers of a pass share.
pub(super) struct Pass<'a> {
    pub(super) lens: &'a [usize],
    /// The positions, as rotations want them.
    pub(super) step: &'a Step,
    pub(super) ropes: &'a [Rope],
    pub(super) biases: Option<&'a DistanceBiases>,
}

/// The weights of a layer.
pub(super) struct Block {
    qkv: [Linear; 3],
    out: Linear,
    attn_norm: Option<Norm>,
    mlp: Mlp,
    mlp_norm: Norm,
    order: Order,
    heads: usize,
    /// Projections of the vectors of distances, to what queries and to what keys are multiplied with.
    projections: Option<[Option<Linear>; 2]>,
    vectors: Option<DistanceVectors>,
}

enum Mlp {
    Plain {
        act: Act,
        up: Linear,
        down: Linear,
    },
    Gated {
        act: Act,
        gate_up: [Linear; 2],
        down: Linear,
    },
}

impl Block {
    pub(super) fn load(
        loader: &mut EncoderLoader<'_>,
        spec: &EncoderSpec,
        stored: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (width, biases) = (spec.dims.width, spec.attention_biases);
        let square = [width, width];
        let qkv = if spec.stacked_qkv {
            loader.stacked(Place::Qkv, stored, square, biases)?
        } else {
            [
                loader.linear(Place::Query, stored, square, biases)?,
                loader.linear(Place::Key, stored, square, biases)?,
                loader.linear(Place::Value, stored, square, biases)?,
            ]
        };
        let projections = match spec.distances {
            Some(DistanceKind::Vectors(kind)) => Some(projections(loader, kind, stored, square)?),
            _ => None,
        };
        Ok(Self {
            qkv,
            out: loader.linear(Place::AttnOut, stored, square, biases)?,
            attn_norm: needs_attn_norm(spec, stored)
                .then(|| loader.norm(Place::AttnNorm, stored, width))
                .transpose()?,
            mlp: Mlp::load(loader, spec, stored)?,
            mlp_norm: loader.norm(Place::MlpNorm, stored, width)?,
            order: spec.order,
            heads: spec.dims.heads,
            projections,
            vectors: None,
        })
    }

    /// Projects the vectors of distances `[buckets, width]` once for all passes.
    pub(super) fn prepare(&mut self, kind: VectorsOfDistances, table: &Tensor) -> Result<()> {
        let Some([key, query]) = &self.projections else {
            return Ok(());
        };
        let (own_query, own_key) = (&self.qkv[0], &self.qkv[1]);
        let project = |on: bool, own: &Linear, separate: &Option<Linear>| {
            let layer = separate.as_ref().unwrap_or(own);
            on.then(|| layer.forward(table)).transpose()
        };
        let for_queries = project(kind.for_queries, own_key, key)?;
        let for_keys = project(kind.for_keys, own_query, query)?;
        let head = table.dim(1)? / self.heads;
        self.vectors = Some(DistanceVectors::new(
            for_queries.as_ref(),
            for_keys.as_ref(),
            head,
            kind.buckets,
        )?);
        Ok(())
    }

    /// `[tokens, width]` to the same.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        layer: &EncoderLayer,
        pass: &Pass<'_>,
    ) -> Result<Tensor> {
        match self.order {
            Order::Post => {
                let attended = self.attend(x, layer, pass)?;
                let (_, x) = sum_normed(self.attn_norm.as_ref(), &attended, x)?;
                let fed = self.mlp.forward(&x)?;
                let (_, x) = self.mlp_norm.forward_sum(&fed, &x)?;
                Ok(x)
            }
            Order::Pre => {
                let attended = match &self.attn_norm {
                    Some(norm) => self.attend(&norm.forward(x)?, layer, pass)?,
                    None => self.attend(x, layer, pass)?,
                };
                let (x, normed) = self.mlp_norm.forward_sum(&attended, x)?;
                add(&x, &self.mlp.forward(&normed)?)
            }
        }
    }

    fn attend(&self, x: &Tensor, layer: &EncoderLayer, pass: &Pass<'_>) -> Result<Tensor> {
        let [query, key, value] = &self.qkv;
        let [mut q, mut k, v] = Linear::forward_all([query, key, value], x)?;
        if let Some(rope) = layer.rope.map(|index| &pass.ropes[index]) {
            q = self.rotated(rope, &q, pass.step)?;
            k = self.rotated(rope, &k, pass.step)?;
        }
        let how = AttendMutually {
            scale: layer.scale,
            reach: layer.reach,
            distances: match (&self.vectors, pass.biases) {
                (Some(vectors), _) => Some(Distances::Vectors(vectors)),
                (None, biases) => biases.map(Distances::Biases),
            },
        };
        let attended = attend_mutually([&q, &k, &v], self.heads, pass.lens, &how)?;
        self.out.forward(&attended)
    }

    fn rotated(&self, rope: &Rope, x: &Tensor, step: &Step) -> Result<Tensor> {
        let (tokens, width) = x.dims2()?;
        let heads = x.reshape((tokens, self.heads, width / self.heads))?;
        rope.apply(&heads, step)?.reshape((tokens, width))
    }
}

/// The sum of both, and its norm.
fn sum_normed(norm: Option<&Norm>, x: &Tensor, residual: &Tensor) -> Result<(Tensor, Tensor)> {
    match norm {
        Some(norm) => norm.forward_sum(x, residual),
        None => {
            let sum = add(x, residual)?;
            Ok((sum.clone(), sum))
        }
    }
}

fn projections(
    loader: &mut EncoderLoader<'_>,
    kind: VectorsOfDistances,
    stored: usize,
    square: [usize; 2],
) -> std::result::Result<[Option<Linear>; 2], LoadError> {
    let mut own = |on: bool, place: Place| {
        (on && !kind.shared)
            .then(|| loader.linear(place, stored, square, true))
            .transpose()
    };
    Ok([
        own(kind.for_queries, Place::DistanceKey)?,
        own(kind.for_keys, Place::DistanceQuery)?,
    ])
}

impl Mlp {
    fn load(
        loader: &mut EncoderLoader<'_>,
        spec: &EncoderSpec,
        stored: usize,
    ) -> std::result::Result<Self, LoadError> {
        let (width, inner) = (spec.dims.width, spec.dims.inner);
        Ok(match spec.mlp {
            EncoderMlp::Plain(act) => Self::Plain {
                act,
                up: loader.linear(Place::Up, stored, [inner, width], true)?,
                down: loader.linear(Place::Down, stored, [width, inner], true)?,
            },
            EncoderMlp::Gated { act, biases } => Self::Gated {
                act,
                gate_up: loader.stacked(Place::GateUp, stored, [inner, width], biases)?,
                down: loader.linear(Place::Down, stored, [width, inner], biases)?,
            },
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain { act, up, down } => down.forward(&act.apply(&up.forward(x)?)?),
            Self::Gated {
                act,
                gate_up: [gate, up],
                down,
            } => {
                let [gate, up] = Linear::forward_all([gate, up], x)?;
                down.forward(&act.gate(&gate, &up)?)
            }
        }
    }
}
