//! How fast this machine reads memory: the floor under every decode step, which reads all weights once.

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::pool;

/// Large against caches, small against memory.
const BYTES: usize = 256 << 20;

/// Numbers that are summed side by side, so that no addition waits for the last.
const SIDE_BY_SIDE: usize = 16;

/// Bytes per second that all threads of the pool read together: the best of several passes over memory that no cache
/// holds. Takes about `longest`, and some tenths of a second at the first time to write what is read.
pub fn read_bandwidth(longest: Duration) -> f64 {
    // Zeros would be one page, seen many times.
    let numbers = vec![1_u64; BYTES / size_of::<u64>()];
    let began = Instant::now();
    let mut best = f64::MAX;
    while best == f64::MAX || began.elapsed() < longest {
        let pass = Instant::now();
        read(&numbers);
        best = best.min(pass.elapsed().as_secs_f64());
    }
    BYTES as f64 / best
}

fn read(numbers: &[u64]) {
    let parts = pool::threads();
    pool::run(parts, &|part| {
        let range = part * numbers.len() / parts..(part + 1) * numbers.len() / parts;
        let mut sums = [0_u64; SIDE_BY_SIDE];
        for row in numbers[range].chunks_exact(SIDE_BY_SIDE) {
            for (sum, number) in sums.iter_mut().zip(row) {
                *sum = sum.wrapping_add(*number);
            }
        }
        black_box(sums);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bandwidth_is_that_of_some_memory() {
        let bandwidth = read_bandwidth(Duration::ZERO);
        assert!((1e7..1e14).contains(&bandwidth), "{bandwidth}");
    }
}
