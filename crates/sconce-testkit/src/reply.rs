//! A reply for tests: events go into a channel until the test says that the client has gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::Sender;

use sconce_core::{Event, Reply};

/// Sends events to a test.
pub struct Tell {
    /// Where they go.
    pub events: Sender<Event>,
    /// Whether the client has gone.
    pub gone: Arc<AtomicBool>,
}

impl Reply for Tell {
    fn send(&mut self, event: Event) -> bool {
        !self.gone() && self.events.send(event).is_ok()
    }

    fn gone(&self) -> bool {
        self.gone.load(SeqCst)
    }
}
