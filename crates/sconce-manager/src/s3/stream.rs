//! Numbers straight from S3 into memory: each rank has the ranges of bytes fetched that it keeps, a few ahead of the one
//! that it reads, and nothing is written to the disk.
//!
//! What several ranks read, because no request could be for the columns of one, is fetched once and stays until the last
//! has read it. What nobody announced, or what is wanted again later, is fetched when it is asked for.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use sconce_config::S3Model;
use sconce_core::Observer;
use sconce_engine::{Numbers, Part};
use tokio::sync::Notify;

use super::bucket::Bucket;
use super::error::{Problem, S3Error};
use super::fetch::{REQUESTS, parts};
use crate::coming::Fetching;
use crate::error::ManagerError;

/// Bytes that are fetched before they are read, at most; more only for who waits.
const AHEAD: u64 = 256 << 20;
/// The same part is kept for a second reading of a rank if that is so near.
const NEAR: usize = 8;
/// The time between two signs of life of who waits.
const TICK: Duration = Duration::from_millis(500);

/// Ranges of objects, fetched in the order in which they will be read.
pub(super) struct Stream {
    model: S3Model,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something has come, or nothing more will.
    arrived: Condvar,
    /// Something is wanted.
    wanted: Notify,
}

#[derive(Default)]
struct State {
    pieces: HashMap<Part, Piece>,
    /// By their places in the ranks' lists, so that all ranks come forward together.
    expected: BTreeMap<Place, Part>,
    /// Those that somebody waits for.
    urgent: VecDeque<Part>,
    /// How many were announced or asked for; tells apart what has the same place in two lists.
    count: u64,
    /// Bytes that were begun and are not read yet.
    held: u64,
    failure: Option<Problem>,
    is_ended: bool,
}

type Place = (usize, u64);

/// A part that somebody will read.
struct Piece {
    readers: usize,
    came: Came,
}

enum Came {
    /// Nobody has begun with it; where it stands in the list.
    NotYet(Place),
    /// Some bytes are there, so many are not.
    Partly(Vec<u8>, u64),
    Whole(Arc<Vec<u8>>),
}

/// Some bytes of a part, as one request asks for them.
struct Request {
    part: Part,
    bytes: Range<u64>,
}

impl Stream {
    /// Has a thread fetch from the bucket what is wanted.
    pub(super) fn begin(model: &S3Model, bucket: Bucket) -> Result<Self, Problem> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            arrived: Condvar::new(),
            wanted: Notify::new(),
        });
        let fetcher = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("stream".into());
        let thread = thread.spawn(move || bucket.wait(fetcher.fetch(&bucket)));
        thread.map_err(|cause| Problem::Runtime(cause.to_string()))?;
        Ok(Self {
            model: model.clone(),
            shared,
        })
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fetches until nobody wants anything any more, or something does not come.
    async fn fetch(&self, bucket: &Bucket) {
        let mut flying = FuturesUnordered::new();
        let mut waiting: VecDeque<Request> = VecDeque::new();
        loop {
            if self.take(&mut waiting) {
                return;
            }
            while flying.len() < REQUESTS
                && let Some(request) = waiting.pop_front()
            {
                flying.push(async move {
                    let file = bucket
                        .files()
                        .iter()
                        .find(|file| file.name == *request.part.file);
                    let bytes = match file {
                        Some(file) => bucket.part(file, request.bytes.clone()).await,
                        None => Err(Problem::unlisted(&request.part.file)),
                    };
                    (request, bytes)
                });
            }
            tokio::select! {
                Some((request, bytes)) = flying.next() => match bytes {
                    Ok(bytes) => self.put(&request, &bytes),
                    Err(problem) => return self.fail(problem),
                },
                () = self.wanted.notified() => {}
            }
        }
    }

    /// Takes what is to be fetched next: first what somebody waits for, then as much ahead as may be. True: it is over.
    fn take(&self, waiting: &mut VecDeque<Request>) -> bool {
        let mut state = self.lock();
        let state = &mut *state;
        while let Some(part) = state.urgent.pop_front() {
            for request in state.begun(&part).into_iter().rev() {
                waiting.push_front(request);
            }
        }
        while waiting.len() < REQUESTS && (state.held < AHEAD || state.held == 0) {
            let Some((_, part)) = state.expected.pop_first() else {
                break;
            };
            waiting.extend(state.begun(&part));
        }
        state.is_ended
    }

    fn put(&self, request: &Request, bytes: &[u8]) {
        let mut state = self.lock();
        let Some(piece) = state.pieces.get_mut(&request.part) else {
            return;
        };
        if let Came::Partly(whole, left) = &mut piece.came {
            let begin = (request.bytes.start - request.part.bytes.start) as usize;
            whole[begin..begin + bytes.len()].copy_from_slice(bytes);
            *left = left.saturating_sub(bytes.len() as u64);
            if *left == 0 {
                piece.came = Came::Whole(Arc::new(std::mem::take(whole)));
                self.arrived.notify_all();
            }
        }
    }

    fn fail(&self, problem: Problem) {
        self.lock().failure.get_or_insert(problem);
        self.arrived.notify_all();
    }

    /// Waits for a part.
    fn whole(&self, part: &Part, alive: &dyn Fn()) -> Result<Arc<Vec<u8>>, Problem> {
        let mut state = self.lock();
        state.want(part);
        self.wanted.notify_one();
        loop {
            if let Some(problem) = &state.failure {
                return Err(problem.clone());
            }
            if let Some(Came::Whole(bytes)) = state.pieces.get(part).map(|piece| &piece.came) {
                return Ok(Arc::clone(bytes));
            }
            if state.is_ended {
                return Err(Problem::Abandoned);
            }
            // Another who read it, and was not announced either, has let it go.
            if !state.pieces.contains_key(part) {
                state.want(part);
                self.wanted.notify_one();
            }
            let waited = self.arrived.wait_timeout(state, TICK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            alive();
        }
    }

    /// A part has been read.
    fn release(&self, part: &Part) {
        let mut state = self.lock();
        if let Some(piece) = state.pieces.get_mut(part) {
            piece.readers = piece.readers.saturating_sub(1);
            if piece.readers == 0 {
                let is_begun = !matches!(piece.came, Came::NotYet(_));
                state.pieces.remove(part);
                if is_begun {
                    state.held -= part.bytes.end - part.bytes.start;
                }
            }
        }
        self.wanted.notify_one();
    }
}

impl State {
    /// Somebody waits for a part.
    fn want(&mut self, part: &Part) {
        match self.pieces.get(part).map(|piece| &piece.came) {
            Some(Came::NotYet(place)) => {
                self.expected.remove(place);
                self.urgent.push_back(part.clone());
            }
            Some(_) => {}
            None => {
                self.add(part.clone(), usize::MAX);
                self.urgent.push_back(part.clone());
            }
        }
    }

    /// One more reads a part; where it stands in the list, if it is new there.
    fn add(&mut self, part: Part, at: usize) -> Option<Place> {
        self.count += 1;
        let place = (at, self.count);
        match self.pieces.get_mut(&part) {
            Some(piece) => {
                piece.readers += 1;
                None
            }
            None => {
                let came = Came::NotYet(place);
                self.pieces.insert(part, Piece { readers: 1, came });
                Some(place)
            }
        }
    }

    /// Begins with a part.
    fn begun(&mut self, part: &Part) -> Vec<Request> {
        let Some(piece) = self.pieces.get_mut(part) else {
            return vec![];
        };
        let Came::NotYet(_) = piece.came else {
            return vec![];
        };
        let size = part.bytes.end - part.bytes.start;
        piece.came = Came::Partly(vec![0; size as usize], size);
        self.held += size;
        let requests = parts(size).map(|range| Request {
            part: part.clone(),
            bytes: part.bytes.start + range.start..part.bytes.start + range.end,
        });
        requests.collect()
    }
}

impl Numbers for Stream {
    fn read(&self, part: &Part, target: &mut [u8], alive: &dyn Fn()) -> Result<(), String> {
        let bytes = self.shared.whole(part, alive);
        target.copy_from_slice(&bytes.map_err(|problem| problem.to_string())?);
        self.shared.release(part);
        Ok(())
    }

    fn expect(&self, list: Vec<Part>) {
        let mut last: HashMap<Part, usize> = HashMap::new();
        let mut state = self.shared.lock();
        for (at, part) in list.into_iter().enumerate() {
            let before = last.insert(part.clone(), at);
            if before.is_some_and(|before| at - before > NEAR) {
                continue;
            }
            if let Some(place) = state.add(part.clone(), at) {
                state.expected.insert(place, part);
            }
        }
        drop(state);
        self.shared.wanted.notify_one();
    }
}

impl Fetching for Stream {
    fn numbers(self: Arc<Self>) -> Arc<dyn Numbers> {
        self
    }

    fn kept(&self) -> Option<PathBuf> {
        None
    }

    fn wait(&self, _: &Observer) -> Result<(), ManagerError> {
        Ok(())
    }

    fn failure(&self) -> Option<ManagerError> {
        let problem = self.shared.lock().failure.clone()?;
        Some(ManagerError::S3(Box::new(S3Error::new(
            &self.model,
            problem,
        ))))
    }

    fn abandon(&self) {
        self.shared.lock().is_ended = true;
        self.shared.wanted.notify_one();
        self.shared.arrived.notify_all();
    }
}
