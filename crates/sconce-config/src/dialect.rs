//! Which wire dialect a configuration means: the one in which the release of DJL Serving that
//! understood it would have answered.

use sconce_core::Dialect;

use crate::handler::{Engine, Handler};
use crate::task::Task;
use crate::value::{Rejection, Value, guess};

/// What the decision depends on; what nobody set is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// `option.api_version`.
    pub(crate) api_version: Option<ApiVersion>,
    /// `option.tgi_compat`.
    pub(crate) tgi_compat: Option<bool>,
    /// `option.async_mode`.
    pub(crate) async_mode: Option<bool>,
    /// Whether `option.rolling_batch` names a rolling batch or disables it.
    pub(crate) rolling_batch: Option<bool>,
    /// `engine`.
    pub(crate) engine: Option<Engine>,
    /// `option.entryPoint`.
    pub(crate) handler: Option<Handler>,
    /// `batch_size`.
    pub(crate) batch_size: Option<usize>,
    /// `option.task`.
    pub(crate) task: Option<Task>,
}

/// What `option.api_version` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ApiVersion {
    /// A dialect by its own name.
    Dialect(Dialect),
    /// A release of DJL Serving, 0.*n*.
    Release(u32),
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) dialect: Dialect,
    /// The key that decided; `None`: nothing that anybody set.
    pub(crate) key: Option<&'static str>,
    /// Why, as the end of a sentence that begins with "because".
    pub(crate) because: String,
}

/// What the rolling batch is called as well.
const LMI: &str = "lmi";

fn names() -> impl Iterator<Item = (&'static str, Dialect)> + Clone {
    let own = Dialect::ALL.map(|dialect| (dialect.name(), dialect));
    own.into_iter().chain([(LMI, Dialect::Rolling)])
}

/// Version 5 of the LMI images is release 0.23, and so on; all from 18 on are of release 0.36.
const FIRST_IMAGE: u32 = 5;
const FIRST_IMAGE_RELEASE: u32 = 23;
const RELEASES: std::ops::RangeInclusive<u32> = 21..=36;

impl ApiVersion {
    /// Reads `djl-0.27`, `lmi-v9` or the name of a dialect.
    pub(crate) fn parse(value: &str) -> Value<Self> {
        if let Some((_, dialect)) = names().find(|(name, _)| *name == value) {
            return Ok(Self::Dialect(dialect));
        }
        let must = |what: &str| Rejection::Invalid(format!("must be {what}"));
        if let Some(release) = value.strip_prefix("djl-0.") {
            let number = release.split('.').next().and_then(|n| n.parse().ok());
            let known = number.filter(|number| RELEASES.contains(number));
            return known.map(Self::Release).ok_or_else(|| {
                must("djl-0.21 to djl-0.36, as these releases have dialects of their own")
            });
        }
        if let Some(image) = value.strip_prefix("lmi-v") {
            let number: Option<u32> = image.parse().ok();
            let number = number.filter(|number| (FIRST_IMAGE..=99).contains(number));
            let release =
                |image: u32| (FIRST_IMAGE_RELEASE + image - FIRST_IMAGE).min(*RELEASES.end());
            return number
                .map(|image| Self::Release(release(image)))
                .ok_or_else(|| must("lmi-v5 or later"));
        }
        let names = names().map(|(name, _)| name);
        let list = names.clone().collect::<Vec<_>>().join(", ");
        let hint = guess(value, names);
        Err(must(&format!(
            "a release (djl-0.21 to djl-0.36, lmi-v5 and later) or one of {list}{hint}"
        )))
    }
}

impl Facts {
    /// The only place that decides it. What was said outright comes first, then what only one
    /// generation of DJL Serving understood, then what every release has.
    pub(crate) fn choose(&self) -> Choice {
        self.said_outright()
            .or_else(|| self.rolling())
            .or_else(|| self.of_handler())
            .or_else(|| self.fixed_batch())
            .unwrap_or_else(|| Choice {
                dialect: Dialect::Async,
                key: None,
                because: "nothing names another, and it is DJL Serving's default since 0.35".into(),
            })
    }

    fn said_outright(&self) -> Option<Choice> {
        let (dialect, because) = match self.api_version? {
            ApiVersion::Dialect(dialect) => (dialect, "option.api_version names it".into()),
            ApiVersion::Release(release) => {
                let because = format!("it is what 0.{release} answers for this configuration");
                (self.of_release(release), because)
            }
        };
        Some(Choice {
            dialect,
            key: Some("option.api_version"),
            because,
        })
    }

    /// What a release answered by default, for the engine, handler and batching at hand.
    fn of_release(&self, release: u32) -> Dialect {
        let fixed = self.of_handler().or_else(|| self.fixed_batch());
        let wants_rolling = self.rolling_batch == Some(true) || self.engine == Some(Engine::Mpi);
        match release {
            ..=22 => fixed.map_or(Dialect::HuggingFace, Choice::without_rolling),
            23..=25 if wants_rolling => Dialect::Rolling2023,
            23..=25 => fixed.map_or(Dialect::HuggingFace, Choice::without_rolling),
            26.. if self.tgi_compat == Some(true) => Dialect::RollingTgi,
            26..=32 => fixed.map_or(Dialect::Rolling, |choice| choice.dialect),
            33.. if self.async_mode == Some(true) => Dialect::Async,
            33.. if self.rolling_batch == Some(true) => Dialect::Rolling,
            33.. if fixed.is_some() => fixed.map_or(Dialect::Async, |choice| choice.dialect),
            33..=34 => Dialect::Rolling,
            35.. => Dialect::Async,
        }
    }

    /// Rolling batches of all kinds, and the asynchronous mode that took their place.
    fn rolling(&self) -> Option<Choice> {
        let because = |key, dialect, because: &str| {
            Some(Choice {
                dialect,
                key: Some(key),
                because: because.into(),
            })
        };
        if self.tgi_compat == Some(true) {
            let why = "option.tgi_compat is set";
            return because("option.tgi_compat", Dialect::RollingTgi, why);
        }
        if self.async_mode == Some(true) {
            let why = "option.async_mode is set";
            return because("option.async_mode", Dialect::Async, why);
        }
        if self.handler == Some(Handler::Async) {
            let why = "option.entryPoint names an asynchronous service";
            return because("option.entryPoint", Dialect::Async, why);
        }
        if self.rolling_batch == Some(true) {
            let why = "option.rolling_batch names a rolling batch";
            return because("option.rolling_batch", Dialect::Rolling, why);
        }
        if self.engine == Some(Engine::Mpi) && self.rolling_batch.is_none() {
            let why = "the engine MPI has a rolling batch unless it is disabled";
            return because("engine", Dialect::Rolling, why);
        }
        None
    }

    /// Handlers and engines that have a dialect of their own.
    fn of_handler(&self) -> Option<Choice> {
        let of_handler = self.handler.and_then(|handler| match handler {
            Handler::DeepSpeed => Some((Dialect::DeepSpeed, "names DeepSpeed's handler")),
            Handler::FasterTransformer => Some((
                Dialect::FasterTransformer,
                "names FasterTransformer's handler",
            )),
            Handler::HuggingFace => Some((
                Dialect::HuggingFace,
                "names the handler with fixed batches, and nothing names a rolling batch",
            )),
            Handler::Rolling => Some((
                Dialect::Rolling,
                "names a handler that only has a rolling batch",
            )),
            Handler::Neuron => Some((
                Dialect::HuggingFace,
                "names Neuron's handler, which answers as Hugging Face's does",
            )),
            Handler::Async
            | Handler::StableDiffusion
            | Handler::Predictive
            | Handler::SageMaker
            | Handler::OwnCode => None,
        });
        if let Some((dialect, what)) = of_handler {
            return Some(Choice {
                dialect,
                key: Some("option.entryPoint"),
                because: format!("option.entryPoint {what}"),
            });
        }
        let dialect = match self.engine {
            Some(Engine::DeepSpeed) => Dialect::DeepSpeed,
            Some(Engine::FasterTransformer) => Dialect::FasterTransformer,
            _ => return None,
        };
        Some(Choice {
            dialect,
            key: Some("engine"),
            because: "the engine has this handler of its own".into(),
        })
    }

    /// What only the handler with fixed batches does.
    fn fixed_batch(&self) -> Option<Choice> {
        let (key, because) = if self.rolling_batch == Some(false) {
            ("option.rolling_batch", "option.rolling_batch is disabled")
        } else if self.batch_size.is_some_and(|size| size > 1) {
            ("batch_size", "batch_size asks for fixed batches")
        } else if self.task.as_ref().is_some_and(needs_pipeline) {
            (
                "option.task",
                "this task only ever had the handler with fixed batches",
            )
        } else {
            return None;
        };
        Some(Choice {
            dialect: Dialect::HuggingFace,
            key: Some(key),
            because: because.into(),
        })
    }
}

impl Choice {
    /// The dialect, where there was no rolling batch yet.
    fn without_rolling(self) -> Dialect {
        match self.dialect {
            Dialect::Rolling => Dialect::HuggingFace,
            dialect => dialect,
        }
    }
}

/// Whether the task is that of a pipeline of transformers, which rolling batches do not run.
fn needs_pipeline(task: &Task) -> bool {
    !matches!(
        task,
        Task::TextGeneration | Task::TextEmbedding | Task::FeatureExtraction
    )
}

/// Whether requests that leave sampling open are computed greedily, whatever the checkpoint's
/// `generation_config.json` says.
pub(crate) fn is_greedy(dialect: Dialect) -> bool {
    matches!(
        dialect,
        Dialect::Rolling2023 | Dialect::Rolling | Dialect::RollingTgi | Dialect::Tgi
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_and_dialects_can_be_named() {
        let release = |value| ApiVersion::parse(value);
        assert_eq!(release("djl-0.21"), Ok(ApiVersion::Release(21)));
        assert_eq!(release("djl-0.27.0"), Ok(ApiVersion::Release(27)));
        for (image, number) in [("lmi-v8", 26), ("lmi-v10", 28), ("lmi-v27", 36)] {
            assert_eq!(release(image), Ok(ApiVersion::Release(number)), "{image}");
        }
        assert_eq!(release("tgi"), Ok(ApiVersion::Dialect(Dialect::Tgi)));
        for wrong in ["djl-0.20", "djl-0.99", "lmi-v1", "0.27", "rollling"] {
            assert!(release(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn every_dialect_has_a_name_that_means_it() {
        for (name, dialect) in names() {
            assert_eq!(ApiVersion::parse(name), Ok(ApiVersion::Dialect(dialect)));
        }
    }

    #[test]
    fn a_release_answers_as_it_did() {
        let of = |release, facts: Facts| {
            let api_version = Some(ApiVersion::Release(release));
            Facts {
                api_version,
                ..facts
            }
            .choose()
            .dialect
        };
        let plain = Facts::default();
        let deepspeed = Facts {
            engine: Some(Engine::DeepSpeed),
            ..Facts::default()
        };
        let rolling = Facts {
            rolling_batch: Some(true),
            ..Facts::default()
        };
        let fixed = Facts {
            rolling_batch: Some(false),
            ..Facts::default()
        };
        for (release, facts, dialect) in [
            (21, &plain, Dialect::HuggingFace),
            (21, &deepspeed, Dialect::DeepSpeed),
            (24, &rolling, Dialect::Rolling2023),
            (24, &deepspeed, Dialect::DeepSpeed),
            (24, &plain, Dialect::HuggingFace),
            (27, &plain, Dialect::Rolling),
            (27, &fixed, Dialect::HuggingFace),
            (34, &plain, Dialect::Rolling),
            (35, &plain, Dialect::Async),
            (36, &rolling, Dialect::Rolling),
            (36, &fixed, Dialect::HuggingFace),
        ] {
            assert_eq!(of(release, facts.clone()), dialect, "0.{release} {facts:?}");
        }
    }
}
