//! `PNDMScheduler`: pseudo numerical methods (Liu et al., 2022), with or without the Runge-Kutta steps at the beginning.

use sconce_models::ConfigError;

use super::config::{Config, Prediction, Spacing};
use super::trained::Trained;
use super::vectors::sum;
use super::{Moment, Rule, Ruled, spacing};

/// Time steps of the training that Runge-Kutta begins with.
const ORDER: usize = 4;

struct Pndm {
    trained: Trained,
    last_alpha: f32,
    prediction: Prediction,
    /// Time steps of the training between two steps.
    stride: i64,
    timesteps: Vec<i64>,
    /// The first of them that are Runge-Kutta's.
    runge_kutta: Vec<i64>,
    outputs: Vec<Vec<f32>>,
    counter: usize,
    kept: Vec<f32>,
    mixed: Vec<f32>,
}

pub(super) fn make(config: &Config, steps: usize) -> Result<Ruled, ConfigError> {
    config.require_steps(steps)?;
    config
        .keys
        .refuse_unless("prediction_type", &["epsilon", "v_prediction"])?;
    let skips = config.keys.flag("skip_prk_steps", false)?;
    let found = spacing::timesteps(config, config.spacing(Spacing::Leading)?, steps);
    // Upwards, as they are counted below.
    let all: Vec<i64> = found
        .iter()
        .rev()
        .map(|at| at.round_ties_even() as i64)
        .collect();
    let stride = (config.trained.steps() / steps) as i64;
    let (runge_kutta, linear) = match skips {
        true => (Vec::new(), with_second_twice(&all)),
        false => {
            if steps <= ORDER {
                let wanted = format!("more than {ORDER} with skip_prk_steps = false");
                return Err(config
                    .keys
                    .out_of_range("num_inference_steps", steps, wanted));
            }
            (
                runge_kutta(&all, stride),
                all[..all.len() - 3].iter().rev().copied().collect(),
            )
        }
    };
    let timesteps: Vec<i64> = [runge_kutta.clone(), linear].concat();
    let one = config.keys.flag("set_alpha_to_one", false)?;
    Ok(Ruled {
        noise_sigma: 1.0,
        order: 1,
        rule: Box::new(Pndm {
            last_alpha: if one { 1.0 } else { config.trained.alphas[0] },
            trained: config.trained.clone(),
            prediction: config.prediction,
            stride,
            timesteps: timesteps.clone(),
            runge_kutta,
            outputs: Vec::new(),
            counter: 0,
            kept: Vec::new(),
            mixed: Vec::new(),
        }),
        timesteps: timesteps.into_iter().map(|at| at as f32).collect(),
    })
}

/// Downwards, the second one twice.
fn with_second_twice(upwards: &[i64]) -> Vec<i64> {
    let mut all: Vec<i64> = upwards.iter().rev().copied().collect();
    if let Some(second) = all.get(1).copied() {
        all.insert(1, second);
    }
    all
}

/// Four evaluations of each of three intervals.
fn runge_kutta(upwards: &[i64], stride: i64) -> Vec<i64> {
    let last = &upwards[upwards.len() - ORDER..];
    let halves: Vec<i64> = last.iter().flat_map(|at| [*at, at + stride / 2]).collect();
    let twice: Vec<i64> = halves[..halves.len() - 1]
        .iter()
        .flat_map(|at| [*at, *at])
        .collect();
    twice[1..twice.len() - 1].iter().rev().copied().collect()
}

impl Rule for Pndm {
    fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32> {
        let now = self.timesteps[at];
        let after = if self.counter < self.runge_kutta.len() {
            self.runge_kutta_step(now, &moment)
        } else {
            self.linear_step(now, &moment)
        };
        self.counter += 1;
        after
    }

    fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        self.trained.noised(self.timesteps[at], image, noise)
    }
}

impl Pndm {
    fn runge_kutta_step(&mut self, now: i64, moment: &Moment<'_>) -> Vec<f32> {
        let half = if self.counter.is_multiple_of(2) {
            self.stride / 2
        } else {
            0
        };
        let before = now - half;
        let base = self.runge_kutta[self.counter / 4 * 4];
        let add = |mixed: &[f32], factor: f32| match mixed.is_empty() {
            true => sum(&[(factor, moment.output)]),
            false => sum(&[(1.0, mixed), (factor, moment.output)]),
        };
        let mut output = moment.output.to_vec();
        match self.counter % 4 {
            0 => {
                self.mixed = add(&self.mixed, 1.0 / 6.0);
                self.outputs.push(output.clone());
                self.kept = moment.sample.to_vec();
            }
            1 | 2 => self.mixed = add(&self.mixed, 1.0 / 3.0),
            _ => {
                output = add(&self.mixed, 1.0 / 6.0);
                self.mixed = Vec::new();
            }
        }
        self.before(&self.kept, base, before, &output)
    }

    fn linear_step(&mut self, now: i64, moment: &Moment<'_>) -> Vec<f32> {
        let (mut now, mut before) = (now, now - self.stride);
        if self.counter == 1 {
            (now, before) = (now + self.stride, now);
        } else {
            let keep = self.outputs.len().saturating_sub(3);
            self.outputs.drain(..keep);
            self.outputs.push(moment.output.to_vec());
        }
        let mut sample = moment.sample.to_vec();
        let recent: Vec<&[f32]> = self.outputs.iter().rev().map(Vec::as_slice).collect();
        let output = match *recent {
            [_] if self.counter == 0 => {
                self.kept = moment.sample.to_vec();
                moment.output.to_vec()
            }
            [one] if self.counter == 1 => {
                sample = std::mem::take(&mut self.kept);
                sum(&[(0.5, moment.output), (0.5, one)])
            }
            [one, two] => sum(&[(1.5, one), (-0.5, two)]),
            [one, two, three] => {
                sum(&[(23.0 / 12.0, one), (-16.0 / 12.0, two), (5.0 / 12.0, three)])
            }
            [one, two, three, four, ..] => sum(&[
                (55.0 / 24.0, one),
                (-59.0 / 24.0, two),
                (37.0 / 24.0, three),
                (-9.0 / 24.0, four),
            ]),
            _ => moment.output.to_vec(),
        };
        self.before(&sample, now, before, &output)
    }

    /// Formula 9 of the paper.
    fn before(&self, sample: &[f32], now: i64, before: i64, output: &[f32]) -> Vec<f32> {
        let alpha = self.trained.alpha(now, self.last_alpha);
        let alpha_before = self.trained.alpha(before, self.last_alpha);
        let (beta, beta_before) = (1.0 - alpha, 1.0 - alpha_before);
        let output = match self.prediction {
            Prediction::Velocity => sum(&[(alpha.sqrt(), output), (beta.sqrt(), sample)]),
            _ => output.to_vec(),
        };
        let below = alpha * beta_before.sqrt() + (alpha * beta * alpha_before).sqrt();
        let factor = (alpha_before / alpha).sqrt();
        sum(&[(factor, sample), (-(alpha_before - alpha) / below, &output)])
    }
}
