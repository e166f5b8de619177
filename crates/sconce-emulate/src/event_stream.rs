//! A container's body as AWS event stream: a `PayloadPart` for each piece that comes, and an
//! exception if it breaks off.
//!
//! Parts follow the container's chunks; the platform promises no such thing, and with `rechunk`
//! parts also end inside of lines and characters, which a good client bears.

use std::convert::Infallible;
use std::num::NonZeroUsize;

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use aws_smithy_types::str_bytes::StrBytes;
use axum::body::{Body, Bytes};
use futures_util::stream;
use http_body_util::BodyExt;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::call::Record;
use crate::failure::clip;
use crate::upstream::{Answer, chain};

/// The type of the HTTP body.
pub(crate) const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";
/// Longest part without `rechunk`; the container's chunks are mostly shorter.
const LONGEST_PART: NonZeroUsize = NonZeroUsize::new(1024 * 1024).expect("it is not zero");

/// When a stream ends, if its container does not end it.
pub(crate) struct Limits {
    pub(crate) deadline: Instant,
    /// Turns true when this stand-in waits for nothing any more.
    pub(crate) cut: watch::Receiver<bool>,
    pub(crate) rechunk: Option<NonZeroUsize>,
}

/// The body as the client gets it.
pub(crate) fn body(answer: Answer, limits: Limits, record: Record) -> Body {
    let running = Running {
        answer,
        cutter: Cutter {
            length: limits.rechunk.unwrap_or(LONGEST_PART),
            offset: 0,
        },
        limits,
        record,
    };
    Body::from_stream(stream::unfold(Some(running), |running| async {
        let (bytes, rest) = running?.next().await?;
        Some((Ok::<_, Infallible>(bytes), rest))
    }))
}

struct Running {
    answer: Answer,
    limits: Limits,
    cutter: Cutter,
    record: Record,
}

/// What comes next from the container, or instead of it.
enum Event {
    Frame(Option<Result<Frame<Bytes>, hyper::Error>>),
    TooLate,
    Cut,
}

impl Running {
    /// The next bytes, and the stream if it goes on; `None` at the end.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        loop {
            match self.event().await {
                Event::TooLate => return Some(self.too_late()),
                Event::Cut => return Some(self.cut_off()),
                Event::Frame(None) => {
                    let outcome = format!("200, {} bytes in a stream", self.cutter.offset);
                    self.record.answered(&outcome);
                    return None;
                }
                Event::Frame(Some(Err(cause))) => return Some(self.broken(&chain(&cause))),
                // Trailers have no place in the API.
                Event::Frame(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    let parts: Vec<u8> = self
                        .cutter
                        .cut(data)
                        .flat_map(|part| payload(&part))
                        .collect();
                    if !parts.is_empty() {
                        return Some((parts.into(), Some(self)));
                    }
                }
            }
        }
    }

    async fn event(&mut self) -> Event {
        tokio::select! {
            frame = self.answer.body.frame() => Event::Frame(frame),
            () = sleep_until(self.limits.deadline) => Event::TooLate,
            _ = self.limits.cut.wait_for(|cut| *cut) => Event::Cut,
        }
    }

    fn too_late(self) -> (Bytes, Option<Self>) {
        let text = "the model did not finish the stream within the timeout period";
        self.model_stream_error("ModelInvocationTimeExceeded", text)
    }

    fn broken(self, cause: &str) -> (Bytes, Option<Self>) {
        let text = format!("the connection to the model broke off: {cause}");
        self.model_stream_error("StreamBroken", &text)
    }

    fn model_stream_error(self, code: &str, text: &str) -> (Bytes, Option<Self>) {
        let after = self.cutter.offset;
        self.record
            .failed(&format!("{code} after {after} bytes: {text}"));
        let body = json!({"ErrorCode": code, "Message": clip(text)});
        (exception("ModelStreamError", &body).into(), None)
    }

    fn cut_off(self) -> (Bytes, Option<Self>) {
        let text = "this stand-in for the endpoint ends and waits no longer";
        self.record
            .failed(&format!("InternalStreamFailure: {text}"));
        (
            exception("InternalStreamFailure", &json!({"Message": text})).into(),
            None,
        )
    }
}

/// Cuts a stream at multiples of a length, without holding anything back.
struct Cutter {
    length: NonZeroUsize,
    offset: usize,
}

impl Cutter {
    fn cut(&mut self, mut bytes: Bytes) -> impl Iterator<Item = Bytes> {
        std::iter::from_fn(move || {
            let room = self.length.get() - self.offset % self.length;
            let part = bytes.split_to(room.min(bytes.len()));
            self.offset += part.len();
            (!part.is_empty()).then_some(part)
        })
    }
}

/// A frame with bytes of the answer.
fn payload(part: &Bytes) -> Vec<u8> {
    let headers = [
        (":event-type", "PayloadPart"),
        (":content-type", "application/octet-stream"),
        (":message-type", "event"),
    ];
    frame(&headers, part.clone())
}

/// A frame that ends the stream with an error.
fn exception(name: &'static str, body: &Value) -> Vec<u8> {
    let headers = [
        (":exception-type", name),
        (":content-type", "application/json"),
        (":message-type", "exception"),
    ];
    frame(&headers, body.to_string().into())
}

fn frame(headers: &[(&'static str, &'static str)], payload: Bytes) -> Vec<u8> {
    let headers = headers.iter().map(|&(name, value)| {
        let text = |text| StrBytes::from(text);
        Header::new(text(name), HeaderValue::String(text(value)))
    });
    let message = Message::new_from_parts(headers.collect(), payload);
    let mut bytes = Vec::new();
    write_message_to(&message, &mut bytes)
        .expect("headers and parts are far below the limits of a frame");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame written by hand from the description of the format, checksums included.
    #[test]
    fn frames_have_lengths_checksums_headers_and_payload_in_their_places() {
        let bytes = exception("ModelStreamError", &json!({}));
        let mut header = Vec::new();
        for (name, value) in [
            (":exception-type", "ModelStreamError"),
            (":content-type", "application/json"),
            (":message-type", "exception"),
        ] {
            header.push(u8::try_from(name.len()).unwrap());
            header.extend_from_slice(name.as_bytes());
            header.extend_from_slice(&[7, 0, u8::try_from(value.len()).unwrap()]);
            header.extend_from_slice(value.as_bytes());
        }
        let total = u32::try_from(12 + header.len() + 2 + 4).unwrap();
        let mut wanted = total.to_be_bytes().to_vec();
        wanted.extend_from_slice(&u32::try_from(header.len()).unwrap().to_be_bytes());
        wanted.extend_from_slice(&crc32(&wanted).to_be_bytes());
        wanted.extend_from_slice(&header);
        wanted.extend_from_slice(b"{}");
        wanted.extend_from_slice(&crc32(&wanted).to_be_bytes());
        assert_eq!(bytes, wanted);
    }

    /// CRC-32 of IEEE 802.3, bit by bit.
    fn crc32(bytes: &[u8]) -> u32 {
        let step = |sum: u32| (sum >> 1) ^ if sum & 1 == 1 { 0xEDB8_8320 } else { 0 };
        let byte = |sum: u32, byte: &u8| (0..8).fold(sum ^ u32::from(*byte), |sum, _| step(sum));
        !bytes.iter().fold(!0, byte)
    }

    #[test]
    fn parts_end_at_every_multiple_whatever_the_chunks_are() {
        let chunks = ["ab", "", "cdefg", "h", "ijklmno"];
        let cut = |length: usize| {
            let length = NonZeroUsize::new(length).unwrap();
            let mut cutter = Cutter { length, offset: 0 };
            let mut parts = Vec::new();
            for chunk in chunks {
                parts.extend(cutter.cut(Bytes::from_static(chunk.as_bytes())));
            }
            let texts = parts
                .iter()
                .map(|part| String::from_utf8_lossy(part).into_owned());
            texts.collect::<Vec<_>>()
        };
        assert_eq!(cut(3), ["ab", "c", "def", "g", "h", "i", "jkl", "mno"]);
        assert_eq!(cut(1).len(), 15);
        assert_eq!(cut(100), ["ab", "cdefg", "h", "ijklmno"]);
    }
}
