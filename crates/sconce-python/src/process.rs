//! One worker: a Python process, or one for each rank of a model that is split, from their start
//! to their end, and the sockets to them.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use rustix::process::{Signal, kill_process};
use tracing::info;

use crate::batch;
use crate::error::PythonError;
use crate::logs::Ready;
use crate::package::Package;
use crate::protocol::{Answer, Content, ProtocolError, Request, read_answer, read_frame};
use crate::running::Running;
use crate::settings::PythonSettings;
use crate::watch::{Patient, TICK, prepare};

/// What a worker is started for.
pub(crate) struct Start<'a> {
    pub(crate) settings: &'a PythonSettings,
    pub(crate) package: &'a Package,
    /// Number of the worker within its model.
    pub(crate) index: usize,
    /// How often this worker was started before.
    pub(crate) generation: usize,
    /// Whether the start is no longer wanted.
    pub(crate) stop: &'a dyn Fn() -> bool,
}

/// A worker that has loaded its model. Dropping it ends its processes and all that they have
/// started.
pub(crate) struct Process {
    ranks: Vec<Rank>,
    /// Whether ranks beside the first get requests too.
    all_answer: bool,
    ready: Ready,
}

/// One process of a worker.
struct Rank {
    child: Running,
    link: UnixStream,
}

/// A process that does not listen yet.
struct Spawned {
    child: Running,
    readiness: Receiver<Ready>,
    socket: PathBuf,
}

impl Process {
    /// Starts Python, waits until it listens, connects, and has the handler load its model.
    pub(crate) fn start(start: &Start<'_>) -> Result<Self, PythonError> {
        let began = Instant::now();
        let settings = start.settings;
        let deadline = began + settings.model_loading_timeout;
        // Ranks wait for each other, so all of them must be there before one is waited for.
        let spawned = match &settings.ranks {
            None => vec![spawn(start, None)?],
            Some(ranks) => {
                let port = free_port()?;
                let all = 0..ranks.world();
                all.map(|rank| spawn(start, Some((rank, port))))
                    .collect::<Result<_, _>>()?
            }
        };
        let mut ready = Ready { ends_streams: true };
        let mut ranks = Vec::with_capacity(spawned.len());
        for mut spawned in spawned {
            let told = spawned.wait_until_ready(start, deadline)?;
            ready.ends_streams &= told.ends_streams;
            ranks.push(spawned.connect()?);
        }
        let mut process = Self {
            ranks,
            all_answer: settings
                .ranks
                .as_ref()
                .is_some_and(|ranks| ranks.all_answer),
            ready,
        };
        process.load(start, deadline)?;
        info!(
            "{}-{}: process {} has loaded the model after {:.2} s",
            settings.name,
            start.index,
            process.ranks[0].child.pid().as_raw_pid(),
            began.elapsed().as_secs_f64()
        );
        Ok(process)
    }

    /// The first call of the handler, on every rank.
    fn load(&mut self, start: &Start<'_>, deadline: Instant) -> Result<(), PythonError> {
        let settings = start.settings;
        let mut properties = settings.properties.clone();
        properties.push(("handler".into(), settings.handler.clone()));
        let request = Request {
            properties,
            content: vec![],
        };
        let message = request.encode()?;
        let ended = || self.ranks.iter().any(|rank| rank.child.has_ended());
        let stop = || (start.stop)() || ended();
        let mut expired = false;
        let mut first_call = || {
            for rank in &self.ranks {
                let mut patient = Patient::new(&rank.link, deadline, &stop);
                let written = patient.write_all(&message);
                expired |= patient.expired;
                written?;
            }
            let mut answers = Vec::new();
            for rank in &self.ranks {
                let mut patient = Patient::new(&rank.link, deadline, &stop);
                let answer = read_whole(&mut patient, settings.message_limit);
                expired |= patient.expired;
                answers.push(answer?);
            }
            Ok::<_, ProtocolError>(answers)
        };
        match first_call() {
            Ok(answers) => {
                let failed = answers.iter().position(|answer| answer.code >= 300);
                failed.map_or(Ok(()), |rank| {
                    Err(PythonError::Init {
                        code: answers[rank].code,
                        message: told(&answers[rank]),
                        words: self.ranks[rank].child.words(),
                    })
                })
            }
            Err(_) if expired => Err(slow(
                &mut self.ranks[0].child,
                settings,
                "loading the model",
            )),
            Err(_) if (start.stop)() => Err(PythonError::Stopped),
            Err(cause) => match self.first_end() {
                Some((how, words)) => Err(PythonError::Ended { how, words }),
                None => Err(cause.into()),
            },
        }
    }

    /// The connection to the first rank, whose answers count.
    pub(crate) fn link(&self) -> &UnixStream {
        &self.ranks[0].link
    }

    /// The connections to ranks that get every request too.
    pub(crate) fn others(&self) -> impl Iterator<Item = &UnixStream> {
        let others = self.ranks[1..].iter().filter(|_| self.all_answer);
        others.map(|rank| &rank.link)
    }

    /// Whether a process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.ranks.iter().any(|rank| rank.child.has_ended())
    }

    /// What became of a worker whose connection broke off, as the end of a sentence.
    pub(crate) fn autopsy(mut self) -> String {
        match self.first_end() {
            Some((how, words)) => format!("{how}{words}"),
            None => "closed its connection and was ended".into(),
        }
    }

    /// How the first process that ended by itself did so, and its last lines.
    fn first_end(&mut self) -> Option<(String, String)> {
        let first = self.ranks.iter().position(|rank| rank.child.has_ended());
        let several = self.ranks.len() > 1;
        let at = first.unwrap_or(0);
        let child = &mut self.ranks[at].child;
        let how = child.last_breath()?;
        let how = match several {
            true => format!("of rank {at} {how}"),
            false => how,
        };
        Some((how, child.words()))
    }

    /// Asks for the end of the stream that is being sent; false: this worker cannot.
    pub(crate) fn end_stream(&self) -> bool {
        let asked = if self.all_answer { self.ranks.len() } else { 1 };
        let mut ranks = self.ranks[..asked].iter();
        self.ready.ends_streams
            && ranks.all(|rank| kill_process(rank.child.pid(), Signal::USR1).is_ok())
    }
}

/// An answer, of whose stream nothing is kept.
pub(crate) fn read_whole(patient: &mut Patient<'_>, limit: usize) -> Result<Answer, ProtocolError> {
    let answer = read_answer(patient, limit)?;
    let mut last = answer.content != Content::Stream;
    while !last {
        last = read_frame(patient, limit)?.last;
    }
    Ok(answer)
}

fn spawn(start: &Start<'_>, rank: Option<(usize, u16)>) -> Result<Spawned, PythonError> {
    let settings = start.settings;
    // Of both the system says only that there is no such file.
    if !settings.dir.is_dir() {
        let path = settings.dir.clone();
        return Err(PythonError::NoDirectory { path });
    }
    let Start {
        index, generation, ..
    } = start;
    let name = format!("{index}.{generation}");
    let socket = start.package.dir().join(&name);
    let mut command = command(start, &socket);
    let (socket, shown) = match rank {
        None => (socket, format!("{}-{index}", settings.name)),
        Some((rank, port)) => {
            of_rank(&mut command, settings, rank, port);
            // Workers add their rank to the name.
            let socket = start.package.dir().join(format!("{name}.{rank}"));
            (socket, format!("{}-{index}-rank-{rank}", settings.name))
        }
    };
    let executable = &settings.interpreter.executable;
    let (child, readiness) = Running::start(&mut command, &shown, executable)?;
    if let Some(limit) = settings.workers.memory_limit {
        child.limit_memory(limit)?;
    }
    Ok(Spawned {
        child,
        readiness,
        socket,
    })
}

impl Spawned {
    fn wait_until_ready(
        &mut self,
        start: &Start<'_>,
        deadline: Instant,
    ) -> Result<Ready, PythonError> {
        loop {
            match self.readiness.recv_timeout(TICK) {
                Ok(ready) => return Ok(ready),
                Err(RecvTimeoutError::Disconnected) => thread::sleep(TICK),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.child.has_ended() {
                let how = self.child.last_breath().unwrap_or_default();
                let words = self.child.words();
                return Err(PythonError::Ended { how, words });
            }
            if (start.stop)() {
                return Err(PythonError::Stopped);
            }
            if Instant::now() >= deadline {
                return Err(slow(
                    &mut self.child,
                    start.settings,
                    "importing the handler",
                ));
            }
        }
    }

    fn connect(mut self) -> Result<Rank, PythonError> {
        let link = UnixStream::connect(&self.socket);
        match link.and_then(|link| prepare(&link).map(|()| link)) {
            Ok(link) => Ok(Rank {
                child: self.child,
                link,
            }),
            Err(cause) => Err(PythonError::Socket {
                cause: cause.to_string(),
                words: self.child.words(),
            }),
        }
    }
}

fn slow(child: &mut Running, settings: &PythonSettings, doing: &'static str) -> PythonError {
    PythonError::Slow {
        seconds: settings.model_loading_timeout.as_secs(),
        doing,
        words: child.words(),
    }
}

/// Python with DJL Serving's arguments, in the model's directory.
fn command(start: &Start<'_>, socket: &Path) -> Command {
    let settings = start.settings;
    let interpreter = &settings.interpreter;
    let mut command = Command::new(&interpreter.executable);
    command
        .arg(start.package.script())
        .args(["--sock-type", "unix", "--sock-name"])
        .arg(socket)
        .arg("--model-dir")
        .arg(&settings.dir)
        .args(["--entry-point", &settings.entry_point])
        .args(["--recommended-entry-point", ""])
        .args(["--log-level", interpreter.log_level])
        .arg(match settings.asynchronous {
            true => "--async-mode",
            false => "--no-async-mode",
        });
    if settings.ranks.is_none() {
        command.args(["--device-id", "-1", "--cluster-size", "1"]);
    }
    let mut path = interpreter.python_path.clone().unwrap_or_default();
    if !path.is_empty() {
        path.push(':');
    }
    path.push_str(&settings.dir.to_string_lossy());
    command
        .current_dir(&settings.dir)
        .env("PYTHONPATH", path)
        // Lines reach the log as they are printed, and a crash tells its traceback.
        .env("PYTHONUNBUFFERED", "1")
        .env("PYTHONFAULTHANDLER", "1")
        .env("SCONCE_WATCH_STDIN", "1")
        .envs(
            interpreter
                .environment
                .iter()
                .map(|(key, value)| (key, value)),
        );
    command
}

/// What makes a process a rank of several, as `mpirun` would tell it.
fn of_rank(command: &mut Command, settings: &PythonSettings, rank: usize, port: u16) {
    let Some(ranks) = &settings.ranks else {
        return;
    };
    let (rank, world) = (rank.to_string(), ranks.world().to_string());
    command
        .args(["--tensor-parallel-degree", &ranks.tensor.to_string()])
        .args(["--pipeline-parallel-degree", &ranks.pipeline.to_string()])
        .env("OMPI_COMM_WORLD_RANK", &rank)
        .env("OMPI_COMM_WORLD_LOCAL_RANK", &rank)
        .env("OMPI_COMM_WORLD_SIZE", &world)
        .env("OMPI_COMM_WORLD_LOCAL_SIZE", &world)
        .env("MASTER_ADDR", "127.0.0.1")
        .env("MASTER_PORT", port.to_string())
        .env("MKL_DYNAMIC", "FALSE");
}

/// A port that is free now, by which ranks find each other.
fn free_port() -> Result<u16, PythonError> {
    let bound = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    bound
        .map(|address| address.port())
        .map_err(|cause| PythonError::Socket {
            cause: format!("there is no port by which ranks could find each other: {cause}"),
            words: String::new(),
        })
}

/// The text of a failed first call: that of the exception, if the body has one.
fn told(answer: &Answer) -> String {
    let error = match &answer.content {
        Content::Whole(content) => {
            let body: Option<serde_json::Value> =
                serde_json::from_slice(&batch::body(content)).ok();
            body.and_then(|body| Some(body.get("error")?.as_str()?.to_owned()))
        }
        Content::Stream => None,
    };
    let message = answer.message.clone().unwrap_or_default();
    match error {
        Some(error) => format!("{message}: {error}"),
        None => message,
    }
}
