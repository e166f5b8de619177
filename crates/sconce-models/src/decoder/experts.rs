//! A mixture of experts: every token goes through the few gated MLPs that its router scores highest.
//! Every rank has a part of the inside of each expert, so that all ranks route alike and sum once.

use candle_core::{Result, Tensor};
use sconce_nn::{Act, Communicator, Linear, RowSums, multiply, rows, to_host};

use super::load::Loader;
use super::load_error::LoadError;
use super::mlp::Gated;
use super::slots::Slot;
use super::spec::{Routing, Shared};

/// This rank's part of all experts of one layer.
pub(crate) struct Experts {
    router: Linear,
    routing: Routing,
    experts: Vec<Gated>,
    shared: Option<SharedExpert>,
}

/// The expert that all tokens share.
struct SharedExpert {
    mlp: Gated,
    /// Its weight's projection.
    router: Linear,
}

/// The tokens of one expert and their weights.
#[derive(Clone, Default)]
struct Load {
    tokens: Vec<u32>,
    weights: Vec<f32>,
}

impl Experts {
    pub(crate) fn load(
        loader: &mut Loader,
        act: Act,
        routing: Routing,
        count: usize,
        layer: usize,
    ) -> std::result::Result<Self, LoadError> {
        let expert = |loader: &mut Loader, item| {
            Ok::<_, LoadError>(Gated {
                act,
                gate: loader.linear_at(Slot::ExpertGate.item(layer, item))?,
                up: loader.linear_at(Slot::ExpertUp.item(layer, item))?,
                down: loader.linear_at(Slot::ExpertDown.item(layer, item))?,
            })
        };
        Ok(Self {
            router: loader.linear(Slot::Router, layer)?,
            routing,
            experts: (0..count)
                .map(|item| expert(loader, item))
                .collect::<std::result::Result<_, _>>()?,
            shared: SharedExpert::load(loader, act, routing.shared, layer)?,
        })
    }

    /// `[tokens, width]` to this rank's summand of the same. A token's experts are added in their order, whatever
    /// other tokens there are.
    pub(crate) fn forward(&self, x: &Tensor, comm: &dyn Communicator) -> Result<Tensor> {
        let mut sums = match &self.shared {
            Some(shared) => RowSums::of(&shared.forward(x)?)?,
            None => RowSums::zeros_like(x)?,
        };
        for (expert, load) in self.experts.iter().zip(self.route(x, comm)?) {
            if load.tokens.is_empty() {
                continue;
            }
            let y = expert.forward(&rows(x, &load.tokens)?)?;
            sums.add(&load.tokens, &load.weights, &y)?;
        }
        sums.into_tensor()
    }

    /// The load of each expert.
    fn route(&self, x: &Tensor, comm: &dyn Communicator) -> Result<Vec<Load>> {
        let mut loads = vec![Load::default(); self.experts.len()];
        let rows = to_host(&self.router.forward(x)?, &|| comm.settle())?;
        for (token, logits) in rows.to_vec2::<f32>()?.into_iter().enumerate() {
            for (expert, weight) in self.routing.pick(logits) {
                loads[expert].tokens.push(token as u32);
                loads[expert].weights.push(weight);
            }
        }
        Ok(loads)
    }
}

impl Routing {
    /// The experts of one token with their weights, from its router's outputs.
    fn pick(&self, logits: Vec<f32>) -> Vec<(usize, f32)> {
        let scores = softmax(logits);
        let mut best: Vec<usize> = (0..scores.len()).collect();
        // Stable: of equal scores the first expert wins.
        best.sort_by(|&one, &other| scores[other].total_cmp(&scores[one]));
        best.truncate(self.picked);
        let sum: f32 = best.iter().map(|&expert| scores[expert]).sum();
        let divisor = if self.renormalise { sum } else { 1.0 };
        best.into_iter()
            .map(|expert| (expert, scores[expert] / divisor))
            .collect()
    }
}

impl SharedExpert {
    fn load(
        loader: &mut Loader,
        act: Act,
        kind: Shared,
        layer: usize,
    ) -> std::result::Result<Option<Self>, LoadError> {
        if kind == Shared::None {
            return Ok(None);
        }
        let mlp = Gated {
            act,
            gate: loader.linear(Slot::SharedGate, layer)?,
            up: loader.linear(Slot::SharedUp, layer)?,
            down: loader.linear(Slot::SharedDown, layer)?,
        };
        let router = loader.linear(Slot::SharedRouter, layer)?;
        Ok(Some(Self { mlp, router }))
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let weight = Act::Sigmoid.apply(&self.router.forward(x)?)?;
        multiply(&self.mlp.forward(x)?, &weight)
    }
}

fn softmax(mut logits: Vec<f32>) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    logits
        .iter_mut()
        .for_each(|logit| *logit = (*logit - largest).exp());
    let sum: f32 = logits.iter().sum();
    logits.iter_mut().for_each(|weight| *weight /= sum);
    logits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routing(renormalise: bool) -> Routing {
        Routing {
            picked: 2,
            renormalise,
            shared: Shared::None,
        }
    }

    #[test]
    fn the_best_are_picked_with_their_share_of_the_softmax() {
        // Softmax of ln 1, ln 4, ln 2, ln 1: eighths.
        let logits = || vec![0.0, 4f32.ln(), 2f32.ln(), 0.0];
        let close = |got: Vec<(usize, f32)>, want: [(usize, f32); 2]| {
            let fits = |(got, want): (&(usize, f32), &(usize, f32))| {
                got.0 == want.0 && (got.1 - want.1).abs() < 1e-6
            };
            assert!(
                got.len() == 2 && got.iter().zip(&want).all(fits),
                "{got:?} is not {want:?}"
            );
        };
        close(routing(false).pick(logits()), [(1, 0.5), (2, 0.25)]);
        close(
            routing(true).pick(logits()),
            [(1, 2.0 / 3.0), (2, 1.0 / 3.0)],
        );
    }

    #[test]
    fn of_equal_scores_the_first_experts_win() {
        let picked = routing(true).pick(vec![1.0; 5]);
        assert_eq!(picked, [(0, 0.5), (1, 0.5)]);
    }
}
