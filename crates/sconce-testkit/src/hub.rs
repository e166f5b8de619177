//! A Hugging Face hub on a free port of this machine, for programs that fetch models.
//!
//! It has the routes, redirects and headers that clients depend on: the listing of a repository,
//! small files behind a relative redirect, weights behind an absolute one to another host, as the
//! real hub keeps them in a store of its own. Whole repositories can be locked, files cut short.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde_json::json;

use crate::fakes::Gate;

/// The only commit of the repository.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// Who may read the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Everybody may list it, only who sends this token may read its files.
    Gated(String),
    /// Only who sends this token sees that it exists.
    Private(String),
    /// Nobody: the hub is out of order.
    Broken,
}

/// A repository on a hub.
pub struct FakeHub {
    id: String,
    access: Access,
    files: BTreeMap<String, Vec<u8>>,
    /// Connections end after so many bytes of this file.
    cuts: BTreeMap<String, usize>,
    /// What the listing says of sizes instead of the truth.
    claims: BTreeMap<String, u64>,
    half: Option<Gate>,
}

/// A running hub; its port is closed when it is dropped.
pub struct RunningHub {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
}

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Path and query.
    pub path: String,
    /// The host that it believes to talk to, without the port.
    pub host: String,
    /// The token that it sent.
    pub token: Option<String>,
    /// First byte that it wants.
    from: usize,
    /// Last byte that it wants.
    to: Option<usize>,
}

impl FakeHub {
    /// A public repository with the files of a folder, golden values left out.
    pub fn of_folder(id: &str, folder: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with("golden") {
                files.insert(name, std::fs::read(entry.path())?);
            }
        }
        Ok(Self {
            id: id.into(),
            access: Access::Public,
            files,
            cuts: BTreeMap::new(),
            claims: BTreeMap::new(),
            half: None,
        })
    }

    /// Decides who may read it.
    pub fn access(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Sends the first half of the weights, and the rest when the gate is open.
    pub fn wait_at_half(self, gate: &Gate) -> Self {
        let half = Some(gate.clone());
        Self { half, ..self }
    }

    /// Lists a file as so long.
    pub fn claim(mut self, file: &str, size: u64) -> Self {
        self.claims.insert(file.into(), size);
        self
    }

    /// Breaks every connection after so many bytes of a file.
    pub fn cut(mut self, file: &str, bytes: usize) -> Self {
        self.cuts.insert(file.into(), bytes);
        self
    }

    /// Takes a file away.
    pub fn without(mut self, file: &str) -> Self {
        self.files.remove(file);
        self
    }

    /// Starts answering.
    pub fn start(self) -> Result<RunningHub> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let (seen, ended) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let running = RunningHub {
            address,
            seen: Arc::clone(&seen),
            ended: Arc::clone(&ended),
        };
        let hub = Arc::new(self);
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if ended.load(SeqCst) {
                    return;
                }
                let (hub, seen) = (Arc::clone(&hub), Arc::clone(&seen));
                // A client that leaves early is no matter of the hub's.
                std::thread::spawn(move || hub.answer(&socket, address, &seen));
            }
        });
        Ok(running)
    }

    fn answer(
        &self,
        socket: &TcpStream,
        address: SocketAddr,
        seen: &Mutex<Vec<Request>>,
    ) -> Result<()> {
        let request = Request::read(socket)?;
        seen.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(request.clone());
        let path = request.path.split('?').next().unwrap_or_default();
        let id = &self.id;
        let mut parts = path.splitn(2, '/').skip(1);
        let path = parts.next().unwrap_or_default();
        let listing = path.strip_prefix(&format!("api/models/{id}/revision/"));
        let resolve = path.strip_prefix(&format!("{id}/resolve/"));
        if let Some(file) = path.strip_prefix("api/resolve-cache/") {
            return self.send_file(socket, &request, file);
        }
        if let Some(file) = path.strip_prefix("store/") {
            return self.send_file(socket, &request, file);
        }
        let revision = listing.or(resolve).and_then(|rest| rest.split('/').next());
        if let Some(refusal) = self.refusal(&request, revision, listing.is_some()) {
            return send(socket, &refusal, b"");
        }
        if listing.is_some() {
            return self.send_listing(socket);
        }
        let file = resolve
            .and_then(|rest| rest.split_once('/'))
            .map_or("", |(_, file)| file);
        self.redirect(socket, address, file)
    }

    /// Status and headers for those who get nothing, in the order in which the hub decides.
    fn refusal(&self, request: &Request, revision: Option<&str>, listing: bool) -> Option<String> {
        let error = |status: &str, code: &str, message: &str| {
            format!("HTTP/1.1 {status}\r\nX-Error-Code: {code}\r\nX-Error-Message: {message}\r\n")
        };
        let nothing = error("404 Not Found", "RepoNotFound", "Repository not found");
        let hidden = "Invalid username or password.";
        match (&self.access, revision) {
            (Access::Broken, _) => Some("HTTP/1.1 503 Service Unavailable\r\n".into()),
            // Whoever has no token may not learn which names exist.
            (_, None) if request.token.is_none() => {
                Some(error("401 Unauthorized", "RepoNotFound", hidden))
            }
            (_, None) => Some(nothing),
            (Access::Private(token), _) if request.token.as_ref() != Some(token) => {
                Some(match request.token {
                    None => error("401 Unauthorized", "RepoNotFound", hidden),
                    Some(_) => nothing,
                })
            }
            (Access::Gated(token), _) if !listing && request.token.as_ref() != Some(token) => {
                let message = "Access to this model is restricted.";
                Some(match request.token {
                    None => error("401 Unauthorized", "GatedRepo", message),
                    Some(_) => error("403 Forbidden", "GatedRepo", message),
                })
            }
            (_, Some("main" | COMMIT)) => None,
            (_, Some(_)) => {
                let message = "Invalid rev id";
                Some(error("404 Not Found", "RevisionNotFound", message))
            }
        }
    }

    fn send_listing(&self, socket: &TcpStream) -> Result<()> {
        let siblings: Vec<_> = self
            .files
            .iter()
            .map(|(name, bytes)| {
                let size = self.claims.get(name).copied();
                json!({"rfilename": name, "size": size.unwrap_or(bytes.len() as u64)})
            })
            .collect();
        let body = json!({"id": self.id, "sha": COMMIT, "siblings": siblings}).to_string();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
        send(socket, head, body.as_bytes())
    }

    /// Small files stay on the host, weights come from elsewhere.
    fn redirect(&self, socket: &TcpStream, address: SocketAddr, file: &str) -> Result<()> {
        let Some(bytes) = self.files.get(file) else {
            let head = "HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\n";
            return send(socket, head, b"");
        };
        let mut head = String::new();
        if file.ends_with(".safetensors") {
            let port = address.port();
            write!(
                head,
                "HTTP/1.1 302 Found\r\nLocation: http://localhost:{port}/store/{file}\r\n"
            )?;
            write!(
                head,
                "X-Linked-Size: {}\r\nX-Linked-ETag: \"{file}-blob\"\r\n",
                bytes.len()
            )?;
        } else {
            write!(head, "HTTP/1.1 307 Temporary Redirect\r\n")?;
            write!(head, "Location: /api/resolve-cache/{file}\r\n")?;
        }
        write!(head, "X-Repo-Commit: {COMMIT}\r\nETag: \"{file}-blob\"\r\n")?;
        send(socket, &head, b"")
    }

    fn send_file(&self, mut socket: &TcpStream, request: &Request, file: &str) -> Result<()> {
        let bytes = self.files.get(file).context("only redirects lead here")?;
        let all = bytes.len();
        if request.from >= all {
            return send(socket, "HTTP/1.1 416 Range Not Satisfiable\r\n", b"");
        }
        let to = request.to.map_or(all, |last| all.min(last + 1));
        let part = bytes.get(request.from..to).unwrap_or_default();
        let mut head = format!(
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {}-{}/{all}\r\n",
            request.from,
            to.saturating_sub(1)
        );
        write!(head, "X-Repo-Commit: {COMMIT}\r\nETag: \"{file}-blob\"\r\n")?;
        write!(
            head,
            "Content-Length: {}\r\nConnection: close\r\n\r\n",
            part.len()
        )?;
        socket.write_all(head.as_bytes())?;
        let part = match self.cuts.get(file) {
            Some(&cut) => &part[..part.len().min(cut.saturating_sub(request.from))],
            None => part,
        };
        let (first, second) = part.split_at(part.len() / 2);
        socket.write_all(first)?;
        if let Some(half) = self
            .half
            .as_ref()
            .filter(|_| file.ends_with(".safetensors"))
        {
            half.wait();
        }
        Ok(socket.write_all(second)?)
    }
}

fn send(mut socket: &TcpStream, head: &str, body: &[u8]) -> Result<()> {
    let length = body.len();
    socket.write_all(head.as_bytes())?;
    write!(
        socket,
        "Content-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    Ok(socket.write_all(body)?)
}

impl Request {
    fn read(socket: &TcpStream) -> Result<Self> {
        let mut lines = BufReader::new(socket).lines();
        let first = lines.next().context("an empty request")??;
        let mut request = Self {
            path: first.split(' ').nth(1).unwrap_or_default().into(),
            host: String::new(),
            token: None,
            from: 0,
            to: None,
        };
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "host" => request.host = value.split(':').next().unwrap_or_default().into(),
                "authorization" => request.token = value.strip_prefix("Bearer ").map(String::from),
                "range" => {
                    let range = value.strip_prefix("bytes=").and_then(|r| r.split_once('-'));
                    let (from, to) = range.context("a range of bytes")?;
                    request.from = from.parse()?;
                    request.to = to.parse().ok();
                }
                _ => {}
            }
        }
        Ok(request)
    }
}

impl RunningHub {
    /// The value of `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Drop for RunningHub {
    fn drop(&mut self) {
        self.ended.store(true, SeqCst);
        // Wakes the thread that accepts, so that it sees the end; a failure means it has ended.
        let _ = TcpStream::connect(self.address);
    }
}
