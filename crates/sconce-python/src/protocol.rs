//! DJL Serving's protocol between server and worker, big-endian throughout.
//!
//! | to the worker | |
//! | --- | --- |
//! | int16 | number of properties |
//! | for each | text key, text value |
//! | int16 | number of contents |
//! | for each | text key, int32 length, bytes |
//!
//! | to the server | |
//! | --- | --- |
//! | int16, text | status, message |
//! | int16 | number of properties, then as above |
//! | int16 | number of contents, then as above; -1: a stream follows |
//! | of a stream | byte (1: more follow, 0: the last), int32 length, bytes |
//!
//! A text is an int32 length and UTF-8; the length -1 stands for none. Lengths are the word of a
//! process that runs foreign code: memory is taken as bytes arrive, and never more than the limit.

use std::io::{self, Read};

use bytes::Bytes;
use thiserror::Error;

/// Most values of one list: the counter is a signed number of 16 bits.
const MOST_VALUES: usize = i16::MAX as usize;
/// A message may have so many times the limit of one of its values.
const VALUES_AT_THE_LIMIT: usize = 16;

/// A request, or a batch of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Names and values.
    pub properties: Vec<(String, String)>,
    /// Keys and bytes.
    pub content: Vec<(String, Bytes)>,
}

/// An answer, or the head of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status that the handler chose.
    pub code: i16,
    /// Its reason.
    pub message: Option<String>,
    /// Names and values; without either: an empty text.
    pub properties: Vec<(String, String)>,
    /// What was answered.
    pub content: Content,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Keys and bytes.
    Whole(Vec<(Option<String>, Bytes)>),
    /// Frames follow.
    Stream,
}

/// A part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Whether it is the last one.
    pub last: bool,
    /// Its bytes.
    pub data: Bytes,
}

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ProtocolError {
    /// The connection ended or failed within a message.
    #[error("the connection broke off: {0}")]
    Broken(String),
    /// A list is longer than its counter can say.
    #[error("{count} {what} are more than the {MOST_VALUES} that a message can hold")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// A value is longer than it may be.
    #[error(
        "{what} of {length} bytes exceeds the limit of {limit} bytes (MAX_NETTY_BUFFER_SIZE); \
         send it in parts (add_stream_content), or raise the limit"
    )]
    TooLong {
        /// Which value.
        what: &'static str,
        /// What the message says.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A number that has no meaning.
    #[error("{what} is {value}")]
    Meaningless {
        /// Which number.
        what: &'static str,
        /// The number.
        value: i64,
    },
}

impl From<io::Error> for ProtocolError {
    fn from(error: io::Error) -> Self {
        Self::Broken(error.to_string())
    }
}

type Result<T> = std::result::Result<T, ProtocolError>;

impl Request {
    /// The message.
    ///
    /// # Errors
    /// [`ProtocolError::TooMany`] or [`ProtocolError::TooLong`] if the counters cannot say it.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let size = |(key, value): &(String, Bytes)| key.len() + value.len() + 8;
        let mut out = Vec::with_capacity(self.content.iter().map(size).sum::<usize>() + 1024);
        write_count(&mut out, "properties", self.properties.len())?;
        for (key, value) in &self.properties {
            write_bytes(&mut out, key.as_bytes())?;
            write_bytes(&mut out, value.as_bytes())?;
        }
        write_count(&mut out, "contents", self.content.len())?;
        for (key, value) in &self.content {
            write_bytes(&mut out, key.as_bytes())?;
            write_bytes(&mut out, value)?;
        }
        Ok(out)
    }
}

fn write_count(out: &mut Vec<u8>, what: &'static str, count: usize) -> Result<()> {
    let short = i16::try_from(count).map_err(|_| ProtocolError::TooMany { what, count })?;
    out.extend(short.to_be_bytes());
    Ok(())
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<()> {
    let too_long = |_| ProtocolError::TooLong {
        what: "a value",
        length: bytes.len(),
        limit: i32::MAX as usize,
    };
    out.extend(i32::try_from(bytes.len()).map_err(too_long)?.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// Reads an answer; no value of it may have more than `limit` bytes.
///
/// # Errors
/// What is wrong with it; the connection is of no use any more then.
pub fn read_answer(source: &mut impl Read, limit: usize) -> Result<Answer> {
    let mut reader = Reader::new(source, limit);
    let code = reader.short()?;
    let message = reader.text("the message")?;
    let mut properties = Vec::new();
    for _ in 0..reader.count("the number of properties")? {
        let key = reader.text("the name of a property")?;
        let value = reader.text("a property")?;
        properties.push((key.unwrap_or_default(), value.unwrap_or_default()));
    }
    let content = match reader.short()? {
        -1 => Content::Stream,
        count => {
            let count = natural("the number of contents", count.into())?;
            let contents = (0..count).map(|_| reader.content());
            Content::Whole(contents.collect::<Result<_>>()?)
        }
    };
    Ok(Answer {
        code,
        message,
        properties,
        content,
    })
}

/// Reads a part of a stream, of at most `limit` bytes.
///
/// # Errors
/// As for an answer.
pub fn read_frame(source: &mut impl Read, limit: usize) -> Result<Frame> {
    let mut reader = Reader::new(source, limit);
    let [more] = reader.array()?;
    if more > 1 {
        let what = "the first byte of a part of a stream";
        return Err(ProtocolError::Meaningless {
            what,
            value: more.into(),
        });
    }
    let length = natural("the length of a part of a stream", reader.int()?.into())?;
    Ok(Frame {
        last: more == 0,
        data: reader.bytes("a part of a stream", length)?.into(),
    })
}

/// The pairs of a payload as `Output.binary_encode` writes it; `None`: it is no such payload.
pub fn read_payload(bytes: &[u8]) -> Option<Vec<(String, String)>> {
    let mut rest = bytes;
    let mut reader = Reader::new(&mut rest, bytes.len());
    let mut pairs = Vec::new();
    for _ in 0..reader.count("the number of values").ok()? {
        let key = reader.text("a key").ok()??;
        pairs.push((key, reader.text("a value").ok()??));
    }
    rest.is_empty().then_some(pairs)
}

fn natural(what: &'static str, value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| ProtocolError::Meaningless { what, value })
}

/// Reads numbers and values within limits.
struct Reader<'a, R> {
    source: &'a mut R,
    /// Of one value.
    limit: usize,
    /// Of all further values together.
    left: usize,
}

impl<'a, R: Read> Reader<'a, R> {
    fn new(source: &'a mut R, limit: usize) -> Self {
        Self {
            source,
            limit,
            left: limit.saturating_mul(VALUES_AT_THE_LIMIT),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn short(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn int(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn count(&mut self, what: &'static str) -> Result<usize> {
        let count = self.short()?;
        natural(what, count.into())
    }

    fn content(&mut self) -> Result<(Option<String>, Bytes)> {
        let key = self.text("the key of a content")?;
        let length = natural("the length of a content", self.int()?.into())?;
        Ok((key, self.bytes("a content", length)?.into()))
    }

    fn text(&mut self, what: &'static str) -> Result<Option<String>> {
        let length = self.int()?;
        if length == -1 {
            return Ok(None);
        }
        let bytes = self.bytes(what, natural(what, length.into())?)?;
        let lossy = |error: std::string::FromUtf8Error| {
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        };
        Ok(Some(String::from_utf8(bytes).unwrap_or_else(lossy)))
    }

    fn bytes(&mut self, what: &'static str, length: usize) -> Result<Vec<u8>> {
        if length > self.limit.min(self.left) {
            return Err(ProtocolError::TooLong {
                what,
                length,
                limit: self.limit,
            });
        }
        self.left -= length;
        let mut bytes = Vec::new();
        let read = Read::take(&mut *self.source, length as u64).read_to_end(&mut bytes)?;
        if read < length {
            let text = format!("after {read} of {length} bytes of {what}");
            return Err(ProtocolError::Broken(text));
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests;
