//! Memory for quantised activations and unpacked weights, kept by its thread from call to call.
//!
//! [`scratch`](crate::kernels::cpu::scratch) lends one piece to a thread at a time; here the caller's activations stay
//! lent while its thread works on panels as well.

use std::cell::Cell;
use std::thread::LocalKey;

use super::isa::{Line, SIDE};

/// One kept piece of memory.
pub(super) struct Room(Cell<Vec<Line>>);

thread_local! {
    /// What a call of the product shares with its tasks.
    pub(super) static OF_CALL: Room = const { Room(Cell::new(Vec::new())) };
    /// Rows of weights that do not fill a vector.
    pub(super) static OF_REST: Room = const { Room(Cell::new(Vec::new())) };
    /// What a task has for itself.
    pub(super) static OF_TASK: Room = const { Room(Cell::new(Vec::new())) };
}

/// Lends `len` lines of any value. A call inside `work` gets memory of its own.
pub(super) fn with<R>(
    room: &'static LocalKey<Room>,
    len: usize,
    work: impl FnOnce(&mut [Line]) -> R,
) -> R {
    let mut lines = room.with(|room| room.0.take());
    if lines.len() < len {
        lines.resize(len, Line([0; SIDE]));
    }
    let result = work(&mut lines[..len]);
    room.with(|room| room.0.set(lines));
    result
}
