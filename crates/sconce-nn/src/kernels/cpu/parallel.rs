//! Cuts outputs into parts that tasks of the pool write at the same time.
#![allow(unsafe_code)]

use std::ops::Range;

use super::pool;

/// Below so many elementary operations a fork costs more than it brings.
pub(crate) const WORTH_A_FORK: usize = 20_000;

/// Tasks for each thread: enough to even out threads of unequal speed.
const TASKS_PER_THREAD: usize = 4;

/// An output that several tasks write, each its own part.
pub(crate) struct Shared<T> {
    start: *mut T,
    len: usize,
}

// SAFETY: it is only a pointer; whoever uses it promises that parts do not overlap.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn new(all: &mut [T]) -> Self {
        Self {
            start: all.as_mut_ptr(),
            len: all.len(),
        }
    }

    /// Where element `start` is, or the end.
    #[inline(always)]
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn at(&self, start: usize) -> *mut T {
        debug_assert!(start <= self.len, "{start} of {}", self.len);
        self.start.wrapping_add(start)
    }

    /// Elements `start..start + len`.
    ///
    /// # Safety
    /// The slice that this was made from is still borrowed, and nobody else uses these elements meanwhile.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)] // The parts are disjoint, which the caller promises.
    pub(crate) unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        debug_assert!(start + len <= self.len, "{start} + {len} of {}", self.len);
        // SAFETY: inside the slice, exclusive by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(start), len) }
    }
}

/// Part `index` of a range that is cut into `count` parts of nearly the same length.
pub(super) fn share(range: &Range<usize>, index: usize, count: usize) -> Range<usize> {
    let at = |index| range.start + range.len() * index / count;
    at(index)..at(index + 1)
}

/// Calls `work` with the index of the first row and a run of whole rows of `out`; every row is covered once.
/// `cost` is the number of elementary operations for one row.
pub(crate) fn over_rows(
    out: &mut [f32],
    width: usize,
    cost: usize,
    work: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    if out.is_empty() {
        return;
    }
    let rows = out.len() / width;
    let (tasks, run) = cut(rows, cost);
    let out = Shared::new(out);
    pool::run(tasks, &|task| {
        let first = task * run;
        let count = run.min(rows - first);
        // SAFETY: the runs of different tasks do not overlap, and `out` is borrowed during the call.
        work(first, unsafe { out.part(first * width, count * width) });
    });
}

/// Number of tasks and rows in each for `rows` rows that take `cost` operations each.
pub(crate) fn cut(rows: usize, cost: usize) -> (usize, usize) {
    let threads = pool::threads();
    let total = rows.saturating_mul(cost.max(1));
    let tasks = if threads == 1 || total < WORTH_A_FORK {
        1
    } else {
        (threads * TASKS_PER_THREAD).min(rows)
    };
    let run = rows.div_ceil(tasks.max(1)).max(1);
    (rows.div_ceil(run), run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_covered_once_whatever_the_cost() {
        for rows in [1, 2, 7, 100] {
            for cost in [1, 100_000] {
                let mut out = vec![0.0; rows * 3];
                over_rows(&mut out, 3, cost, &|first, part| {
                    for (offset, row) in part.chunks_exact_mut(3).enumerate() {
                        row.iter_mut()
                            .for_each(|x| *x += (first + offset) as f32 + 1.0);
                    }
                });
                for (row, numbers) in out.chunks_exact(3).enumerate() {
                    assert_eq!(numbers, [row as f32 + 1.0; 3]);
                }
            }
        }
    }
}
