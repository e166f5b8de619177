//! `UniPCMultistepScheduler`: the unified predictor and corrector of Zhao et al. (2023).

use std::collections::VecDeque;

use sconce_models::ConfigError;

use super::config::{Config, Limit, Prediction};
use super::multistep::{Habits, Level, Levels};
use super::vectors::sum;
use super::{Moment, Rule, Ruled};

struct UniPc {
    levels: Levels,
    prediction: Prediction,
    limit: Limit,
    of_images: bool,
    /// The paper's B₁ rather than B₂.
    first_kind: bool,
    order: usize,
    lower_at_the_end: bool,
    /// Steps behind which latents stay as they were predicted.
    uncorrected: Vec<usize>,
    /// The newest first.
    outputs: VecDeque<Vec<f32>>,
    made: usize,
    /// Latents before the last step and the order that it was predicted with.
    last: Option<(Vec<f32>, usize)>,
}

pub(super) fn make(config: &Config, steps: usize) -> Result<Ruled, ConfigError> {
    let keys = &config.keys;
    let order = keys.size_or("solver_order", 2)?;
    keys.refuse("solver_p", "null")?;
    keys.refuse_unless("solver_type", &["bh1", "bh2", "midpoint", "heun", "logrho"])?;
    let habits = Habits {
        last: config.trained.steps(),
        rounds: [true, true, false],
        remains_of_curve: true,
        knows_lu: false,
        knows_ends: true,
    };
    let levels = Levels::read(config, steps, &habits)?;
    let limit = config.threshold()?;
    Ok(Ruled {
        timesteps: levels.timesteps.clone(),
        noise_sigma: 1.0,
        order: 1,
        rule: Box::new(UniPc {
            levels,
            prediction: config.prediction,
            limit,
            of_images: keys.flag("predict_x0", true)?,
            first_kind: keys.text("solver_type").as_deref() == Some("bh1"),
            order,
            lower_at_the_end: keys.flag("lower_order_final", true)?,
            uncorrected: keys.layer_list("disable_corrector")?,
            outputs: VecDeque::new(),
            made: 0,
            last: None,
        }),
    })
}

impl Rule for UniPc {
    fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32> {
        let output = self.converted(at, &moment);
        let sample = match self.last.take() {
            Some((last, order)) if !self.uncorrected.contains(&at.wrapping_sub(1)) => {
                self.corrected(at, &output, &last, order)
            }
            _ => moment.sample.to_vec(),
        };
        self.outputs.push_front(output);
        self.outputs.truncate(self.order);
        let left = if self.lower_at_the_end {
            self.levels.len() - at
        } else {
            self.order
        };
        let order = self.order.min(left).min(self.made + 1);
        let after = self.predicted(at, &sample, order);
        self.made = (self.made + 1).min(self.order);
        self.last = Some((sample, order));
        after
    }

    fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        self.levels.noised(at, image, noise)
    }
}

/// What both updates of a step have in common.
struct Step {
    from: Level,
    to: Level,
    /// Places of earlier outputs in units of the step.
    ratios: Vec<f32>,
    phi: f32,
    b: f32,
    /// Right side of the equations for the weights.
    right: Vec<f32>,
}

impl UniPc {
    /// The image or the noise of a prediction.
    fn converted(&self, at: usize, moment: &Moment<'_>) -> Vec<f32> {
        let Level { alpha, sigma, .. } = self.levels.level(at);
        let (output, sample) = (moment.output, moment.sample);
        if !self.of_images {
            return self.prediction.noise(output, sample, alpha, sigma);
        }
        let mut image = self.prediction.image(output, sample, alpha, sigma);
        self.limit.apply(&mut image, moment.images);
        image
    }

    /// The step from the level `from` to the next, with so many outputs of levels before it.
    fn made_of(&self, from: usize, order: usize) -> Step {
        let (start, to) = (self.levels.level(from), self.levels.level(from + 1));
        let h = to.lambda - start.lambda;
        let ratio = |back: usize| (self.levels.level(from - back).lambda - start.lambda) / h;
        let mut ratios: Vec<f32> = (1..order).map(ratio).collect();
        ratios.push(1.0);
        let hh = if self.of_images { -h } else { h };
        let phi = hh.exp_m1();
        let b = if self.first_kind { hh } else { phi };
        let (mut of_k, mut factorial) = (phi / hh - 1.0, 1.0);
        let right = (1..=order).map(|k| {
            let value = of_k * factorial / b;
            factorial *= (k + 1) as f32;
            of_k = of_k / hh - 1.0 / factorial;
            value
        });
        Step {
            right: right.collect(),
            from: start,
            to,
            ratios,
            phi,
            b,
        }
    }

    fn predicted(&self, at: usize, sample: &[f32], order: usize) -> Vec<f32> {
        let step = self.made_of(at, order);
        let weights = match order {
            1 => Vec::new(),
            // The paper's simplification.
            2 => vec![0.5],
            _ => solved(&step.ratios[..order - 1], &step.right[..order - 1]),
        };
        self.sum(&step, (sample, &self.outputs[0]), &weights, None)
    }

    fn corrected(&self, at: usize, output: &[f32], last: &[f32], order: usize) -> Vec<f32> {
        let step = self.made_of(at - 1, order);
        let weights = match order {
            1 => vec![0.5],
            _ => solved(&step.ratios, &step.right),
        };
        let (others, own) = weights.split_at(order - 1);
        let own = own.first().map(|weight| (*weight, output));
        self.sum(&step, (last, &self.outputs[0]), others, own)
    }

    /// The base of a step, with differences of earlier outputs and of a later one to the one at its beginning.
    fn sum(
        &self,
        step: &Step,
        (sample, output): (&[f32], &[f32]),
        weights: &[f32],
        later: Option<(f32, &[f32])>,
    ) -> Vec<f32> {
        let (ratio, scale) = match self.of_images {
            true => (step.to.sigma / step.from.sigma, step.to.alpha),
            false => (step.to.alpha / step.from.alpha, step.to.sigma),
        };
        let factor = -scale * step.b;
        let mut terms = vec![(ratio, sample), (-scale * step.phi, output)];
        let earlier = self.outputs.iter().skip(1).map(Vec::as_slice);
        let with_ratios = weights
            .iter()
            .zip(&step.ratios)
            .map(|(weight, ratio)| weight / ratio);
        for (weight, other) in with_ratios.zip(earlier).chain(later) {
            // A term without weight would bring what is infinite where no noise is left.
            if weight != 0.0 {
                terms.extend([(factor * weight, other), (-factor * weight, output)]);
            }
        }
        sum(&terms)
    }
}

/// Solves `sum over j of ratios[j]^i * x[j] = right[i]`, by elimination with pivots.
fn solved(ratios: &[f32], right: &[f32]) -> Vec<f32> {
    let n = ratios.len();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|power| {
            let row = ratios
                .iter()
                .map(|ratio| f64::from(*ratio).powi(power as i32));
            row.chain([f64::from(right[power])]).collect()
        })
        .collect();
    for column in 0..n {
        let size = |row: &usize| rows[*row][column].abs();
        let best = (column..n).max_by(|one, other| size(one).total_cmp(&size(other)));
        rows.swap(column, best.unwrap_or(column));
        let pivot = rows[column].clone();
        for row in rows.iter_mut().skip(column + 1) {
            let factor = row[column] / pivot[column];
            row.iter_mut()
                .zip(&pivot)
                .for_each(|(x, p)| *x -= factor * p);
        }
    }
    let mut found = vec![0.0; n];
    for row in (0..n).rev() {
        let known: f64 = (row + 1..n).map(|at| rows[row][at] * found[at]).sum();
        found[row] = (rows[row][n] - known) / rows[row][row];
    }
    found.into_iter().map(|x| x as f32).collect()
}
