//! One worker: a Python process, or one for each rank of a model that is split, from their start
//! to their end, and the sockets to them.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Instant;

use rustix::process::{Signal, kill_process};
use tracing::info;

use crate::batch;
use crate::error::PythonError;
use crate::launch::Launch;
use crate::logs::Ready;
use crate::package::Package;
use crate::protocol::{Answer, Content, ProtocolError, Request, read_answer, read_frame};
use crate::running::Running;
use crate::settings::{PythonSettings, Ranks};
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
    /// One for each rank, or the one that has started them all.
    children: Vec<Running>,
    /// One for each rank.
    links: Vec<UnixStream>,
    /// Whether ranks beside the first get requests too.
    all_answer: bool,
    ready: Ready,
}

/// A process that does not listen yet, and where it will, or those that it starts.
struct Spawned {
    child: Running,
    readiness: Receiver<Ready>,
    sockets: Vec<PathBuf>,
}

impl Process {
    /// Starts Python, waits until it listens, connects, and has the handler load its model.
    pub(crate) fn start(start: &Start<'_>) -> Result<Self, PythonError> {
        let began = Instant::now();
        let settings = start.settings;
        let deadline = began + settings.model_loading_timeout;
        // Ranks wait for each other, so all of them must be there before one is waited for.
        let spawned = match &settings.ranks {
            None => vec![spawn(start, &Place::Alone)?],
            Some(ranks) if ranks.mpirun.is_some() => vec![spawn(start, &Place::All(free_port()?))?],
            Some(ranks) => {
                let port = free_port()?;
                let all = 0..ranks.world();
                all.map(|rank| spawn(start, &Place::Rank(rank, port)))
                    .collect::<Result<_, _>>()?
            }
        };
        let mut process = Self {
            children: Vec::with_capacity(spawned.len()),
            links: Vec::new(),
            all_answer: settings
                .ranks
                .as_ref()
                .is_some_and(|ranks| ranks.all_answer),
            ready: Ready { ends_streams: true },
        };
        for mut spawned in spawned {
            let told = spawned.wait_until_ready(start, deadline)?;
            process.ready.ends_streams &= told.ends_streams;
            process.links.extend(spawned.connect()?);
            process.children.push(spawned.child);
        }
        // A signal to mpirun is not one to its ranks.
        process.ready.ends_streams &= process.children.len() == process.links.len();
        process.load(start, deadline)?;
        info!(
            "{}-{}: process {} has loaded the model after {:.2} s",
            settings.name,
            start.index,
            process.children[0].pid().as_raw_pid(),
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
        let ended = || self.children.iter().any(Running::has_ended);
        let stop = || (start.stop)() || ended();
        let mut expired = false;
        let mut first_call = || {
            for link in &self.links {
                let mut patient = Patient::new(link, deadline, &stop);
                let written = patient.write_all(&message);
                expired |= patient.expired;
                written?;
            }
            let mut answers = Vec::new();
            for link in &self.links {
                let mut patient = Patient::new(link, deadline, &stop);
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
                    let child = rank.min(self.children.len() - 1);
                    Err(PythonError::Init {
                        code: answers[rank].code,
                        message: told(&answers[rank]),
                        words: self.children[child].words(),
                    })
                })
            }
            Err(_) if expired => Err(slow(&mut self.children[0], settings, "loading the model")),
            Err(_) if (start.stop)() => Err(PythonError::Stopped),
            Err(cause) => match self.first_end() {
                Some((how, words)) => Err(PythonError::Ended { how, words }),
                None => Err(cause.into()),
            },
        }
    }

    /// The connection to the first rank, whose answers count.
    pub(crate) fn link(&self) -> &UnixStream {
        &self.links[0]
    }

    /// The connections to ranks that get every request too.
    pub(crate) fn others(&self) -> impl Iterator<Item = &UnixStream> {
        self.links[1..].iter().filter(|_| self.all_answer)
    }

    /// Whether a process has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.children.iter().any(Running::has_ended)
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
        let first = self.children.iter().position(Running::has_ended);
        let several = self.children.len() > 1;
        let at = first.unwrap_or(0);
        let child = &mut self.children[at];
        let how = child.last_breath()?;
        let how = match several {
            true => format!("of rank {at} {how}"),
            false => how,
        };
        Some((how, child.words()))
    }

    /// Asks for the end of the stream that is being sent; false: this worker cannot.
    pub(crate) fn end_stream(&self) -> bool {
        let asked = if self.all_answer {
            self.children.len()
        } else {
            1
        };
        let mut children = self.children[..asked].iter();
        self.ready.ends_streams
            && children.all(|child| kill_process(child.pid(), Signal::USR1).is_ok())
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

/// Which of a worker's processes is started.
enum Place {
    /// The only one.
    Alone,
    /// A rank, and the port by which ranks find each other.
    Rank(usize, u16),
    /// The `mpirun` that starts all ranks.
    All(u16),
}

fn spawn(start: &Start<'_>, place: &Place) -> Result<Spawned, PythonError> {
    let settings = start.settings;
    // Of both the system says only that there is no such file.
    if !settings.dir.is_dir() {
        let path = settings.dir.clone();
        return Err(PythonError::NoDirectory { path });
    }
    let index = start.index;
    let name = format!("{index}.{}", start.generation);
    // Ranks add their number to the name.
    let socket = start.package.dir().join(&name);
    let of_rank = |rank: usize| start.package.dir().join(format!("{name}.{rank}"));
    let launch = Launch {
        start,
        socket: &socket,
    };
    let (mut command, sockets, shown) = match place {
        Place::Alone => {
            let shown = format!("{}-{index}", settings.name);
            (launch.alone(), vec![socket.clone()], shown)
        }
        Place::Rank(rank, port) => {
            let shown = format!("{}-{index}-rank-{rank}", settings.name);
            (launch.rank(*rank, *port), vec![of_rank(*rank)], shown)
        }
        Place::All(port) => {
            let world = settings.ranks.as_ref().map_or(1, Ranks::world);
            let shown = format!("{}-{index}", settings.name);
            (launch.all(*port), (0..world).map(of_rank).collect(), shown)
        }
    };
    let executable = command.get_program().to_string_lossy().into_owned();
    let (child, readiness) = Running::start(&mut command, &shown, &executable)?;
    if let Some(limit) = settings.workers.memory_limit {
        child.limit_memory(limit)?;
    }
    Ok(Spawned {
        child,
        readiness,
        sockets,
    })
}

impl Spawned {
    fn wait_until_ready(
        &mut self,
        start: &Start<'_>,
        deadline: Instant,
    ) -> Result<Ready, PythonError> {
        let mut all = Ready { ends_streams: true };
        let mut left = self.sockets.len();
        loop {
            match self.readiness.recv_timeout(TICK) {
                Ok(ready) => {
                    all.ends_streams &= ready.ends_streams;
                    left -= 1;
                    if left == 0 {
                        return Ok(all);
                    }
                }
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

    fn connect(&mut self) -> Result<Vec<UnixStream>, PythonError> {
        let connect = |socket: &PathBuf| {
            let link = UnixStream::connect(socket)?;
            prepare(&link).map(|()| link)
        };
        let links: std::io::Result<_> = self.sockets.iter().map(connect).collect();
        links.map_err(|cause| PythonError::Socket {
            cause: cause.to_string(),
            words: self.child.words(),
        })
    }
}

fn slow(child: &mut Running, settings: &PythonSettings, doing: &'static str) -> PythonError {
    PythonError::Slow {
        seconds: settings.model_loading_timeout.as_secs(),
        doing,
        words: child.words(),
    }
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
