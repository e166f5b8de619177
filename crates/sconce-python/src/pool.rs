//! The workers of one model, as a backend.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use sconce_core::{Backend, Crew, Input, Job, Load, Scaled, ServeError, Task};
use tracing::{error, info};

use crate::error::PythonError;
use crate::package::Package;
use crate::process::Process;
use crate::queue::{Shared, Waiting};
use crate::requirements;
use crate::settings::PythonSettings;
use crate::worker;

/// Worker processes of one model, and the queue before them. Models share nothing: what becomes
/// of one pool's processes is no other pool's concern.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    /// Starts as many workers as there always are; all of them have loaded the model then.
    ///
    /// # Errors
    /// The first cause why one of them does not start.
    pub fn start(mut settings: PythonSettings) -> Result<Self, PythonError> {
        if let Some(python) = requirements::install(&settings, &|| false)? {
            settings.interpreter.executable = python;
        }
        let (least, most) = (settings.workers.min.max(1), settings.workers.max);
        info!(
            "model {}: starting {least} of at most {} Python workers for {}",
            settings.name,
            most.max(least),
            settings.entry_point
        );
        let parallel = settings.workers.parallel_loading;
        let shared = Arc::new(Shared::new(settings, Package::write()?));
        let processes = if parallel {
            thread::scope(|scope| {
                let start = |index| {
                    scope.spawn({
                        let shared = Arc::clone(&shared);
                        move || worker::first_process(&shared, index)
                    })
                };
                let starting: Vec<_> = (0..least).map(start).collect();
                let panicked = || PythonError::Thread {
                    cause: "it panicked".into(),
                };
                let joined = starting
                    .into_iter()
                    .map(|s| s.join().map_err(|_| panicked())?);
                joined.collect::<Result<Vec<_>, _>>()
            })?
        } else {
            let start = |index| worker::first_process(&shared, index);
            (0..least).map(start).collect::<Result<Vec<_>, _>>()?
        };
        let pool = Self {
            shared,
            threads: Mutex::default(),
        };
        for process in processes {
            let index = pool.shared.add_worker().unwrap_or_default();
            pool.shared.up(index);
            pool.spawn(index, Some(process))?;
        }
        Ok(pool)
    }

    /// The workers that are there.
    pub fn crew(&self) -> Crew {
        self.shared.crew()
    }

    /// Changes how many workers there are, `min` at least 1 and `max` at least `min`; what holds
    /// from now on. One worker of a handler that works on many requests at once takes all of them,
    /// so that there the numbers stay.
    pub fn scale(&self, min: usize, max: usize) -> Scaled {
        if self.shared.is_fixed() {
            info!(
                "model {}: the number of workers stays: each works on many requests at once",
                self.shared.settings.name
            );
        } else {
            for index in self.shared.scale(min, max) {
                if let Err(cause) = self.spawn(index, None) {
                    error!("{cause}");
                    self.shared.leave(index);
                }
            }
        }
        let Crew { min, max, .. } = self.shared.crew();
        Scaled { min, max }
    }

    fn spawn(&self, index: usize, first: Option<Process>) -> Result<(), PythonError> {
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new()
            .name(format!("py-{index}"))
            .spawn(move || worker::run(&shared, index, first))
            .map_err(|cause| PythonError::Thread {
                cause: cause.to_string(),
            })?;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }
}

impl Backend for Pool {
    fn submit(&self, job: Job) -> Result<(), ServeError> {
        let Input::Raw(input) = job.input else {
            return Err(ServeError::Engine {
                model: self.shared.settings.name.clone(),
                cause: "it answers raw requests only".into(),
            });
        };
        let grown = self.shared.submit(Waiting {
            id: job.id,
            input,
            reply: job.reply,
            deadline: job.deadline,
        })?;
        if let Some(index) = grown {
            info!(
                "model {}: worker {index} is added",
                self.shared.settings.name
            );
            if let Err(cause) = self.spawn(index, None) {
                error!("{cause}");
                self.shared.leave(index);
            }
        }
        Ok(())
    }

    fn task(&self) -> Option<Task> {
        None
    }

    fn load(&self) -> Load {
        self.shared.load()
    }

    fn failure(&self) -> Option<String> {
        self.shared.failure()
    }

    fn stop(&self) {
        self.shared.stop();
        let threads = {
            let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *threads)
        };
        for thread in threads {
            if thread.join().is_err() {
                error!("a thread of model {} panicked", self.shared.settings.name);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}
