//! The configuration of a server: its own settings, those of the models that it is started with, and
//! what models that are registered later get of it.

use sconce_core::Registration;

use crate::environment::{CommandLine, Environment};
use crate::error::ConfigErrors;
use crate::outside::Outside;
use crate::resolve::{Ground, Resolved};
use crate::settings::ServerSettings;
use crate::startup;

/// What the command line, the environment and `config.properties` say, read once.
#[derive(Clone)]
pub struct Configuration(Ground);

impl Configuration {
    /// Reads it; what is wrong with it is told with the models.
    pub fn read(line: &CommandLine, environment: &Environment) -> Self {
        Self(Ground::of(line, environment))
    }

    /// The server's settings, which do not depend on a model.
    pub fn server(&self) -> &ServerSettings {
        &self.0.draft.server
    }

    /// What is probably not meant of what does not depend on a model, as sentences.
    pub fn warnings(&self) -> Vec<String> {
        self.0.warnings()
    }

    /// Whether somebody has set a key outside the files of models.
    pub fn sets(&self, key: &str) -> bool {
        let settings = &self.0.gathered.settings;
        settings.iter().any(|setting| setting.entry.key == key)
    }

    /// The models that the server is started with, or all problems; `outside` is asked for what is no
    /// directory of this machine. None where `load_models=NONE` says so, or where
    /// SageMaker loads them later.
    pub fn models(&self, outside: &dyn Outside) -> Result<Vec<Resolved>, ConfigErrors> {
        let startups = match self.0.startups() {
            Ok(startups) => startups,
            // What is wrong with the model's options is told along with it.
            Err(_) => return self.0.clone().resolve(None, outside).map(|only| vec![only]),
        };
        if startups.is_empty() {
            self.0.clone().refused()?;
        }
        let mut models = Vec::with_capacity(startups.len());
        let mut problems = Vec::new();
        for startup in startups {
            match self.0.clone().resolve(Some(startup), outside) {
                Ok(model) => models.push(model),
                Err(errors) => {
                    for problem in errors.problems {
                        // What is wrong with the server is wrong with each model.
                        if !problems.contains(&problem) {
                            problems.push(problem);
                        }
                    }
                }
            }
        }
        match problems.is_empty() {
            true => Ok(models),
            false => Err(ConfigErrors { problems }),
        }
    }

    /// The model that is registered so.
    pub fn model(
        &self,
        wanted: &Registration,
        outside: &dyn Outside,
    ) -> Result<Resolved, ConfigErrors> {
        let startup =
            startup::registered(wanted, &self.0.draft).map_err(|problem| ConfigErrors {
                problems: vec![problem],
            })?;
        self.0.clone().resolve(Some(startup), outside)
    }
}
