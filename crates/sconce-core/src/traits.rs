//! The seams between the layers.

use std::sync::Arc;
use std::time::Duration;

use crate::adapters::Adapters;
use crate::error::ServeError;
use crate::event::Event;
use crate::job::Job;
use crate::manner::Manner;
use crate::raw::Formats;
use crate::status::{Load, ModelStatus};
use crate::task::Task;

/// Where the events of one job go. Neither method may block, as they run in the engine's thread;
/// only raw chunks may wait for a slow client, as their thread works for nobody else.
pub trait Reply: Send {
    /// Hands over an event. False: the client has gone, nothing more need be computed.
    fn send(&mut self, event: Event) -> bool;
    /// Whether the client has gone; asked while there is nothing to send yet.
    fn gone(&self) -> bool;
    /// Told when the job leaves the queue and is computed; once, before the first event.
    fn begins(&mut self) {}
    /// Whether `send` would not wait for the client.
    fn ready(&self) -> bool {
        true
    }
}

/// What HTTP sees of the rest of the server; tests of `sconce-http` pass a fake.
pub trait Gateway: Send + Sync {
    /// The model that is asked. Without a name it is the only one that the server was started
    /// with; of several versions of which none is named each has its turn. A model that is found
    /// stays until it is dropped, so whoever asks it holds it until the answer is complete.
    fn find(
        &self,
        name: Option<&str>,
        version: Option<&str>,
    ) -> Result<Arc<dyn Served>, ServeError>;
    /// The manner in which the server itself speaks: that of the model which is asked where none
    /// is named, if there is one.
    fn manner(&self) -> Manner;
    /// The state of each model, in order of name and version.
    fn status(&self) -> Vec<ModelStatus>;
}

/// One model, as it is asked.
pub trait Served: Send + Sync {
    /// How it is.
    fn status(&self) -> ModelStatus;
    /// What it does, as its status says; `None`: that is not known before it is ready.
    fn task(&self) -> Option<Task> {
        self.status().task
    }
    /// How it is spoken to.
    fn manner(&self) -> &Manner;
    /// Queues a job. May tokenise, so it is called where blocking for milliseconds is allowed.
    fn submit(&self, job: Job) -> Result<(), ServeError>;
    /// Whether it answers raw jobs, and no others.
    fn takes_raw(&self) -> bool {
        false
    }
    /// Its adapters, where it takes some.
    fn adapters(&self) -> Option<Arc<dyn Adapters>> {
        None
    }
    /// Which functions it has that change requests and answers.
    fn formats(&self) -> Formats {
        Formats::default()
    }
    /// Queues a raw job for these functions.
    fn format(&self, _job: Job) -> Result<(), ServeError> {
        Err(ServeError::UnknownModel(self.status().name))
    }
}

/// Whatever answers jobs: the generation engine, a batched task, a pool of processes.
pub trait Backend: Send + Sync {
    /// Queues and returns; answers go to `job.reply`.
    fn submit(&self, job: Job) -> Result<(), ServeError>;
    /// What it does; `None`: only its own code knows.
    fn task(&self) -> Option<Task>;
    /// Its adapters, where it takes some.
    fn adapters(&self) -> Option<Arc<dyn Adapters>> {
        None
    }
    /// How busy it is.
    fn load(&self) -> Load;
    /// The first cause, if it can no longer answer.
    fn failure(&self) -> Option<String>;
    /// Has it prove that it still computes whenever it had nothing to do for so long; `None`: it need not. A proof that
    /// fails is a failure.
    fn prove_every(&self, _pause: Option<Duration>) {}
    /// Ends it: jobs that still run fail, threads are joined.
    fn stop(&self);
}
