//! `LMSDiscreteScheduler`: the linear multistep method of k-diffusion, with derivatives of four steps.

use std::collections::VecDeque;

use sconce_models::ConfigError;

use super::config::{Config, Prediction};
use super::euler::{Beside, input_scale};
use super::spacing::Curve;
use super::vectors::sum;
use super::{Moment, Rule, Ruled};

/// Derivatives that are kept.
const ORDER: usize = 4;

struct Lms {
    sigmas: Vec<f32>,
    prediction: Prediction,
    /// The newest first.
    derivatives: VecDeque<Vec<f32>>,
}

pub(super) fn make(config: &Config, steps: usize) -> Result<Ruled, ConfigError> {
    let curve = Curve::read(config, false)?;
    let others = [
        "interpolation_type",
        "final_sigmas_type",
        "sigma_min",
        "sigma_max",
    ];
    let found = Beside::read(&config.without(&others), steps, curve)?;
    // Before steps are set the noises of the whole training are there, and what latents begin as is told of those.
    Ok(Ruled {
        timesteps: found.timesteps,
        noise_sigma: found.noise_sigma,
        order: 1,
        rule: Box::new(Lms {
            sigmas: found.sigmas,
            prediction: config.prediction,
            derivatives: VecDeque::new(),
        }),
    })
}

impl Rule for Lms {
    fn scale(&self, at: usize) -> f32 {
        input_scale(self.sigmas[at])
    }

    fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32> {
        let sigma = self.sigmas[at];
        let image = self
            .prediction
            .image_beside(moment.output, moment.sample, sigma);
        let derivative = sum(&[(1.0 / sigma, moment.sample), (-1.0 / sigma, &image)]);
        self.derivatives.push_front(derivative);
        self.derivatives.truncate(ORDER);
        let order = ORDER.min(at + 1);
        let weights: Vec<f32> = (0..order)
            .map(|which| self.weight(at, order, which))
            .collect();
        let mut terms = vec![(1.0, moment.sample)];
        let derivatives = self.derivatives.iter().map(Vec::as_slice);
        terms.extend(weights.into_iter().zip(derivatives));
        sum(&terms)
    }

    fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        sum(&[(1.0, image), (self.sigmas[at], noise)])
    }
}

impl Lms {
    /// The integral of one of Lagrange's polynomials over a step.
    fn weight(&self, at: usize, order: usize, which: usize) -> f32 {
        let sigma = |back: usize| f64::from(self.sigmas[at - back]);
        let polynomial = |x: f64| -> f64 {
            let others = (0..order).filter(|other| *other != which);
            let factors = others.map(|other| (x - sigma(other)) / (sigma(which) - sigma(other)));
            factors.product()
        };
        // Two points of Gauss and Legendre are exact up to cubes.
        let (from, to) = (sigma(0), f64::from(self.sigmas[at + 1]));
        let (middle, half) = ((from + to) / 2.0, (to - from) / 2.0);
        let place = half / 3f64.sqrt();
        (half * (polynomial(middle - place) + polynomial(middle + place))) as f32
    }
}
