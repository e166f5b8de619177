//! Room for a task's intermediate numbers, kept by its thread from task to task.

use std::cell::RefCell;

thread_local! {
    static KEPT: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Lends `len` numbers of any value. A call inside `work` gets room of its own, which is kept as well.
pub(crate) fn with<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut room = KEPT.with_borrow_mut(Vec::pop).unwrap_or_default();
    if room.len() < len {
        room.resize(len, 0.0);
    }
    let result = work(&mut room[..len]);
    KEPT.with_borrow_mut(|kept| kept.push(room));
    result
}
