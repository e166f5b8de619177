//! Starts the built program on a free port and reads its log.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A running program; killed when dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    log: Log,
}

/// The log of a program that is being read in the background.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

/// How to start the program.
pub struct Launch<'a> {
    program: &'a str,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    output: Option<PathBuf>,
}

impl<'a> Launch<'a> {
    /// `program serve dir --host 127.0.0.1 --port 0` with an environment of its own.
    pub fn serve(program: &'a str, dir: &Path) -> Self {
        let arguments = [
            "serve",
            &dir.to_string_lossy(),
            "--host",
            "127.0.0.1",
            "--port",
            "0",
        ];
        arguments
            .iter()
            .fold(Self::bare(program), |launch, argument| {
                launch.argument(argument)
            })
    }

    /// The program without arguments.
    pub fn bare(program: &'a str) -> Self {
        Self {
            program,
            arguments: vec![],
            environment: vec![],
            output: None,
        }
    }

    /// Writes its standard output to a file; otherwise nobody reads it.
    pub fn output(mut self, file: &Path) -> Self {
        self.output = Some(file.into());
        self
    }

    /// Adds an argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Sets a variable; `PATH` and `HOME` are the only ones set otherwise.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The variables that were set.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Starts and waits for the port; not for readiness.
    pub fn start(self) -> Result<Server> {
        let (mut child, log, lines, _) = self.spawn()?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            let Ok(line) = lines.recv_timeout(Duration::from_secs(60)) else {
                break;
            };
            if let Some(address) = listening_address(&line) {
                return Ok(Server {
                    child,
                    address,
                    log,
                });
            }
        }
        let _ = child.kill();
        bail!("the program did not listen; its log:\n{}", log.text())
    }

    /// Runs to the end, for programs that are expected to fail; the status and the log.
    pub fn run(self) -> Result<(ExitStatus, String)> {
        let (mut child, log, _lines, reader) = self.spawn()?;
        let status = wait(&mut child, Duration::from_secs(60))?;
        let _ = reader.join();
        Ok((status, log.text()))
    }

    fn spawn(self) -> Result<(Child, Log, Receiver<String>, JoinHandle<()>)> {
        let mut command = Command::new(self.program);
        command.args(&self.arguments).env_clear();
        for name in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.envs(self.environment);
        let output = match &self.output {
            Some(file) => File::create(file)?.into(),
            None => Stdio::null(),
        };
        command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", self.program))?;
        let stderr = child.stderr.take().expect("the log is piped");
        let (tell, lines) = channel();
        let log = Log::default();
        let written = log.clone();
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                written.push(&line);
                // Nobody listens any more once the port is known.
                let _ = tell.send(line);
            }
        });
        Ok((child, log, lines, reader))
    }
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://address` and a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until a line of the log contains a text.
    pub fn wait_for_log(&mut self, text: &str) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while Instant::now() < deadline {
            if self.log().contains(text) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the program ended with {status}; its log:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("`{text}` did not appear in the log:\n{}", self.log())
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-TERM", &pid]).status()?;
        if !status.success() {
            bail!("kill -TERM {pid} gave {status}");
        }
        Ok(())
    }

    /// Waits for the end.
    pub fn wait(&mut self, longest: Duration) -> Result<ExitStatus> {
        wait(&mut self.child, longest)
    }

    /// Resident memory in KiB (Linux).
    pub fn resident_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let value = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(value.context("no VmRSS in /proc")?.parse()?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Log {
    fn push(&self, line: &str) {
        let mut log = self.0.lock().expect("no writer of the log panics");
        log.push_str(line);
        log.push('\n');
    }

    fn text(&self) -> String {
        self.0.lock().expect("no writer of the log panics").clone()
    }
}

fn listening_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on ")?;
    rest.split_whitespace().next()?.parse().ok()
}

fn wait(child: &mut Child, longest: Duration) -> Result<ExitStatus> {
    let deadline = Instant::now() + longest;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("the program still runs after {longest:?}")
}
