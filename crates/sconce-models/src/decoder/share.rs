//! Which part of each axis one rank has. Heads go to ranks whole; key/value heads are repeated when they are fewer
//! than the ranks; everything else may be cut anywhere.

use std::ops::Range;

use super::load_error::LoadError;
use super::slots::Axis;
use super::spec::Dims;

/// One rank's part of a decoder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    pub(crate) rank: usize,
    pub(crate) world: usize,
    dims: Dims,
}

impl Share {
    /// Fails when the heads cannot be divided among `world` ranks.
    pub(crate) fn new(rank: usize, world: usize, dims: Dims) -> Result<Self, LoadError> {
        if divides(&dims, world) {
            return Ok(Self { rank, world, dims });
        }
        Err(LoadError::Ranks {
            world,
            heads: dims.heads,
            kv_heads: dims.kv_heads,
            possible: Self::possible(&dims),
        })
    }

    /// All numbers of ranks among which the heads can be divided.
    pub(crate) fn possible(dims: &Dims) -> Vec<usize> {
        let worlds = (1..=dims.heads).filter(|&world| divides(dims, world));
        worlds.collect()
    }

    /// The part of another rank.
    pub(crate) fn of_rank(self, rank: usize) -> Self {
        Self { rank, ..self }
    }

    /// Query heads of this rank.
    pub(crate) fn heads(&self) -> usize {
        self.dims.heads / self.world
    }

    /// Key/value heads of this rank; at least one, which other ranks may have too.
    pub(crate) fn kv_heads(&self) -> usize {
        (self.dims.kv_heads / self.world).max(1)
    }

    /// Rows of the vocabulary that a rank has, before the last ranks run out of them.
    pub(crate) fn vocab_stride(&self) -> usize {
        self.dims.vocab.div_ceil(self.world)
    }

    /// This rank's part of an axis, in elements of the whole.
    pub(crate) fn range(&self, axis: Axis) -> Range<usize> {
        let Self { rank, world, dims } = *self;
        match axis {
            Axis::Heads => {
                let len = self.heads() * dims.head;
                rank * len..(rank + 1) * len
            }
            Axis::KvHeads => {
                let first = rank * dims.kv_heads / world;
                first * dims.head..(first + self.kv_heads()) * dims.head
            }
            Axis::Inner | Axis::Expert | Axis::Shared => {
                let len = axis.len(&dims);
                rank * len / world..(rank + 1) * len / world
            }
            Axis::Vocab => {
                let stride = self.vocab_stride();
                rank * stride..((rank + 1) * stride).min(dims.vocab)
            }
            _ => 0..axis.len(&dims),
        }
    }
}

/// Whether every rank gets the same number of heads, all key/value heads that these need, and a part of all else.
fn divides(dims: &Dims, world: usize) -> bool {
    world > 0
        && dims.heads.is_multiple_of(world)
        && (dims.kv_heads.is_multiple_of(world) || world.is_multiple_of(dims.kv_heads))
        && [dims.inner, dims.expert, dims.shared]
            .iter()
            .all(|&inner| inner == 0 || world <= inner)
        && (world - 1) * dims.vocab.div_ceil(world) < dims.vocab
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIMS: Dims = Dims {
        layers: 1,
        width: 36,
        heads: 6,
        kv_heads: 2,
        head: 8,
        inner: 50,
        vocab: 307,
        context: 64,
        positions: 64,
        embed: 36,
        expert: 0,
        shared: 0,
        experts: 0,
    };

    fn ranges(world: usize, dims: Dims, axis: Axis) -> Vec<Range<usize>> {
        (0..world)
            .map(|rank| {
                Share::new(rank, world, dims)
                    .expect("divisible")
                    .range(axis)
            })
            .collect()
    }

    #[test]
    fn parts_are_adjacent_and_only_key_value_heads_are_repeated() {
        assert_eq!(ranges(2, DIMS, Axis::Heads), [0..24, 24..48]);
        assert_eq!(ranges(2, DIMS, Axis::KvHeads), [0..8, 8..16]);
        assert_eq!(
            ranges(6, DIMS, Axis::KvHeads),
            [0..8, 0..8, 0..8, 8..16, 8..16, 8..16]
        );
        assert_eq!(ranges(2, DIMS, Axis::Vocab), [0..154, 154..307]);
        assert_eq!(
            ranges(6, DIMS, Axis::Inner),
            [0..8, 8..16, 16..25, 25..33, 33..41, 41..50]
        );
        assert_eq!(ranges(2, DIMS, Axis::Width), [0..36, 0..36]);
    }

    #[test]
    fn the_refusal_lists_the_possible_numbers_of_ranks() {
        let error = Share::new(0, 4, DIMS)
            .expect_err("6 heads over 4 ranks")
            .to_string();
        assert_eq!(
            error,
            "6 attention heads and 2 key/value heads cannot be divided among 4 ranks; \
             set option.tensor_parallel_degree to one of 1, 2, 6"
        );
    }
}
