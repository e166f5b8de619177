//! A bucket of S3 on a free port of this machine, for programs that fetch models.
//!
//! It speaks as much of the protocol as reading needs: ListObjectsV2 with delimiters and pages,
//! GetObject with ranges and If-Match, error documents. Signatures are not verified, but the
//! region that a request was signed for counts. Faults can be planned, and objects be replaced
//! while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use percent_encoding::percent_decode_str;

use crate::fakes::Gate;

/// A bucket named `bucket`.
#[derive(Default)]
pub struct FakeS3 {
    objects: BTreeMap<String, Vec<u8>>,
    /// Sizes that listings give in place of the true ones.
    claims: BTreeMap<String, u64>,
    /// Entries of one answer to a listing; 0: all.
    page: usize,
    region: Option<String>,
    faults: Vec<Fault>,
    half: Option<Gate>,
    behind: Option<(usize, Gate)>,
}

/// A planned failure.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Requests whose path and query contain this text fail; listings contain `list-type`.
    pub on: &'static str,
    /// So many of them; others succeed.
    pub times: usize,
    /// Only those for bytes that begin so far behind their file's beginning, or farther.
    pub behind: usize,
    /// How.
    pub what: Failure,
}

/// How a request fails.
#[derive(Clone, Copy, Debug)]
pub enum Failure {
    /// With a status and S3's code for it.
    Refusal(&'static str, &'static str),
    /// The body ends after so many bytes.
    Cut(usize),
}

/// A running server; its port is closed when it is dropped.
pub struct RunningS3 {
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    bucket: Mutex<FakeS3>,
    seen: Mutex<Vec<S3Request>>,
    ended: AtomicBool,
}

/// What a client asked for.
#[derive(Clone, Debug, Default)]
pub struct S3Request {
    /// Path and query, decoded.
    pub path: String,
    /// First and last byte that it wants.
    pub range: Option<(usize, usize)>,
    /// The entity tag that the object must have.
    pub if_match: Option<String>,
    /// Key and region of the signature.
    pub signed: Option<(String, String)>,
}

impl FakeS3 {
    /// Puts the files of a folder, and of those in it, below a prefix, golden values left out.
    pub fn folder(mut self, prefix: &str, folder: &Path) -> Result<Self> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_dir() {
                self = self.folder(&format!("{prefix}/{name}"), &entry.path())?;
            } else if !name.starts_with("golden") {
                let bytes = std::fs::read(entry.path())?;
                self.objects.insert(format!("{prefix}/{name}"), bytes);
            }
        }
        Ok(self)
    }

    /// Puts an object.
    pub fn object(mut self, key: &str, bytes: &[u8]) -> Self {
        self.objects.insert(key.into(), bytes.into());
        self
    }

    /// Puts an object that listings call so long.
    pub fn claim(mut self, key: &str, size: u64) -> Self {
        self.claims.insert(key.into(), size);
        self.object(key, b"")
    }

    /// Answers listings with so many entries at a time.
    pub fn pages_of(self, page: usize) -> Self {
        Self { page, ..self }
    }

    /// Takes only requests that are signed for this region.
    pub fn region(self, region: &str) -> Self {
        let region = Some(region.into());
        Self { region, ..self }
    }

    /// Plans a failure.
    pub fn fault(mut self, on: &'static str, times: usize, what: Failure) -> Self {
        let behind = 0;
        self.faults.push(Fault {
            on,
            times,
            behind,
            what,
        });
        self
    }

    /// Plans that parts of weights fail for ever that begin so far behind their file's beginning, or farther.
    pub fn fault_behind(mut self, behind: usize, what: Failure) -> Self {
        self.faults.push(Fault {
            on: ".safetensors",
            times: usize::MAX,
            behind,
            what,
        });
        self
    }

    /// Sends the first half of the weights, and the rest when the gate is open.
    pub fn wait_at_half(self, gate: &Gate) -> Self {
        let half = Some(gate.clone());
        Self { half, ..self }
    }

    /// Sends parts of weights that begin so far behind their file's beginning, or farther, when the gate is open.
    pub fn wait_behind(self, first: usize, gate: &Gate) -> Self {
        let behind = Some((first, gate.clone()));
        Self { behind, ..self }
    }

    /// Starts answering.
    pub fn start(self) -> Result<RunningS3> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            bucket: Mutex::new(self),
            seen: Mutex::default(),
            ended: AtomicBool::new(false),
        });
        let running = RunningS3 {
            address,
            shared: Arc::clone(&shared),
        };
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                if shared.ended.load(SeqCst) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // A client that leaves early is no matter of the server's.
                std::thread::spawn(move || shared.answer(&socket));
            }
        });
        Ok(running)
    }

    /// What is to be sent, and the gate at its half.
    fn answer(&mut self, request: &S3Request) -> (Answer, Option<Gate>) {
        let mut fails = self.faults.iter_mut();
        let begin = request.range.map_or(0, |(begin, _)| begin);
        let fault = fails.find(|fault| {
            fault.times > 0 && request.path.contains(fault.on) && begin >= fault.behind
        });
        let cut = match fault {
            Some(fault) => {
                fault.times -= 1;
                match fault.what {
                    Failure::Refusal(status, code) => {
                        return (Answer::refusal(status, code, "as planned"), None);
                    }
                    Failure::Cut(bytes) => Some(bytes),
                }
            }
            None => None,
        };
        let signed_for = request.signed.as_ref().map(|(_, region)| region);
        if let Some(region) = self.region.as_ref().filter(|own| signed_for != Some(own)) {
            let moved = "The bucket you are attempting to access must be addressed using the \
                         specified endpoint.";
            let mut answer = Answer::refusal("301 Moved Permanently", "PermanentRedirect", moved);
            answer.head += &format!("x-amz-bucket-region: {region}\r\n");
            return (answer, None);
        }
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let (bucket, key) = path[1..].split_once('/').unwrap_or((&path[1..], ""));
        if bucket != "bucket" {
            let missing = "The specified bucket does not exist";
            return (
                Answer::refusal("404 Not Found", "NoSuchBucket", missing),
                None,
            );
        }
        let mut answer = match key {
            "" => self.listing(query),
            key => self.object_part(key, request),
        };
        answer.cut = cut;
        let is_weight = key.ends_with(".safetensors");
        (answer, self.half.clone().filter(|_| is_weight))
    }

    /// What holds a part of an object up.
    fn obstacle(&self, request: &S3Request) -> Option<Gate> {
        let (first, gate) = self.behind.as_ref()?;
        let (begin, _) = request.range?;
        let waits = begin >= *first && request.path.ends_with(".safetensors");
        waits.then(|| gate.clone())
    }

    /// ListObjectsV2: the keys and the common prefixes, in one order.
    fn listing(&self, query: &str) -> Answer {
        let field = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value)
        };
        let prefix = field("prefix").unwrap_or("");
        let keys = self.objects.keys().filter(|key| key.starts_with(prefix));
        let entries = keys.map(|key| match key[prefix.len()..].find('/') {
            Some(at) if field("delimiter").is_some() => &key[..=prefix.len() + at],
            _ => key,
        });
        let entries: BTreeSet<&str> = entries.collect();
        let after = field("continuation-token").map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = entries.range::<str, _>((after, Bound::Unbounded));
        let most = if self.page == 0 {
            usize::MAX
        } else {
            self.page
        };
        let page: Vec<&&str> = rest.by_ref().take(most).collect();
        let mut body = String::from("<?xml version=\"1.0\"?><ListBucketResult>");
        match (rest.next(), page.last()) {
            (Some(_), Some(last)) => {
                body += "<IsTruncated>true</IsTruncated>";
                body += &format!("<NextContinuationToken>{last}</NextContinuationToken>");
            }
            _ => body += "<IsTruncated>false</IsTruncated>",
        }
        for entry in page {
            // With a delimiter, the marker of a folder below counts as the folder.
            let is_folder = entry.ends_with('/') && *entry != prefix;
            body += &match self.objects.get(*entry).filter(|_| !is_folder) {
                Some(bytes) => format!(
                    "<Contents><Key>{entry}</Key><LastModified>2025-01-01T00:00:00.000Z\
                     </LastModified><ETag>&quot;{}&quot;</ETag><Size>{}</Size></Contents>",
                    etag(bytes),
                    self.claims
                        .get(*entry)
                        .copied()
                        .unwrap_or(bytes.len() as u64)
                ),
                None => format!("<CommonPrefixes><Prefix>{entry}</Prefix></CommonPrefixes>"),
            };
        }
        body += "</ListBucketResult>";
        Answer::new("200 OK", body.into_bytes())
    }

    /// GetObject.
    fn object_part(&self, key: &str, request: &S3Request) -> Answer {
        let Some(bytes) = self.objects.get(key) else {
            let missing = "The specified key does not exist.";
            return Answer::refusal("404 Not Found", "NoSuchKey", missing);
        };
        let tag = format!("\"{}\"", etag(bytes));
        if request
            .if_match
            .as_ref()
            .is_some_and(|wanted| *wanted != tag)
        {
            let differs = "At least one of the pre-conditions you specified did not hold";
            return Answer::refusal("412 Precondition Failed", "PreconditionFailed", differs);
        }
        let mut answer = match request.range {
            None => Answer::new("200 OK", bytes.clone()),
            Some((first, _)) if first >= bytes.len() => {
                let code = "InvalidRange";
                return Answer::refusal("416 Range Not Satisfiable", code, "not satisfiable");
            }
            Some((first, last)) => {
                let last = last.min(bytes.len() - 1);
                let mut answer = Answer::new("206 Partial Content", bytes[first..=last].to_vec());
                answer.head += &format!("Content-Range: bytes {first}-{last}/{}\r\n", bytes.len());
                answer
            }
        };
        answer.head += &format!("ETag: {tag}\r\nLast-Modified: Wed, 01 Jan 2025 00:00:00 GMT\r\n");
        answer
    }
}

fn etag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

struct Answer {
    head: String,
    body: Vec<u8>,
    cut: Option<usize>,
}

impl Answer {
    fn new(status: &str, body: Vec<u8>) -> Self {
        let head = format!("HTTP/1.1 {status}\r\nServer: AmazonS3\r\n");
        let cut = None;
        Self { head, body, cut }
    }

    fn refusal(status: &str, code: &str, message: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
        );
        Self::new(status, body.into_bytes())
    }

    fn send(mut self, mut socket: &TcpStream, half: Option<Gate>) -> Result<()> {
        let length = self.body.len();
        write!(
            self.head,
            "Content-Length: {length}\r\nConnection: close\r\n\r\n"
        )?;
        socket.write_all(self.head.as_bytes())?;
        let end = self.cut.map_or(length, |cut| cut.min(length));
        let (first, second) = self.body[..end].split_at(end / 2);
        socket.write_all(first)?;
        if let Some(half) = half {
            half.wait();
        }
        Ok(socket.write_all(second)?)
    }
}

impl Shared {
    fn answer(&self, socket: &TcpStream) -> Result<()> {
        let request = S3Request::read(socket)?;
        let seen = self.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner)
            .push(request.clone());
        let obstacle = {
            let bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.obstacle(&request)
        };
        if let Some(gate) = obstacle {
            gate.wait();
        }
        let (answer, half) = {
            let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.answer(&request)
        };
        answer.send(socket, half)
    }
}

impl S3Request {
    fn read(socket: &TcpStream) -> Result<Self> {
        let mut lines = BufReader::new(socket).lines();
        let first = lines.next().context("an empty request")??;
        let path = first.split(' ').nth(1).unwrap_or_default();
        let mut request = Self {
            path: decoded(path),
            ..Self::default()
        };
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "authorization" => request.signed = signature(value),
                "if-match" => request.if_match = Some(value.into()),
                "range" => {
                    let range = value.strip_prefix("bytes=").and_then(|r| r.split_once('-'));
                    let (from, to) = range.context("a range of bytes")?;
                    request.range = Some((from.parse()?, to.parse()?));
                }
                _ => {}
            }
        }
        Ok(request)
    }
}

/// The text that a path and query stand for. No key of a test has a `&` or `?`.
fn decoded(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    // In a query a plus sign is a blank.
    let text = match query {
        "" => path.to_owned(),
        query => format!("{path}?{}", query.replace('+', " ")),
    };
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

/// Key and region of `… Credential=KEY/DATE/REGION/s3/aws4_request, …`.
fn signature(authorization: &str) -> Option<(String, String)> {
    let (_, scope) = authorization.split_once("Credential=")?;
    let mut parts = scope.split('/');
    let (key, region) = (parts.next()?, parts.nth(1)?);
    Some((key.into(), region.into()))
}

impl RunningS3 {
    /// The value of `AWS_ENDPOINT_URL`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was asked so far.
    pub fn requests(&self) -> Vec<S3Request> {
        let seen = self.shared.seen.lock();
        seen.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts an object, or another one in its place; `None` removes it.
    pub fn put(&self, key: &str, bytes: Option<&[u8]>) {
        let bucket = self.shared.bucket.lock();
        let objects = &mut bucket.unwrap_or_else(PoisonError::into_inner).objects;
        match bytes {
            Some(bytes) => objects.insert(key.into(), bytes.into()),
            None => objects.remove(key),
        };
    }
}

impl Drop for RunningS3 {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        // Wakes the thread that accepts, so that it sees the end; a failure means it has ended.
        let _ = TcpStream::connect(self.address);
    }
}
