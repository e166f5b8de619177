//! Counts requests in flight, so that the server can end when the last one has landed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sconce_core::ServeError;
use tokio::sync::watch;

/// The requests in flight, and whether more are let in.
#[derive(Default)]
pub(crate) struct Flights {
    draining: AtomicBool,
    count: watch::Sender<usize>,
}

/// A request in flight; it has landed when this is dropped.
pub(crate) struct Flight(Arc<Flights>);

impl Flights {
    /// Lets a request in, unless the server is shutting down.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Flight, ServeError> {
        // Counted before looking: `land` must see whoever still saw an open door.
        self.count.send_modify(|count| *count += 1);
        let flight = Flight(Arc::clone(self));
        if self.draining.load(Ordering::SeqCst) {
            Err(ServeError::Draining)
        } else {
            Ok(flight)
        }
    }

    /// Lets nobody in any more and waits until the last one has landed.
    pub(crate) async fn land(&self) {
        self.draining.store(true, Ordering::SeqCst);
        let waited = self
            .count
            .subscribe()
            .wait_for(|count| *count == 0)
            .await
            .map(|_| ());
        waited.expect("the sender lives as long as self");
    }

    /// How many are in flight.
    pub(crate) fn count(&self) -> usize {
        *self.count.borrow()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn landing_waits_for_the_last_and_refuses_the_next() {
        let flights: Arc<Flights> = Arc::default();
        let flight = flights.enter().expect("the door is open");
        let landing = tokio::spawn({
            let flights = Arc::clone(&flights);
            async move { flights.land().await }
        });
        while !flights.draining.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        assert!(matches!(flights.enter(), Err(ServeError::Draining)));
        assert_eq!(flights.count(), 1);
        drop(flight);
        landing.await.unwrap();
    }
}
