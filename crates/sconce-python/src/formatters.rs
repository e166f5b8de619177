//! The functions of a model's `model.py` that change requests and answers of a native engine: one
//! worker, whose entry point is a script of this crate that finds and calls them.

use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use sconce_core::{
    Backend, Event, Formats, Input, Job, JobId, Load, RawEvent, RawInput, Reply, ServeError, Task,
};
use serde_json::Value;
use tracing::info;

use crate::error::PythonError;
use crate::package;
use crate::pool::Pool;
use crate::settings::PythonSettings;

/// The worker that calls the functions. What the requests to it mean is `sconce-http`'s and the
/// script's.
pub struct Formatters {
    pool: Pool,
    formats: Formats,
}

impl Formatters {
    /// Starts the worker, which runs `model.py`, and asks which functions there are.
    ///
    /// # Errors
    /// The first cause why the worker does not start, or that there is no such function.
    pub fn start(settings: PythonSettings) -> Result<Self, PythonError> {
        let (name, dir) = (settings.name.clone(), settings.dir.clone());
        let limit = settings.model_loading_timeout;
        let pool = Pool::start(PythonSettings {
            entry_point: package::FORMATTERS.into(),
            recommended_entry_point: String::new(),
            handler: "handle".into(),
            ..settings
        })?;
        let formats = describe(&pool, Instant::now() + limit)?;
        let found = match (formats.input, formats.output) {
            (true, true) => "requests and answers",
            (true, false) => "requests",
            (false, true) => "answers",
            (false, false) => return Err(PythonError::NoFunction { dir }),
        };
        info!("model {name}: its own functions change {found}");
        Ok(Self { pool, formats })
    }

    /// Which functions there are.
    pub fn formats(&self) -> Formats {
        self.formats
    }
}

fn describe(pool: &Pool, deadline: Instant) -> Result<Formats, PythonError> {
    let unclear = |cause: String| PythonError::Socket {
        cause,
        words: String::new(),
    };
    let (tell, events) = channel();
    let job = Job {
        id: JobId(0),
        input: Input::Raw(RawInput {
            properties: vec![("handler".into(), "describe".into())],
            content: vec![("data".into(), "{}".into())],
        }),
        reply: Box::new(Tell(tell)),
        deadline,
    };
    pool.submit(job)
        .map_err(|error| unclear(error.to_string()))?;
    for event in events {
        match event {
            Event::Raw(RawEvent::Chunk(body)) => {
                let told: Option<Value> = serde_json::from_slice(&body).ok();
                let flag = |name| Some(told.as_ref()?.get(name)?.as_bool() == Some(true));
                return Ok(Formats {
                    input: flag("input").unwrap_or_default(),
                    output: flag("output").unwrap_or_default(),
                });
            }
            Event::Failed(error) => return Err(unclear(error.to_string())),
            _ => {}
        }
    }
    Err(unclear("it does not say which functions there are".into()))
}

struct Tell(Sender<Event>);

impl Reply for Tell {
    fn send(&mut self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }

    fn gone(&self) -> bool {
        false
    }
}

impl Backend for Formatters {
    fn submit(&self, job: Job) -> Result<(), ServeError> {
        self.pool.submit(job)
    }

    fn task(&self) -> Option<Task> {
        None
    }

    fn load(&self) -> Load {
        self.pool.load()
    }

    fn failure(&self) -> Option<String> {
        self.pool.failure()
    }

    fn stop(&self) {
        self.pool.stop();
    }
}
