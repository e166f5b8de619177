//! Rotary settings of `config.json`, which stand in one of two objects or beside them, by age of the file.

use sconce_nn::{RopeScaling, RopeSpec};
use serde_json::{Map, Value};

use crate::config_error::ConfigError;
use crate::decoder::Dims;
use crate::hf_config::{HfConfig, positive};

const SUPPORTED: &str = "default, linear, dynamic, llama3";

/// What a family assumes for absent keys.
#[derive(Clone, Copy, Debug)]
pub struct RopeDefaults {
    /// The base of the wavelengths.
    pub theta: f64,
    /// The part of each head that is rotated.
    pub share: f64,
}

impl HfConfig {
    /// How queries and keys are rotated.
    pub fn rope(&self, dims: &Dims, defaults: RopeDefaults) -> Result<RopeSpec, ConfigError> {
        let settings = RopeSettings::of(self)?;
        let share = settings.float_or_top("partial_rotary_factor", defaults.share)?;
        let dim = (dims.head as f64 * share) as usize;
        if dim == 0 || dim % 2 == 1 || dim > dims.head {
            let wanted = format!(
                "such that an even number of the {} numbers of a head is rotated, not {dim}",
                dims.head
            );
            let key = if share == 1.0 {
                "head_dim"
            } else {
                "partial_rotary_factor"
            };
            let value = if share == 1.0 {
                Value::from(dims.head)
            } else {
                Value::from(share)
            };
            return Err(self.wrong(key, &value, &wanted));
        }
        let theta = settings.float_or_top("rope_theta", defaults.theta)?;
        Ok(RopeSpec {
            dim,
            theta,
            scaling: settings.scaling(dims)?,
            max_len: dims.context,
        })
    }
}

/// The object that holds the settings, if any. transformers lets `rope_scaling` win.
struct RopeSettings<'a> {
    config: &'a HfConfig,
    place: &'a str,
    keys: Option<&'a Map<String, Value>>,
}

impl<'a> RopeSettings<'a> {
    fn of(config: &'a HfConfig) -> Result<Self, ConfigError> {
        for place in ["rope_scaling", "rope_parameters"] {
            if let Some((_, value)) = config.find(place) {
                let keys = value
                    .as_object()
                    .ok_or_else(|| config.wrong(place, value, "an object"))?;
                return Ok(Self {
                    config,
                    place,
                    keys: Some(keys),
                });
            }
        }
        Ok(Self {
            config,
            place: "rope_scaling",
            keys: None,
        })
    }

    /// The scaling that the type names.
    fn scaling(&self, dims: &Dims) -> Result<RopeScaling, ConfigError> {
        let Some((key, kind)) = ["rope_type", "type"]
            .iter()
            .find_map(|key| Some((*key, self.get(key)?)))
        else {
            return Ok(RopeScaling::None);
        };
        match kind.as_str() {
            // Dynamic scaling begins beyond the trained context, which is as far as sequences go here.
            Some("default" | "dynamic") => Ok(RopeScaling::None),
            Some("linear") => Ok(RopeScaling::Linear {
                factor: self.float("factor", None)?,
            }),
            Some("llama3") => Ok(RopeScaling::Llama3 {
                factor: self.float("factor", None)?,
                low_freq_factor: self.float("low_freq_factor", None)?,
                high_freq_factor: self.float("high_freq_factor", None)?,
                original_max_len: self.original_context(dims)? as usize,
            }),
            _ => Err(self.config.unsupported(&self.path(key), kind, SUPPORTED)),
        }
    }

    fn original_context(&self, dims: &Dims) -> Result<f64, ConfigError> {
        self.float(
            "original_max_position_embeddings",
            Some(dims.context as f64),
        )
    }

    /// A number above 0 inside the object.
    fn float(&self, key: &str, default: Option<f64>) -> Result<f64, ConfigError> {
        const WANTED: &str = "a number above 0";
        match (self.get(key), default) {
            (Some(value), _) => {
                positive(value).ok_or_else(|| self.config.wrong(&self.path(key), value, WANTED))
            }
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.config.absent(&self.path(key), WANTED)),
        }
    }

    /// The same inside the object or at the top level.
    fn float_or_top(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        match self.get(key) {
            Some(_) => self.float(key, None),
            None => self.config.float(key, default),
        }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        self.keys?.get(key).filter(|value| !value.is_null())
    }

    fn path(&self, key: &str) -> String {
        format!("{}.{key}", self.place)
    }
}
