//! Keepers of models for tests of what is before and behind them.

use std::sync::{Arc, Mutex, PoisonError};

use sconce_core::{
    Backend, Coming, Gateway, Job, Manner, ModelStatus, Phase, Registration, Registry,
    RegistryError, Scaled, ServeError, Served,
};

use crate::fakes::Gate;

/// Writes down what it is asked for, and does nothing.
#[derive(Default)]
pub struct FakeRegistry {
    refusal: Option<RegistryError>,
    gate: Option<Gate>,
    asked: Mutex<Vec<Asked>>,
}

/// What a registry was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To load a model.
    Register(Registration),
    /// To wait for the model of this name.
    Wait(String),
    /// To see that it is ready in time.
    Watch(String),
    /// To change the workers of a model.
    Scale(String, Option<String>, Option<usize>, Option<usize>),
    /// To end a model.
    Unregister(String, Option<String>),
}

impl FakeRegistry {
    /// Refuses whatever it is asked for.
    pub fn refusing(error: RegistryError) -> Self {
        Self {
            refusal: Some(error),
            ..Self::default()
        }
    }

    /// Registers nothing before the gate is open.
    pub fn waiting(gate: &Gate) -> Self {
        Self {
            gate: Some(gate.clone()),
            ..Self::default()
        }
    }

    /// How often it was asked since the last time.
    pub fn count(&self) -> usize {
        let asked = self.asked.lock();
        asked.unwrap_or_else(PoisonError::into_inner).len()
    }

    /// What it was asked for since the last time.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn ask(&self, asked: Asked) -> Result<(), RegistryError> {
        let mut all = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(asked);
        self.refusal.clone().map_or(Ok(()), Err)
    }
}

/// A model that is there as soon as it is waited for.
struct Here(Arc<FakeRegistry>, String);

impl Coming for Here {
    fn name(&self) -> &str {
        &self.1
    }

    fn wait(self: Box<Self>) -> Result<(), RegistryError> {
        self.0.ask(Asked::Wait(self.1))
    }

    fn watch(self: Box<Self>) -> Result<(), RegistryError> {
        self.0.ask(Asked::Watch(self.1))
    }
}

/// One that several may hold, as what comes of it does.
pub struct SharedRegistry(pub Arc<FakeRegistry>);

impl Registry for SharedRegistry {
    fn register(&self, wanted: &Registration) -> Result<Box<dyn Coming>, RegistryError> {
        self.0.ask(Asked::Register(wanted.clone()))?;
        if let Some(gate) = &self.0.gate {
            gate.wait();
        }
        let name = wanted.name.clone().unwrap_or_else(|| "of_url".into());
        Ok(Box::new(Here(Arc::clone(&self.0), name)))
    }

    fn scale(
        &self,
        name: &str,
        version: Option<&str>,
        min: Option<usize>,
        max: Option<usize>,
    ) -> Result<Vec<Scaled>, RegistryError> {
        let version = version.map(str::to_owned);
        self.0.ask(Asked::Scale(name.into(), version, min, max))?;
        let (min, max) = (min.unwrap_or(1), max.unwrap_or(1));
        Ok(vec![Scaled { min, max }])
    }

    fn unregister(&self, name: &str, version: Option<&str>) -> Result<(), RegistryError> {
        let version = version.map(str::to_owned);
        self.0.ask(Asked::Unregister(name.into(), version))
    }
}

/// A backend as the only model of a server, in the usual manner; no other comes.
#[derive(Clone)]
pub struct Only {
    name: String,
    manner: Manner,
    backend: Arc<dyn Backend>,
}

impl Only {
    /// Under that name.
    pub fn new(name: &str, backend: Arc<dyn Backend>) -> Self {
        Self {
            name: name.into(),
            manner: Manner::default(),
            backend,
        }
    }
}

impl Served for Only {
    fn status(&self) -> ModelStatus {
        ModelStatus {
            name: self.name.clone(),
            at_startup: true,
            phase: self.backend.failure().map_or(Phase::Ready, Phase::Failed),
            load: self.backend.load(),
            task: self.backend.task(),
            ..ModelStatus::default()
        }
    }

    fn manner(&self) -> &Manner {
        &self.manner
    }

    fn submit(&self, job: Job) -> Result<(), ServeError> {
        self.backend.submit(job)
    }
}

impl Gateway for Only {
    fn find(&self, name: Option<&str>, _: Option<&str>) -> Result<Arc<dyn Served>, ServeError> {
        match name.filter(|name| *name != self.name) {
            Some(other) => Err(ServeError::UnknownModel(other.into())),
            None => Ok(Arc::new(self.clone())),
        }
    }

    fn manner(&self) -> Manner {
        self.manner.clone()
    }

    fn status(&self) -> Vec<ModelStatus> {
        vec![Served::status(self)]
    }
}

impl Registry for Only {
    fn register(&self, _: &Registration) -> Result<Box<dyn Coming>, RegistryError> {
        Err(RegistryError::Ending)
    }

    fn scale(
        &self,
        name: &str,
        _: Option<&str>,
        _: Option<usize>,
        _: Option<usize>,
    ) -> Result<Vec<Scaled>, RegistryError> {
        Err(RegistryError::Unknown(name.into()))
    }

    fn unregister(&self, name: &str, _: Option<&str>) -> Result<(), RegistryError> {
        Err(RegistryError::Unknown(name.into()))
    }
}
