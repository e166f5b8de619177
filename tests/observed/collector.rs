//! A collector of traces: it takes what is posted to `/v1/traces` and decodes it as OTLP's protobuf says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// Listens until the test ends; what it got.
pub(super) struct Collector {
    address: SocketAddr,
    got: Arc<Mutex<Got>>,
}

#[derive(Default)]
struct Got {
    headers: Vec<(String, String)>,
    requests: Vec<ExportTraceServiceRequest>,
}

impl Collector {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let got = Arc::new(Mutex::new(Got::default()));
        // It ends with the last handle of the collector.
        let kept = Arc::downgrade(&got);
        std::thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let Some(got) = kept.upgrade() else {
                    return;
                };
                serve(&socket, &got);
            }
        });
        Self { address, got }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A header of the last post.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        let got = self.got.lock().unwrap();
        let found = got.headers.iter().find(|(header, _)| header == name)?;
        Some(found.1.clone())
    }

    /// What the sender says of itself.
    pub(super) fn resource(&self) -> Vec<KeyValue> {
        let got = self.got.lock().unwrap();
        let first = &got.requests[0].resource_spans[0];
        first.resource.as_ref().unwrap().attributes.clone()
    }

    /// Waits for as many spans.
    pub(super) fn spans(&self, count: usize) -> Vec<Span> {
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let spans: Vec<Span> = {
                let got = self.got.lock().unwrap();
                let resources = got.requests.iter().flat_map(|one| &one.resource_spans);
                let scopes = resources.flat_map(|one| &one.scope_spans);
                scopes.flat_map(|one| one.spans.clone()).collect()
            };
            if spans.len() >= count {
                return spans;
            }
            assert!(Instant::now() < end, "only {spans:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Answers the posts of a connection.
fn serve(socket: &TcpStream, got: &Mutex<Got>) {
    let mut reader = BufReader::new(socket);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        assert!(line.starts_with("POST /v1/traces HTTP/1.1"), "{line}");
        let mut headers = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.push((name.to_lowercase(), value.to_owned()));
        }
        let header = |name: &str| {
            let found = headers.iter().find(|(header, _)| header == name);
            found.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        assert_eq!(header("content-type"), "application/x-protobuf");
        let mut body = vec![0; header("content-length").parse().unwrap()];
        reader.read_exact(&mut body).unwrap();
        let request = ExportTraceServiceRequest::decode(&*body).unwrap();
        let mut got = got.lock().unwrap();
        got.headers = headers;
        got.requests.push(request);
        drop(got);
        let answer =
            "HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        let mut socket = socket;
        socket.write_all(answer.as_bytes()).unwrap();
    }
}

/// The value of an attribute, as text.
pub(super) fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|pair| pair.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        other => Some(format!("{other:?}")),
    }
}
