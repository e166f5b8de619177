//! Which time steps are taken out of those of the training, and how noisy images are at them.

use sconce_models::ConfigError;
use statrs::function::beta::inv_beta_reg;

use super::config::{Config, Spacing};
use super::trained::linspace;

/// Time steps from the noisiest on, in double precision as numpy makes them; not rounded where they are spread evenly.
pub(super) fn timesteps(config: &Config, spacing: Spacing, steps: usize) -> Vec<f64> {
    let trained = config.trained.steps();
    let offset = config.offset as f64;
    let found: Vec<f64> = match spacing {
        Spacing::Linspace => spread(0.0, (trained - 1) as f64, steps),
        Spacing::Leading => {
            let ratio = trained / steps;
            (0..steps).map(|at| (at * ratio) as f64 + offset).collect()
        }
        Spacing::Trailing => {
            let mut all = counted_down(trained as f64, trained as f64 / steps as f64);
            all.reverse();
            all
        }
    };
    found.into_iter().rev().collect()
}

/// The same with one step more, of which the last is left out: those of multistep solvers, rounded. `last` is the number
/// of steps that are used of the training's.
pub(super) fn multistep(
    config: &Config,
    spacing: Spacing,
    (steps, last): (usize, usize),
) -> Vec<f64> {
    let offset = config.offset as f64;
    let upwards: Vec<f64> = match spacing {
        Spacing::Linspace => {
            let all = spread(0.0, last as f64 - 1.0, steps + 1);
            all.into_iter().map(f64::round_ties_even).collect()
        }
        Spacing::Leading => {
            let ratio = last / (steps + 1);
            (0..=steps).map(|at| (at * ratio) as f64 + offset).collect()
        }
        Spacing::Trailing => {
            let ratio = config.trained.steps() as f64 / steps as f64;
            return counted_down(last as f64, ratio);
        }
    };
    upwards.into_iter().skip(1).rev().collect()
}

/// `np.arange(from, 0, -ratio).round() - 1`.
fn counted_down(from: f64, ratio: f64) -> Vec<f64> {
    let count = (from / ratio).ceil() as usize;
    let at = |index: usize| (from - index as f64 * ratio).round_ties_even() - 1.0;
    (0..count).map(at).collect()
}

/// `np.linspace`.
pub(super) fn spread(start: f64, end: f64, count: usize) -> Vec<f64> {
    if count == 1 {
        return vec![start];
    }
    let step = (end - start) / (count - 1) as f64;
    let mut all: Vec<f64> = (0..count).map(|at| start + step * at as f64).collect();
    if let Some(last) = all.last_mut() {
        *last = end;
    }
    all
}

/// `np.interp` of a table by its indices.
pub(super) fn interpolate(table: &[f32], at: f64) -> f64 {
    let last = table.len() - 1;
    let low = (at.max(0.0).floor() as usize).min(last);
    let high = (low + 1).min(last);
    let share = (at - low as f64).clamp(0.0, 1.0);
    let (low, high) = (f64::from(table[low]), f64::from(table[high]));
    low + share * (high - low)
}

/// How noises between the first and the last are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    /// As the time steps are.
    Timesteps,
    /// Karras et al. (2022).
    Karras,
    /// Evenly in the logarithm.
    Exponential,
    /// As the quantiles of a beta distribution (Lee et al., 2024).
    Beta,
    /// Evenly in half of the logarithm of signal to noise (Lu et al., 2022).
    Lu,
}

/// The keys of curves, of which one may be true.
const CURVES: [(&str, Curve); 3] = [
    ("use_karras_sigmas", Curve::Karras),
    ("use_exponential_sigmas", Curve::Exponential),
    ("use_beta_sigmas", Curve::Beta),
];

/// Both parameters of the distribution.
const SHAPE: f64 = 0.6;

impl Curve {
    /// As the keys of the configuration say, of those that the class knows.
    pub(super) fn read(config: &Config, knows_lu: bool) -> Result<Self, ConfigError> {
        let keys = &config.keys;
        keys.refuse_true("use_flow_sigmas", "false")?;
        let mut found: Option<(&str, Self)> = None;
        for (key, curve) in CURVES {
            match (keys.flag(key, false)?, found) {
                (true, Some((other, _))) => {
                    keys.refuse_true(key, &format!("false beside {other}"))?
                }
                (true, None) => found = Some((key, curve)),
                (false, _) => {}
            }
        }
        Ok(match found {
            Some((_, curve)) => curve,
            None if knows_lu && keys.flag("use_lu_lambdas", false)? => Self::Lu,
            None => Self::Timesteps,
        })
    }

    /// Noises from `most` to `least`.
    pub(super) fn between(self, most: f64, least: f64, steps: usize) -> Vec<f64> {
        const RHO: f64 = 7.0;
        match self {
            Self::Karras => {
                let (high, low) = (most.powf(1.0 / RHO), least.powf(1.0 / RHO));
                let ramp = spread(0.0, 1.0, steps).into_iter();
                ramp.map(|at| (high + at * (low - high)).powf(RHO))
                    .collect()
            }
            Self::Exponential | Self::Lu => {
                let all = spread(most.ln(), least.ln(), steps).into_iter();
                all.map(f64::exp).collect()
            }
            Self::Beta => {
                let ramp = spread(0.0, 1.0, steps).into_iter();
                let quantile = |at: f64| match 1.0 - at {
                    // Where the distribution ends, nothing has to be searched.
                    end @ (0.0 | 1.0) => end,
                    share => inv_beta_reg(SHAPE, SHAPE, share),
                };
                ramp.map(|at| least + quantile(at) * (most - least))
                    .collect()
            }
            Self::Timesteps => Vec::new(),
        }
    }
}

/// The time step at which training had that noise: `_sigma_to_t` of diffusers. `table` is from the least noise on.
pub(super) fn timestep_of(sigma: f64, table: &[f32]) -> f64 {
    let wanted = sigma.max(1e-10).ln();
    let log = |at: usize| f64::from(table[at].ln());
    // The last that is not noisier.
    let below = table
        .iter()
        .filter(|sigma| wanted >= f64::from(sigma.ln()))
        .count();
    let low = below.saturating_sub(1).min(table.len() - 2);
    let share = ((log(low) - wanted) / (log(low) - log(low + 1))).clamp(0.0, 1.0);
    (1.0 - share) * low as f64 + share * (low + 1) as f64
}

/// Noises in the logarithm between the ends of the training, with one more than steps.
pub(super) fn log_linear(table: &[f32], steps: usize) -> Vec<f64> {
    let (most, least) = (table[table.len() - 1].ln(), table[0].ln());
    let all = linspace(most, least, steps + 1).into_iter();
    all.map(|log| f64::from(log.exp())).collect()
}
