//! Rotary settings of `config.json`, which stand in one of two objects or beside them, by age of the file.
//! The meaning of the keys is that of transformers' `modeling_rope_utils.py`.

use sconce_nn::{RopeScaling, RopeSpec};
use serde_json::{Map, Value};

use crate::config_error::ConfigError;
use crate::decoder::{Dims, Position};
use crate::hf_config::{HfConfig, positive};

const SUPPORTED: &str = "default, linear, dynamic, yarn, longrope, llama3";

/// What a family assumes for absent keys.
#[derive(Clone, Copy, Debug)]
pub struct RopeDefaults {
    /// The base of the wavelengths.
    pub theta: f64,
    /// The part of each head that is rotated.
    pub share: f64,
}

impl RopeDefaults {
    /// The whole of each head is rotated.
    pub fn whole(theta: f64) -> Self {
        Self { theta, share: 1.0 }
    }
}

impl HfConfig {
    /// How queries and keys are rotated, the same in all layers. Scalings that stretch the context stretch that of
    /// `dims`: `linear` by its factor, `yarn` to its factor times the original context.
    pub fn rotary(&self, dims: &mut Dims, defaults: RopeDefaults) -> Result<Position, ConfigError> {
        let spec = RopeSettings::of(self, None)?.spec(dims, defaults)?;
        dims.context = spec.max_len;
        Ok(Position::Rope(vec![spec]))
    }

    /// How they are rotated in layers of one of the types of `layer_types`, which can have an object of their own.
    pub fn rope_of(
        &self,
        layer_type: &str,
        dims: &Dims,
        defaults: RopeDefaults,
    ) -> Result<RopeSpec, ConfigError> {
        RopeSettings::of(self, Some(layer_type))?.spec(dims, defaults)
    }

    /// The same for a type whose settings never stand in the common object: without an object of their own there is
    /// no scaling.
    pub fn local_rope(
        &self,
        layer_type: &str,
        dims: &Dims,
        defaults: RopeDefaults,
    ) -> Result<RopeSpec, ConfigError> {
        let nested = self.find("rope_parameters").is_some_and(|(_, value)| {
            value
                .get(layer_type)
                .is_some_and(serde_json::Value::is_object)
        });
        if nested && !self.has("rope_scaling") {
            return self.rope_of(layer_type, dims, defaults);
        }
        let bare = RopeSettings {
            config: self,
            place: "rope_parameters".to_owned(),
            keys: None,
        };
        let dim = bare.rotated(dims, defaults.share)?;
        Ok(RopeSpec {
            dim,
            theta: defaults.theta,
            scaling: RopeScaling::None,
            amplitude: 1.0,
            max_len: dims.context,
        })
    }
}

/// The object that holds the settings, if any. transformers lets `rope_scaling` win.
struct RopeSettings<'a> {
    config: &'a HfConfig,
    place: String,
    keys: Option<&'a Map<String, Value>>,
}

impl<'a> RopeSettings<'a> {
    fn of(config: &'a HfConfig, layer_type: Option<&str>) -> Result<Self, ConfigError> {
        for place in ["rope_scaling", "rope_parameters"] {
            let Some((_, value)) = config.find(place) else {
                continue;
            };
            let object = |place: &str, value: &'a Value| {
                let keys = value.as_object();
                keys.ok_or_else(|| config.wrong(place, value, "an object"))
            };
            let mut keys = object(place, value)?;
            let mut path = place.to_owned();
            if let Some((kind, value)) = layer_type.and_then(|kind| Some((kind, keys.get(kind)?))) {
                path = format!("{place}.{kind}");
                keys = object(&path, value)?;
            }
            return Ok(Self {
                config,
                place: path,
                keys: Some(keys),
            });
        }
        Ok(Self {
            config,
            place: "rope_scaling".to_owned(),
            keys: None,
        })
    }

    fn spec(&self, dims: &Dims, defaults: RopeDefaults) -> Result<RopeSpec, ConfigError> {
        let dim = self.rotated(dims, defaults.share)?;
        let (scaling, amplitude) = self.scaling(dims, dim)?;
        let max_len = match scaling {
            RopeScaling::Linear { factor } => (dims.context as f64 * factor) as usize,
            RopeScaling::Yarn {
                factor,
                original_max_len,
                ..
            } => dims
                .context
                .max((original_max_len as f64 * factor) as usize),
            _ => dims.context,
        };
        Ok(RopeSpec {
            dim,
            theta: self.float_or_top("rope_theta", defaults.theta)?,
            scaling,
            amplitude,
            max_len,
        })
    }

    /// Numbers of a head that are rotated.
    fn rotated(&self, dims: &Dims, default: f64) -> Result<usize, ConfigError> {
        let share = self.float_or_top("partial_rotary_factor", default)?;
        let dim = (dims.head as f64 * share) as usize;
        if dim > 0 && dim.is_multiple_of(2) && dim <= dims.head {
            return Ok(dim);
        }
        let wanted = format!(
            "such that an even number of the {} numbers of a head is rotated, not {dim}",
            dims.head
        );
        let (key, value) = if share == 1.0 {
            ("head_dim", Value::from(dims.head))
        } else {
            ("partial_rotary_factor", Value::from(share))
        };
        Err(self.config.wrong(key, &value, &wanted))
    }

    /// The scaling that the type names, and what it multiplies rotated numbers by.
    fn scaling(&self, dims: &Dims, dim: usize) -> Result<(RopeScaling, f64), ConfigError> {
        let Some((key, kind)) = ["rope_type", "type"]
            .iter()
            .find_map(|key| Some((*key, self.get(key)?)))
        else {
            return Ok((RopeScaling::None, 1.0));
        };
        match kind.as_str() {
            // Dynamic scaling begins beyond the trained context, which is as far as sequences go here.
            Some("default" | "dynamic") => Ok((RopeScaling::None, 1.0)),
            Some("linear") => {
                let factor = self.float("factor", None)?;
                Ok((RopeScaling::Linear { factor }, 1.0))
            }
            Some("llama3") => Ok((self.llama3(dims)?, 1.0)),
            // Phi-3's first files call their LongRoPE "su" or, with lists of factors, "yarn".
            Some("yarn") if self.get("long_factor").is_none() => self.yarn(dims),
            Some("longrope" | "su" | "yarn") => self.longrope(dims, dim),
            _ => Err(self.config.unsupported(&self.path(key), kind, SUPPORTED)),
        }
    }

    fn llama3(&self, dims: &Dims) -> Result<RopeScaling, ConfigError> {
        Ok(RopeScaling::Llama3 {
            factor: self.float("factor", None)?,
            low_freq_factor: self.float("low_freq_factor", None)?,
            high_freq_factor: self.float("high_freq_factor", None)?,
            original_max_len: self.original_context(dims)? as usize,
        })
    }

    fn yarn(&self, dims: &Dims) -> Result<(RopeScaling, f64), ConfigError> {
        let original = self.original_context(dims)?;
        let factor = self.float("factor", Some(dims.context as f64 / original))?;
        let flattening = |weight: f64| {
            if factor <= 1.0 {
                1.0
            } else {
                0.1 * weight * factor.ln() + 1.0
            }
        };
        let weights = (self.optional("mscale")?, self.optional("mscale_all_dim")?);
        let amplitude = match (self.optional("attention_factor")?, weights) {
            (Some(given), _) => given,
            (None, (Some(some), Some(all))) => flattening(some) / flattening(all),
            (None, _) => flattening(1.0),
        };
        let truncate = match self.get("truncate") {
            Some(value) => value.as_bool().ok_or_else(|| {
                self.config
                    .wrong(&self.path("truncate"), value, "true or false")
            })?,
            None => true,
        };
        let scaling = RopeScaling::Yarn {
            factor,
            beta_fast: self.float("beta_fast", Some(32.0))?,
            beta_slow: self.float("beta_slow", Some(1.0))?,
            original_max_len: original as usize,
            truncate,
        };
        Ok((scaling, amplitude))
    }

    fn longrope(&self, dims: &Dims, dim: usize) -> Result<(RopeScaling, f64), ConfigError> {
        let original = self.original_context(dims)?;
        let factor = self.float("factor", Some(dims.context as f64 / original))?;
        let amplitude = match self.optional("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => (1.0 + factor.ln() / original.ln()).sqrt(),
        };
        let scaling = RopeScaling::LongRope {
            short: self.divisors("short_factor", dim / 2)?,
            long: self.divisors("long_factor", dim / 2)?,
            original_max_len: original as usize,
        };
        Ok((scaling, amplitude))
    }

    /// A positive number for each pair of rotated numbers.
    fn divisors(&self, key: &str, pairs: usize) -> Result<Vec<f64>, ConfigError> {
        let path = self.path(key);
        let value = self
            .get(key)
            .ok_or_else(|| self.config.absent(&path, "a list of numbers above 0"))?;
        let list: Option<Vec<f64>> = value
            .as_array()
            .and_then(|all| all.iter().map(positive).collect());
        let wanted = format!("a list of {pairs} numbers above 0, one for each rotated pair");
        list.filter(|list| list.len() == pairs)
            .ok_or_else(|| self.config.wrong(&path, value, &wanted))
    }

    /// The context in training: beside the object, which is Phi-3's way and wins in transformers, else in it.
    fn original_context(&self, dims: &Dims) -> Result<f64, ConfigError> {
        const KEY: &str = "original_max_position_embeddings";
        if self.config.has(KEY) {
            return self.config.float(KEY, 1.0);
        }
        self.float(KEY, Some(dims.context as f64))
    }

    /// A number above 0 inside the object.
    fn float(&self, key: &str, default: Option<f64>) -> Result<f64, ConfigError> {
        const WANTED: &str = "a number above 0";
        match (self.optional(key)?, default) {
            (Some(number), _) => Ok(number),
            (None, Some(default)) => Ok(default),
            (None, None) => Err(self.config.absent(&self.path(key), WANTED)),
        }
    }

    fn optional(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match positive(value) {
            Some(number) => Ok(Some(number)),
            None => Err(self
                .config
                .wrong(&self.path(key), value, "a number above 0")),
        }
    }

    /// The same inside the object or at the top level.
    fn float_or_top(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        match self.optional(key)? {
            Some(number) => Ok(number),
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
