//! Answers that wait for their clients, in memory, bounded in number and age.
//!
//! A result is a list of items, one for each part of a stream, and complete or not. The job's
//! task writes, polls read. A result that is dropped takes its job along.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use uuid::Uuid;

use crate::head::Head;
use crate::settings::ResultLimits;

/// Names a place in a result: a UUID in 36 characters, then the number of items already taken,
/// which may be left out when it is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) id: Uuid,
    pub(crate) taken: usize,
}

const UUID_LENGTH: usize = 36;

impl FromStr for Token {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (id, taken) = text.split_at_checked(UUID_LENGTH).ok_or(())?;
        let digits = taken.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Self {
            id: Uuid::try_parse(id).map_err(|_| ())?,
            taken: match taken {
                "" => 0,
                _ if digits => taken.parse().map_err(|_| ())?,
                _ => return Err(()),
            },
        })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.taken {
            0 => write!(f, "{}", self.id),
            taken => write!(f, "{}{taken}", self.id),
        }
    }
}

/// What a poll finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Page {
    /// No new item yet.
    Pending,
    /// New items end to end, and where to go on unless that was all.
    Items(Head, Bytes, Option<Token>),
}

/// All results.
pub(crate) struct Results {
    limits: ResultLimits,
    entries: Mutex<HashMap<Uuid, Entry>>,
}

struct Entry {
    touched: Instant,
    head: Option<Head>,
    items: Vec<Bytes>,
    complete: bool,
    job: Option<AbortHandle>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(job) = &self.job {
            job.abort();
        }
    }
}

impl Results {
    pub(crate) fn new(limits: ResultLimits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            entries: Mutex::default(),
        })
    }

    /// A new result without items. If there is no room, the one untouched for longest goes.
    pub(crate) fn open(self: &Arc<Self>) -> Writer {
        let id = Uuid::new_v4();
        let mut entries = self.lock();
        if entries.len() >= self.limits.capacity.max(1) {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.touched);
            if let Some(id) = oldest.map(|(id, _)| *id) {
                tracing::warn!("result {id} gives way to a newer one");
                entries.remove(&id);
            }
        }
        let entry = Entry {
            touched: Instant::now(),
            head: None,
            items: Vec::new(),
            complete: false,
            job: None,
        };
        entries.insert(id, entry);
        drop(entries);
        Writer {
            results: Arc::clone(self),
            id,
        }
    }

    /// Hands the result of this id its job, which ends with it.
    pub(crate) fn bind(&self, id: Uuid, job: AbortHandle) {
        match self.lock().get_mut(&id) {
            Some(entry) => entry.job = Some(job),
            None => job.abort(),
        }
    }

    /// At most so many items from there on; `None` if there is no such place.
    pub(crate) fn page(&self, token: Token, most: usize) -> Option<Page> {
        let mut entries = self.lock();
        let entry = entries.get_mut(&token.id)?;
        entry.touched = Instant::now();
        let new = entry.items.get(token.taken..)?;
        let new = &new[..new.len().min(most)];
        let taken = token.taken + new.len();
        let ended = entry.complete && taken == entry.items.len();
        match &entry.head {
            Some(head) if ended || !new.is_empty() => {
                let next = (!ended).then_some(Token { taken, ..token });
                Some(Page::Items(head.clone(), new.concat().into(), next))
            }
            _ => Some(Page::Pending),
        }
    }

    /// How much longer a result is kept; `None` once it is gone.
    fn left(&self, id: Uuid) -> Option<Duration> {
        let mut entries = self.lock();
        let left = self
            .limits
            .age
            .checked_sub(entries.get(&id)?.touched.elapsed());
        if left.is_none() {
            entries.remove(&id);
        }
        left
    }

    /// A panic in here leaves the map whole.
    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The side of a result that the job has. Without [`Writer::finish`] the result is dropped.
pub(crate) struct Writer {
    results: Arc<Results>,
    pub(crate) id: Uuid,
}

impl Writer {
    /// Says how the answer begins.
    pub(crate) fn begin(&self, head: Head) {
        self.update(|entry| entry.head = Some(head));
    }

    /// Adds an item; one without bytes is none.
    pub(crate) fn push(&self, item: Bytes) {
        if !item.is_empty() {
            self.update(|entry| entry.items.push(item));
        }
    }

    /// Says that all items are there, and keeps them for as long as somebody asks.
    pub(crate) async fn finish(self) {
        self.update(|entry| entry.complete = true);
        while let Some(left) = self.results.left(self.id) {
            tokio::time::sleep(left.max(Duration::from_millis(1))).await;
        }
    }

    fn update(&self, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.results.lock().get_mut(&self.id) {
            entry.touched = Instant::now();
            change(entry);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.results.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
