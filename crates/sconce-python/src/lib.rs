//! Python mode: the user's own `model.py` answers, in processes that are watched over.
//!
//! [`Pool`] is a [`sconce_core::Backend`] for raw jobs. It starts CPython with DJL Serving's
//! arguments, talks to it over a Unix socket in DJL Serving's protocol, and ends and restarts it
//! when it fails. [`Formatters`] is one worker for the functions of a `model.py` that change requests
//! and answers of a native engine. The package `djl_python` that handlers import lies in `worker/`, within this
//! crate, unless the user has installed another. What bodies mean is the handler's, what statuses
//! are HTTP's; which files are run is decided by the configuration.

mod asynchronous;
mod batch;
mod error;
mod formatters;
mod launch;
mod logs;
mod outbox;
mod package;
mod part;
mod pool;
mod process;
pub mod protocol;
mod queue;
mod requirements;
mod rolling;
mod running;
mod settings;
mod tail;
mod watch;
mod worker;

pub use error::PythonError;
pub use formatters::Formatters;
pub use pool::Pool;
pub use settings::{Devices, Interpreter, PythonSettings, Ranks, Workers};
