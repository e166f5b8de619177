//! An answer on its way to one of several clients that a worker has at once: a slow one must not
//! hold up the others, so what it does not take yet is kept for it, within a bound.

use std::collections::VecDeque;

use sconce_core::{Event, RawEvent, ServeError};

use crate::queue::Waiting;

/// A client that is so many bytes behind is given up.
const MOST_BYTES: usize = 64 << 20;

/// A job, and the parts of its answer that its client has not taken.
pub(crate) struct Outbox {
    job: Waiting,
    kept: VecDeque<RawEvent>,
    bytes: usize,
}

impl Outbox {
    pub(crate) fn new(job: Waiting) -> Self {
        Self {
            job,
            kept: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Sends a part, or keeps it; false: nobody wants more.
    pub(crate) fn push(&mut self, event: RawEvent) -> bool {
        if let RawEvent::Chunk(chunk) = &event {
            self.bytes += chunk.len();
        }
        self.kept.push_back(event);
        self.flush() && self.bytes <= MOST_BYTES
    }

    /// Sends what the client takes now; false: nobody wants more.
    pub(crate) fn flush(&mut self) -> bool {
        while self.job.reply.ready() {
            let Some(event) = self.kept.pop_front() else {
                break;
            };
            if let RawEvent::Chunk(chunk) = &event {
                self.bytes -= chunk.len();
            }
            if !self.job.reply.send(Event::Raw(event)) {
                return false;
            }
        }
        !self.is_gone()
    }

    /// Whether all parts have been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Whether the client has left.
    pub(crate) fn is_gone(&self) -> bool {
        self.job.reply.gone()
    }

    pub(crate) fn job(&self) -> &Waiting {
        &self.job
    }

    pub(crate) fn fail(self, error: ServeError) {
        self.job.fail(error);
    }

    pub(crate) fn into_job(self) -> Waiting {
        self.job
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    use sconce_core::{JobId, RawInput, Reply};

    use super::*;

    /// A client that takes so many parts.
    struct Slow {
        takes: Arc<Mutex<usize>>,
        taken: Arc<Mutex<Vec<Event>>>,
    }

    impl Reply for Slow {
        fn send(&mut self, event: Event) -> bool {
            *self.takes.lock().unwrap() -= 1;
            self.taken.lock().unwrap().push(event);
            true
        }

        fn gone(&self) -> bool {
            false
        }

        fn ready(&self) -> bool {
            *self.takes.lock().unwrap() > 0
        }
    }

    #[test]
    fn a_slow_client_gets_all_in_order_and_one_far_behind_is_given_up() {
        let (takes, taken) = (Arc::new(Mutex::new(1)), Arc::default());
        let reply = Slow {
            takes: Arc::clone(&takes),
            taken: Arc::clone(&taken),
        };
        let mut outbox = Outbox::new(Waiting {
            id: JobId(1),
            input: RawInput::default(),
            reply: Box::new(reply),
            deadline: Instant::now(),
        });
        for part in ["a", "b", "c"] {
            assert!(outbox.push(RawEvent::Chunk(part.into())));
        }
        assert_eq!(taken.lock().unwrap().len(), 1);
        *takes.lock().unwrap() = 9;
        assert!(outbox.flush() && outbox.is_empty());
        let wanted = ["a", "b", "c"].map(|part| Event::Raw(RawEvent::Chunk(part.into())));
        assert_eq!(*taken.lock().unwrap(), wanted);
        *takes.lock().unwrap() = 0;
        assert!(!outbox.push(RawEvent::Chunk(vec![0; MOST_BYTES + 1].into())));
    }
}
