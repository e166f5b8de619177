//! The way back: from the engine's thread into the async world, never blocking the engine.

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
    fn a_dropped_receiver_is_a_client_that_has_gone() {
        let (mut reply, receiver) = reply(usize::MAX);
        assert!(!reply.gone());
        drop(receiver);
        assert!(reply.gone() && !reply.send(Event::Failed(ServeError::Draining)));
    }
}
