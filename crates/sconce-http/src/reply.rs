//! The way back: from the engine's thread into the async world, never blocking the engine.

use std::time::{Duration, Instant};

use sconce_core::{Event, Reply};
use tokio::sync::Semaphore;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::error;

/// Beside its tokens a job sends its end; the rest is for safety.
const HEADROOM: usize = 8;

/// The engine's end; the client has gone when the receiver is dropped.
pub(crate) struct ChannelReply(Sender<Event>);

/// A channel with room for all events of a job of at most so many tokens, so that a slow client never stops the engine.
/// Memory is taken as events come, not in advance.
pub(crate) fn reply(most: usize) -> (ChannelReply, Receiver<Event>) {
    let room = most.saturating_add(HEADROOM).min(Semaphore::MAX_PERMITS);
    let (sender, receiver) = channel(room);
    (ChannelReply(sender), receiver)
}

/// The end of a worker that answers one job at a time: it may wait for a slow client.
pub(crate) struct PatientReply {
    sender: Sender<Event>,
    /// So long it waits.
    pause: Duration,
}

/// A channel with room for `ahead` parts of an answer; whoever sends more waits for the client,
/// and takes one that pauses for longer than `pause` for gone.
pub(crate) fn patient(ahead: usize, pause: Duration) -> (PatientReply, Receiver<Event>) {
    let (sender, receiver) = channel(ahead + HEADROOM);
    (PatientReply { sender, pause }, receiver)
}

impl Reply for PatientReply {
    fn send(&mut self, event: Event) -> bool {
        const LOOK: Duration = Duration::from_millis(2);
        let until = Instant::now() + self.pause;
        let mut event = event;
        loop {
            match self.sender.try_send(event) {
                Ok(()) => return true,
                Err(TrySendError::Closed(_)) => return false,
                Err(TrySendError::Full(_)) if Instant::now() >= until => return false,
                Err(TrySendError::Full(unsent)) => event = unsent,
            }
            std::thread::sleep(LOOK);
        }
    }

    fn gone(&self) -> bool {
        self.sender.is_closed()
    }

    fn ready(&self) -> bool {
        self.sender.capacity() > 0
    }
}

impl Reply for ChannelReply {
    fn send(&mut self, event: Event) -> bool {
        match self.0.try_send(event) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) => {
                error!("a job sent more events than its length allows; its answer is cut off");
                false
            }
        }
    }

    fn gone(&self) -> bool {
        self.0.is_closed()
    }
}

#[cfg(test)]
mod tests {
    use sconce_core::{ServeError, Token};

    use super::*;

    #[test]
    fn a_job_has_room_for_all_tokens_without_a_reader() {
        let (mut reply, mut receiver) = reply(3);
        let token = Token {
            id: 1,
            text: "a".into(),
            logprob: 0.0,
            spelled: String::new(),
            special: false,
            last: false,
            top: vec![],
        };
        for _ in 0..3 {
            assert!(reply.send(Event::Token(token.clone())));
        }
        assert!(reply.send(Event::Failed(ServeError::Draining)));
        assert_eq!(receiver.try_recv(), Ok(Event::Token(token)));
    }

    #[test]
    fn a_worker_waits_for_a_slow_client_and_not_for_one_that_stands_still() {
        let failed = || Event::Failed(ServeError::Draining);
        let (mut reply, mut receiver) = patient(1, Duration::from_secs(20));
        let reading = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(30));
            std::iter::from_fn(|| receiver.blocking_recv()).count()
        });
        assert!((0..40).all(|_| reply.send(failed())));
        drop(reply);
        assert_eq!(reading.join().unwrap(), 40);
        let (mut reply, _receiver) = patient(1, Duration::from_millis(10));
        assert!((0..1 + HEADROOM).all(|_| reply.send(failed())));
        assert!(!reply.send(failed()));
    }

    #[test]
    fn a_dropped_receiver_is_a_client_that_has_gone() {
        let (mut reply, receiver) = reply(usize::MAX);
        assert!(!reply.gone());
        drop(receiver);
        assert!(reply.gone() && !reply.send(Event::Failed(ServeError::Draining)));
    }
}
