//! `DPMSolverMultistepScheduler`: DPM-Solver and DPM-Solver++ of first to third order (Lu et al., 2022), with or without
//! new noise at each step.

use std::collections::VecDeque;

use sconce_models::ConfigError;

use super::config::{Config, Limit, Prediction};
use super::multistep::{Habits, Level, Levels};
use super::vectors::sum;
use super::{Moment, Rule, Ruled};

/// How the steps are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    /// Whether images are integrated (DPM-Solver++), else noise.
    of_images: bool,
    /// Whether new noise comes in.
    random: bool,
    /// Heun's way of the second order, else the midpoint's.
    heun: bool,
}

struct Dpm {
    levels: Levels,
    prediction: Prediction,
    limit: Limit,
    way: Way,
    order: usize,
    lower_at_the_end: bool,
    first_at_the_end: bool,
    /// The newest first.
    outputs: VecDeque<Vec<f32>>,
    made: usize,
}

pub(super) fn make(config: &Config, steps: usize) -> Result<Ruled, ConfigError> {
    let keys = &config.keys;
    let ways = [
        "dpmsolver++",
        "sde-dpmsolver++",
        "dpmsolver",
        "sde-dpmsolver",
        "deis",
    ];
    keys.refuse_unless("algorithm_type", &ways)?;
    keys.refuse_unless("solver_type", &["midpoint", "heun", "logrho", "bh1", "bh2"])?;
    keys.refuse_unless(
        "variance_type",
        &["fixed_small", "fixed_large", "fixed_small_log"],
    )?;
    let algorithm = keys
        .text("algorithm_type")
        .unwrap_or_else(|| ways[0].into());
    let way = Way {
        of_images: !matches!(algorithm.as_str(), "dpmsolver" | "sde-dpmsolver"),
        random: algorithm.starts_with("sde"),
        heun: keys.text("solver_type").as_deref() == Some("heun"),
    };
    let keeps_noise = keys.text("final_sigmas_type").as_deref() == Some("sigma_min");
    if !way.of_images && !keeps_noise {
        keys.refuse(
            "algorithm_type",
            "dpmsolver++ and sde-dpmsolver++ where final_sigmas_type is zero",
        )?;
    }
    let order = keys.size_or("solver_order", 2)?;
    if order > 3 || (order == 3 && algorithm == "sde-dpmsolver") {
        keys.refuse("solver_order", "1, 2, and 3 but for sde-dpmsolver")?;
    }
    let rounds = keys.text("beta_schedule").as_deref() != Some("squaredcos_cap_v2");
    let habits = Habits {
        last: config.trained.steps() - config.clipped(),
        rounds: [rounds, rounds, false],
        remains_of_curve: false,
        knows_lu: true,
        knows_ends: false,
    };
    let levels = Levels::read(config, steps, &habits)?;
    let limit = config.threshold()?;
    Ok(Ruled {
        timesteps: levels.timesteps.clone(),
        noise_sigma: 1.0,
        order: 1,
        rule: Box::new(Dpm {
            lower_at_the_end: keys.flag("lower_order_final", true)? && levels.len() < 15,
            first_at_the_end: keys.flag("euler_at_final", false)? || !keeps_noise,
            levels,
            prediction: config.prediction,
            limit,
            way,
            order,
            outputs: VecDeque::new(),
            made: 0,
        }),
    })
}

impl Rule for Dpm {
    fn step(&mut self, at: usize, moment: Moment<'_>) -> Vec<f32> {
        let output = self.converted(at, &moment);
        self.outputs.push_front(output);
        self.outputs.truncate(self.order);
        let noise = self.way.random.then(|| (moment.noise)());
        let left = self.levels.len() - at;
        let first = left == 1 && (self.first_at_the_end || self.lower_at_the_end);
        let second = left == 2 && self.lower_at_the_end;
        let order = match () {
            () if self.order == 1 || self.made < 1 || first => 1,
            () if self.order == 2 || self.made < 2 || second => 2,
            () => 3,
        };
        self.made = (self.made + 1).min(self.order);
        self.advance(at, order, moment.sample, noise.as_deref())
    }

    fn noised(&self, at: usize, image: &[f32], noise: &[f32]) -> Vec<f32> {
        self.levels.noised(at, image, noise)
    }
}

impl Dpm {
    /// The image or the noise of a prediction.
    fn converted(&self, at: usize, moment: &Moment<'_>) -> Vec<f32> {
        let Level { alpha, sigma, .. } = self.levels.level(at);
        let (output, sample) = (moment.output, moment.sample);
        if self.way.of_images {
            let mut image = self.prediction.image(output, sample, alpha, sigma);
            self.limit.apply(&mut image, moment.images);
            return image;
        }
        let noise = self.prediction.noise(output, sample, alpha, sigma);
        if self.limit == Limit::None {
            return noise;
        }
        let mut image = Prediction::Epsilon.image(&noise, sample, alpha, sigma);
        self.limit.apply(&mut image, moment.images);
        Prediction::Sample.noise(&image, sample, alpha, sigma)
    }

    fn advance(&self, at: usize, order: usize, sample: &[f32], noise: Option<&[f32]>) -> Vec<f32> {
        let (now, next) = (self.levels.level(at), self.levels.level(at + 1));
        let h = next.lambda - now.lambda;
        let Coefficients {
            sample: of_sample,
            zeroth,
            first,
            second,
            noise: of_noise,
        } = self.way.coefficients(now, next, h, order);
        let mut terms = vec![(of_sample, sample)];
        let (m0, differences) = (&self.outputs[0], self.differences(at, order, h));
        terms.push((zeroth, m0));
        terms.extend(
            [first, second]
                .into_iter()
                .zip(differences.iter().map(Vec::as_slice)),
        );
        if let Some(noise) = noise {
            terms.push((of_noise, noise));
        }
        sum(&terms)
    }

    /// Estimates of the first and second derivatives of what is integrated.
    fn differences(&self, at: usize, order: usize, h: f32) -> Vec<Vec<f32>> {
        let lambda = |back: usize| self.levels.level(at - back).lambda;
        let ratio = |back: usize| (lambda(back) - lambda(back + 1)) / h;
        let difference = |back: usize, factor: f32| {
            sum(&[
                (factor, &self.outputs[back]),
                (-factor, &self.outputs[back + 1]),
            ])
        };
        match order {
            1 => Vec::new(),
            2 => vec![difference(0, 1.0 / ratio(0))],
            _ => {
                let (r0, r1) = (ratio(0), ratio(1));
                let (one, other) = (difference(0, 1.0 / r0), difference(1, 1.0 / r1));
                let share = r0 / (r0 + r1);
                let slope = sum(&[(1.0 + share, &one), (-share, &other)]);
                let bend = 1.0 / (r0 + r1);
                vec![slope, sum(&[(bend, &one), (-bend, &other)])]
            }
        }
    }
}

/// Factors of what a step adds up.
struct Coefficients {
    sample: f32,
    zeroth: f32,
    first: f32,
    second: f32,
    noise: f32,
}

impl Way {
    fn coefficients(self, now: Level, next: Level, h: f32, order: usize) -> Coefficients {
        // The second order at its midpoint takes half the slope; else the integral of it.
        let midpoint = order == 2 && !self.heun;
        match (self.of_images, self.random) {
            (true, false) => {
                let decay = (-h).exp() - 1.0;
                let slope = next.alpha * (decay / h + 1.0);
                Coefficients {
                    sample: next.sigma / now.sigma,
                    zeroth: -next.alpha * decay,
                    first: if midpoint {
                        -0.5 * next.alpha * decay
                    } else {
                        slope
                    },
                    second: -next.alpha * ((decay + h) / (h * h) - 0.5),
                    noise: 0.0,
                }
            }
            (false, false) => {
                let growth = h.exp() - 1.0;
                let slope = -next.sigma * (growth / h - 1.0);
                Coefficients {
                    sample: next.alpha / now.alpha,
                    zeroth: -next.sigma * growth,
                    first: if midpoint {
                        -0.5 * next.sigma * growth
                    } else {
                        slope
                    },
                    second: -next.sigma * ((growth - h) / (h * h) - 0.5),
                    noise: 0.0,
                }
            }
            (true, true) => {
                let decay = 1.0 - (-2.0 * h).exp();
                let slope = next.alpha * (decay / (-2.0 * h) + 1.0);
                Coefficients {
                    sample: next.sigma / now.sigma * (-h).exp(),
                    zeroth: next.alpha * decay,
                    first: if midpoint {
                        0.5 * next.alpha * decay
                    } else {
                        slope
                    },
                    second: next.alpha * ((decay - 2.0 * h) / (4.0 * h * h) - 0.5),
                    noise: next.sigma * decay.sqrt(),
                }
            }
            (false, true) => {
                let growth = h.exp() - 1.0;
                let slope = -2.0 * next.sigma * (growth / h - 1.0);
                Coefficients {
                    sample: next.alpha / now.alpha,
                    zeroth: -2.0 * next.sigma * growth,
                    first: if midpoint {
                        -next.sigma * growth
                    } else {
                        slope
                    },
                    second: 0.0,
                    noise: next.sigma * ((2.0 * h).exp() - 1.0).sqrt(),
                }
            }
        }
    }
}
