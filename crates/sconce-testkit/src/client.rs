//! A blocking HTTP/1.1 client for tests: whole answers, streams line by line, raw bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;
use ureq::http::{HeaderMap, Request, Response};
use ureq::{Agent, Body};

/// Longer than any answer in a test takes, shorter than the patience of a person.
const LIMIT: Duration = Duration::from_secs(60);

/// Speaks to one server; statuses of 400 and above are answers, not errors.
pub struct Client {
    address: SocketAddr,
    agent: Agent,
}

impl Client {
    /// A client of the server at this address.
    pub fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .proxy(None)
            .build();
        Self {
            address,
            agent: config.into(),
        }
    }

    /// GET.
    pub fn get(&self, path: &str) -> Result<Answer> {
        Answer::read(self.send("GET", path, &[], Vec::new())?)
    }

    /// POST of a JSON value as `application/json`.
    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        let headers = [("content-type", "application/json")];
        Answer::read(self.send("POST", path, &headers, body.to_string().into_bytes())?)
    }

    /// POST of bytes with exactly these headers, beside those of the transport.
    pub fn post_bytes(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Answer> {
        Answer::read(self.send("POST", path, headers, body.to_vec())?)
    }

    /// Any method, with exactly these headers beside those of the transport; bodies are sent with
    /// the methods that have one.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        Answer::read(self.send(method, path, headers, body.to_vec())?)
    }

    /// POST of a JSON value whose answer is read as it comes.
    pub fn stream(&self, path: &str, body: &Value) -> Result<Stream> {
        let began = Instant::now();
        let headers = [("content-type", "application/json")];
        let response = self.send("POST", path, &headers, body.to_string().into_bytes())?;
        let (parts, body) = response.into_parts();
        Ok(Stream {
            status: parts.status.as_u16(),
            headers: parts.headers,
            began,
            reader: BufReader::new(body.into_reader()),
        })
    }

    /// A bare connection, for requests that no client library would send.
    pub fn raw(&self) -> Result<RawConnection> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_nodelay(true)?;
        Ok(RawConnection { socket })
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response<Body>> {
        let uri = format!("http://{}{path}", self.address);
        let request = headers.iter().fold(
            Request::builder().method(method).uri(uri),
            |request, (name, value)| request.header(*name, *value),
        );
        let answer = if matches!(method, "POST" | "PUT" | "PATCH") {
            self.agent.run(request.body(body)?)
        } else {
            self.agent.run(request.body(())?)
        };
        answer.with_context(|| format!("{method} {path}"))
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    fn read(response: Response<Body>) -> Result<Self> {
        let (parts, body) = response.into_parts();
        let mut bytes = Vec::new();
        body.into_reader().read_to_end(&mut bytes)?;
        Ok(Self {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: bytes,
        })
    }

    /// The body as text; wrong UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("not JSON: {}", self.text()))
    }

    /// A header as text, if it is there and is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// An answer that is read while it is sent; dropping it closes the connection.
pub struct Stream {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    began: Instant,
    reader: BufReader<ureq::BodyReader<'static>>,
}

impl Stream {
    /// The next line without its end, and when it came, counted from the request; `None` at the
    /// end.
    pub fn line(&mut self) -> Result<Option<(Duration, String)>> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line)?;
        let at = self.began.elapsed();
        Ok((count > 0).then(|| (at, line.trim_end_matches(['\r', '\n']).to_owned())))
    }

    /// All lines that are left.
    pub fn lines(&mut self) -> Result<Vec<(Duration, String)>> {
        std::iter::from_fn(|| self.line().transpose()).collect()
    }
}

/// A connection that sends what it is told.
pub struct RawConnection {
    socket: TcpStream,
}

impl RawConnection {
    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.socket.write_all(bytes)?)
    }

    /// Tells the server that nothing more will be sent.
    pub fn finish(&mut self) -> Result<()> {
        Ok(self.socket.shutdown(Shutdown::Write)?)
    }

    /// Reads until the server closes; a reset counts as closing.
    pub fn read_to_end(&mut self) -> Result<String> {
        let mut bytes = Vec::new();
        match self.socket.read_to_end(&mut bytes) {
            Err(error) if error.kind() != std::io::ErrorKind::ConnectionReset => Err(error.into()),
            _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// Reads until this text has come, and returns everything read so far.
    pub fn read_until(&mut self, text: &str) -> Result<String> {
        let mut read = Vec::new();
        let mut byte = [0];
        while !read.ends_with(text.as_bytes()) {
            self.socket.read_exact(&mut byte).with_context(|| {
                format!(
                    "{text:?} never came, only {:?}",
                    String::from_utf8_lossy(&read)
                )
            })?;
            read.push(byte[0]);
        }
        Ok(String::from_utf8_lossy(&read).into_owned())
    }
}
