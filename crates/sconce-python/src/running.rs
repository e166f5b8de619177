//! A process, the threads that read what it writes, and how it ended.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, prlimit, waitid,
};
use tracing::warn;

use crate::error::PythonError;
use crate::logs::{Ready, Relay};
use crate::tail::Tail;

/// A process that is about to end may take so long.
const LAST_BREATH: Duration = Duration::from_secs(1);
/// So often somebody who waits for the end looks.
const GLANCE: Duration = Duration::from_millis(5);

/// A process with a group of its own, so that what it starts ends with it and signals of a
/// terminal do not reach it. Dropping it ends the group.
pub(crate) struct Running {
    child: Child,
    tail: Arc<Tail>,
    relays: Vec<JoinHandle<()>>,
    reaped: Option<ExitStatus>,
}

impl Running {
    /// Starts a command; `name` stands before its lines in the log. The receiver is told when the
    /// process says that it listens.
    pub(crate) fn start(
        command: &mut Command,
        name: &str,
        executable: &str,
    ) -> Result<(Self, Receiver<Ready>), PythonError> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().map_err(|cause| PythonError::NoPython {
            executable: executable.to_owned(),
            cause: cause.to_string(),
        })?;
        let outputs = (child.stdout.take(), child.stderr.take());
        let mut running = Self {
            child,
            tail: Arc::default(),
            relays: vec![],
            reaped: None,
        };
        let (ready, readiness) = channel();
        if let (Some(stdout), Some(stderr)) = outputs {
            running.relay(name, false, stdout, ready.clone())?;
            running.relay(name, true, stderr, ready)?;
        }
        Ok((running, readiness))
    }

    fn relay(
        &mut self,
        name: &str,
        is_error: bool,
        source: impl std::io::Read + Send + 'static,
        ready: std::sync::mpsc::Sender<Ready>,
    ) -> Result<(), PythonError> {
        let relay = Relay {
            worker: name.to_owned(),
            is_error,
            tail: Arc::clone(&self.tail),
            ready,
        };
        let thread = thread::Builder::new().name("py-log".into());
        let thread = thread.spawn(move || relay.run(source));
        self.relays
            .push(thread.map_err(|cause| PythonError::Thread {
                cause: cause.to_string(),
            })?);
        Ok(())
    }

    /// Bounds the address space, in bytes.
    pub(crate) fn limit_memory(&self, bytes: u64) -> Result<(), PythonError> {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        let limited = prlimit(Some(self.pid()), Resource::As, limit);
        limited.map(drop).map_err(|cause| PythonError::Socket {
            cause: format!("option.worker_memory_limit cannot be set: {cause}"),
            words: String::new(),
        })
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Looks without collecting the status, so that the process keeps its number until its group
    /// is ended too.
    pub(crate) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.reaped.is_some() || !matches!(waitid(WaitId::Pid(self.pid()), options), Ok(None))
    }

    /// Waits a moment for the process to end by itself, then ends it; how it ended, if it did.
    pub(crate) fn last_breath(&mut self) -> Option<String> {
        self.wait(Instant::now() + LAST_BREATH);
        let by_itself = self.has_ended();
        self.end();
        self.reaped.filter(|_| by_itself).map(how)
    }

    /// Whether the process ends by itself until then.
    fn wait(&self, until: Instant) -> bool {
        while !self.has_ended() && Instant::now() < until {
            thread::sleep(GLANCE);
        }
        self.has_ended()
    }

    /// Waits for the end; `None`: it was not wanted any more, or came too late, and the process was
    /// ended. Else whether it succeeded.
    pub(crate) fn finish(&mut self, deadline: Instant, stop: &dyn Fn() -> bool) -> Option<bool> {
        while !stop() && Instant::now() < deadline {
            if self.wait(Instant::now() + 10 * GLANCE) {
                self.end();
                return self.reaped.map(|status| status.success());
            }
        }
        self.end();
        None
    }

    /// Ends the process and its group.
    fn end(&mut self) {
        if self.reaped.is_some() {
            return;
        }
        // The group may be gone already.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => self.reaped = Some(status),
            Err(cause) => warn!("the status of a process cannot be read: {cause}"),
        }
    }

    /// The last lines, once all of them have been read; ends the process.
    pub(crate) fn words(&mut self) -> String {
        self.end();
        let until = Instant::now() + LAST_BREATH;
        while Instant::now() < until && !self.relays.iter().all(JoinHandle::is_finished) {
            thread::sleep(GLANCE);
        }
        self.tail.words()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

/// How a process ended, as the end of a sentence.
fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(signal)) => {
            let name = match signal {
                4 => " (SIGILL)",
                6 => " (SIGABRT)",
                7 => " (SIGBUS)",
                8 => " (SIGFPE)",
                9 => " (SIGKILL; is there too little memory?)",
                11 => " (SIGSEGV)",
                15 => " (SIGTERM)",
                _ => "",
            };
            format!("was killed by signal {signal}{name}")
        }
        (None, None) => "ended".into(),
    }
}
