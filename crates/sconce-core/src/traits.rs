//! The seams between the layers.

use crate::error::ServeError;
use crate::event::Event;
use crate::job::Job;
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
    /// Whether `send` would not wait for the client.
    fn ready(&self) -> bool {
        true
    }
}

/// What HTTP sees of the rest of the server; tests of `sconce-http` pass a fake.
pub trait Gateway: Send + Sync {
    /// Queues a job for the named model; `None`: the only model there is. May tokenise, so it
    /// is called where blocking for milliseconds is allowed.
    fn submit(&self, model: Option<&str>, job: Job) -> Result<(), ServeError>;
    /// The state of each model, in order of name.
    fn status(&self) -> Vec<ModelStatus>;
    /// Whether the named model (`None`: the only one) answers raw jobs, and no others.
    fn takes_raw(&self, _model: Option<&str>) -> bool {
        false
    }
    /// Which functions the named model (`None`: the only one) has that change requests and answers.
    fn formats(&self, _model: Option<&str>) -> Formats {
        Formats::default()
    }
    /// Queues a raw job for these functions.
    fn format(&self, model: Option<&str>, _job: Job) -> Result<(), ServeError> {
        Err(ServeError::UnknownModel(model.unwrap_or_default().into()))
    }
}

/// Whatever answers jobs: the generation engine, a batched task, a pool of processes.
pub trait Backend: Send + Sync {
    /// Queues and returns; answers go to `job.reply`.
    fn submit(&self, job: Job) -> Result<(), ServeError>;
    /// What it does; `None`: only its own code knows.
    fn task(&self) -> Option<Task>;
    /// How busy it is.
    fn load(&self) -> Load;
    /// The first cause, if it can no longer answer.
    fn failure(&self) -> Option<String>;
    /// Ends it: jobs that still run fail, threads are joined.
    fn stop(&self);
}
