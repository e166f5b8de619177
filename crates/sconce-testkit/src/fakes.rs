//! A gateway that answers from a script, so that HTTP can be tested without a model.
//!
//! Scripts wait for gates that the test opens, never for the clock.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sconce_core::{
    Event, FinishReason, Gateway, Generate, Input, Job, Manner, ModelStatus, Output, Phase,
    Progress, RawInput, Reply, ServeError, Served, Task, Token,
};

/// No test waits longer than this for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Something that happens once; clones are the same gate.
#[derive(Clone, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets everybody through, now and later.
    pub fn open(&self) {
        *lock(&self.0.0) = true;
        self.0.1.notify_all();
    }

    /// Whether it has been opened.
    pub fn is_open(&self) -> bool {
        *lock(&self.0.0)
    }

    /// Waits until it is open; false after [`PATIENCE`].
    pub fn wait(&self) -> bool {
        let closed = |open: &mut bool| !*open;
        let waited = self
            .0
            .1
            .wait_timeout_while(lock(&self.0.0), PATIENCE, closed);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// A step of a script.
#[derive(Clone)]
pub enum Act {
    /// Sends an event; the script ends if the client has gone.
    Send(Event),
    /// Waits until the test opens the gate.
    Await(Gate),
    /// Waits until the client has gone.
    UntilGone,
}

type Script = Box<dyn Fn(&Generate) -> Vec<Act> + Send + Sync>;
type RawScript = Box<dyn Fn(&RawInput) -> Vec<Act> + Send + Sync>;

/// A gateway with one model whose answers come from a script. A script that ends without an
/// event that ends the job drops the reply, like an engine that vanishes.
pub struct FakeGateway(Arc<FakeModel>);

struct FakeModel {
    name: String,
    manner: Manner,
    script: Script,
    raw: Option<RawScript>,
    refusal: Option<ServeError>,
    phase: Mutex<Phase>,
    jobs: Mutex<Vec<Generate>>,
    gone: Gate,
}

impl FakeGateway {
    /// A ready model called `test` that follows the script for each job.
    pub fn new(script: impl Fn(&Generate) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::of(FakeModel::new(Box::new(script)))
    }

    /// A model that says [`hello`].
    pub fn greeting() -> Self {
        Self::new(|_| hello())
    }

    /// A model whose own code answers as the script says.
    pub fn raw(script: impl Fn(&RawInput) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::of(FakeModel {
            raw: Some(Box::new(script)),
            ..FakeModel::new(Box::new(|_| hello()))
        })
    }

    /// A model that takes no job.
    pub fn refusing(error: ServeError) -> Self {
        Self::of(FakeModel {
            refusal: Some(error),
            ..FakeModel::new(Box::new(|_| hello()))
        })
    }

    fn of(model: FakeModel) -> Self {
        Self(Arc::new(model))
    }

    /// The same model under another name and in another manner; only before it is asked.
    #[must_use]
    pub fn spoken_to(mut self, name: &str, manner: Manner) -> Self {
        let model = Arc::get_mut(&mut self.0).expect("nobody has asked it");
        (model.name, model.manner) = (name.into(), manner);
        self
    }

    /// Changes what `status` says.
    pub fn set_phase(&self, phase: Phase) {
        *lock(&self.0.phase) = phase;
    }

    /// What was asked so far.
    pub fn jobs(&self) -> Vec<Generate> {
        lock(&self.0.jobs).clone()
    }

    /// Opens when a script has seen that its client has gone.
    pub fn gone(&self) -> Gate {
        self.0.gone.clone()
    }

    /// How many requests hold the model now.
    pub fn held(&self) -> usize {
        Arc::strong_count(&self.0) - 1
    }
}

impl FakeModel {
    fn new(script: Script) -> Self {
        Self {
            name: "test".into(),
            manner: Manner::default(),
            script,
            raw: None,
            refusal: None,
            phase: Mutex::new(Phase::Ready),
            jobs: Mutex::default(),
            gone: Gate::default(),
        }
    }
}

impl Gateway for FakeGateway {
    fn find(
        &self,
        name: Option<&str>,
        version: Option<&str>,
    ) -> Result<Arc<dyn Served>, ServeError> {
        let is_other = name.is_some_and(|name| name != self.0.name) || version.is_some();
        match is_other {
            true => Err(ServeError::UnknownModel(
                name.unwrap_or(&self.0.name).into(),
            )),
            false => Ok(Arc::clone(&self.0) as Arc<dyn Served>),
        }
    }

    fn manner(&self) -> Manner {
        self.0.manner.clone()
    }

    fn status(&self) -> Vec<ModelStatus> {
        vec![self.0.status()]
    }
}

impl Served for FakeModel {
    fn status(&self) -> ModelStatus {
        ModelStatus {
            name: self.name.clone(),
            url: format!("file:/models/{}", self.name),
            at_startup: true,
            phase: lock(&self.phase).clone(),
            progress: Progress { done: 1, total: 2 },
            task: Some(Task::TextGeneration),
            ..ModelStatus::default()
        }
    }

    fn manner(&self) -> &Manner {
        &self.manner
    }

    fn submit(&self, job: Job) -> Result<(), ServeError> {
        if let Some(error) = &self.refusal {
            return Err(error.clone());
        }
        let acts = match (&job.input, &self.raw) {
            (Input::Generate(asked), None) => {
                lock(&self.jobs).push(asked.clone());
                (self.script)(asked)
            }
            (Input::Raw(asked), Some(script)) => script(asked),
            _ => return Err(ServeError::Malformed("this model continues texts".into())),
        };
        let gone = self.gone.clone();
        std::thread::spawn(move || follow(acts, job.reply, &gone));
        Ok(())
    }

    fn takes_raw(&self) -> bool {
        self.raw.is_some()
    }
}

/// A token with a log-probability of -0.5.
pub fn token(id: u32, text: &str) -> Act {
    let token = Token {
        id,
        text: text.into(),
        logprob: -0.5,
        spelled: String::new(),
        special: false,
        last: false,
        top: vec![],
    };
    Act::Send(Event::Token(token))
}

/// The end of a job by length.
pub fn done(text: &str, generated_tokens: usize) -> Act {
    Act::Send(Event::Done(Output {
        text: text.into(),
        finish: FinishReason::Length,
        prompt_tokens: 1,
        generated_tokens,
        seed: None,
        prompt: vec![],
        echo: String::new(),
        matched: None,
        others: Vec::new(),
    }))
}

/// The failure of a job.
pub fn failed(error: ServeError) -> Act {
    Act::Send(Event::Failed(error))
}

/// `Hello` and ` world`.
pub fn hello() -> Vec<Act> {
    vec![
        token(15043, "Hello"),
        token(3186, " world"),
        done("Hello world", 2),
    ]
}

fn follow(acts: Vec<Act>, mut reply: Box<dyn Reply>, gone: &Gate) {
    let is_token = |act: &Act| matches!(act, Act::Send(Event::Token(_)));
    let ends = |act: &Act| matches!(act, Act::Send(Event::Done(_)));
    let last = acts
        .iter()
        .rposition(is_token)
        .filter(|_| acts.iter().any(ends));
    for (at, act) in acts.into_iter().enumerate() {
        let goes_on = match act {
            Act::Send(Event::Token(token)) => {
                let last = Some(at) == last;
                reply.send(Event::Token(Token { last, ..token }))
            }
            Act::Send(event) => reply.send(event),
            Act::Await(gate) => gate.wait(),
            Act::UntilGone => !leaves(&*reply),
        };
        if !goes_on {
            if reply.gone() {
                gone.open();
            }
            return;
        }
    }
}

/// Whether the client leaves before the patience ends.
fn leaves(reply: &dyn Reply) -> bool {
    let end = Instant::now() + PATIENCE;
    while !reply.gone() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
