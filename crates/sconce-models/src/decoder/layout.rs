//! Where the rows of queries, keys and values lie in the tensors of a checkpoint. Everything that families do
//! differently here (fused tensors, neighbours that are rotated together) is a list of rows; reading them is the loader's.

use super::share::Share;
use super::slots::Axis;
use super::spec::{Dims, Pairing, Position, Qkv, Spec};
use crate::adapter::Place;

/// One of the three projections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Projection {
    Query,
    Key,
    Value,
}

/// The rows of the stored tensor, laid out as `qkv` says, that a rank needs of a projection, in the order of the decoder.
pub(crate) fn rows_of(spec: &Spec, qkv: Qkv, share: &Share, which: Projection) -> Vec<usize> {
    let mut rows = stored_rows(qkv, which, &spec.dims);
    if let (Position::Rope(tables), true) = (&spec.position, which != Projection::Value) {
        let dim = tables.first().map_or(0, |table| table.dim);
        rows = as_halves(rows, spec.pairing, spec.dims.head, dim);
    }
    let axis = match which {
        Projection::Query => Axis::Heads,
        Projection::Key | Projection::Value => Axis::KvHeads,
    };
    rows[share.range(axis)].to_vec()
}

/// The same for an adapter's part of queries, keys or values; `None` for any other layer.
pub(crate) fn rows_of_projection(
    spec: &Spec,
    qkv: Qkv,
    share: &Share,
    place: Place,
) -> Option<Vec<usize>> {
    let which = match place {
        Place::Query => Projection::Query,
        Place::Key => Projection::Key,
        Place::Value => Projection::Value,
        _ => return None,
    };
    Some(rows_of(spec, qkv, share, which))
}

/// The rows of a projection in the order of the decoder, heads one after the other: `rows[i]` is the row of the stored
/// tensor that is the decoder's row `i`.
fn stored_rows(qkv: Qkv, which: Projection, dims: &Dims) -> Vec<usize> {
    let heads = match which {
        Projection::Query => dims.heads,
        Projection::Key | Projection::Value => dims.kv_heads,
    };
    match qkv {
        Qkv::Split => (0..heads * dims.head).collect(),
        Qkv::Stacked => {
            let before = match which {
                Projection::Query => 0,
                Projection::Key => dims.heads,
                Projection::Value => dims.heads + dims.kv_heads,
            };
            (before * dims.head..(before + heads) * dims.head).collect()
        }
        Qkv::PerGroup => (0..heads)
            .flat_map(|head| run(head_in_groups(which, head, dims), dims.head))
            .collect(),
        Qkv::Blocks(blocks) => {
            let part = dims.heads * dims.head / blocks;
            let place = match which {
                Projection::Query => 0,
                Projection::Value => 1,
                Projection::Key => 2,
            };
            (0..blocks)
                .flat_map(|block| run(3 * block + place, part))
                .collect()
        }
    }
}

/// The rows in the order in which halves can be rotated together; `dim` numbers of each head are rotated.
pub(crate) fn as_halves(rows: Vec<usize>, pairing: Pairing, head: usize, dim: usize) -> Vec<usize> {
    match pairing {
        Pairing::Half => rows,
        Pairing::Adjacent => rows
            .chunks_exact(head)
            .flat_map(|head| {
                let (turned, rest) = head.split_at(dim);
                let first = turned.iter().step_by(2);
                let second = turned.iter().skip(1).step_by(2);
                first.chain(second).chain(rest).copied()
            })
            .collect(),
    }
}

/// The place of a head among all heads of a tensor that holds groups of queries, one key, one value.
fn head_in_groups(which: Projection, head: usize, dims: &Dims) -> usize {
    let group = dims.heads / dims.kv_heads;
    match which {
        Projection::Query => head / group * (group + 2) + head % group,
        Projection::Key => head * (group + 2) + group,
        Projection::Value => head * (group + 2) + group + 1,
    }
}

fn run(index: usize, len: usize) -> std::ops::Range<usize> {
    index * len..(index + 1) * len
}

#[cfg(test)]
mod tests {
    use super::*;
    use Projection::{Key, Query, Value};

    fn dims(heads: usize, kv_heads: usize, head: usize) -> Dims {
        Dims {
            heads,
            kv_heads,
            head,
            ..Dims::default()
        }
    }

    #[test]
    fn stacked_parts_follow_each_other() {
        let dims = dims(4, 2, 2);
        assert_eq!(stored_rows(Qkv::Split, Value, &dims), [0, 1, 2, 3]);
        assert_eq!(
            stored_rows(Qkv::Stacked, Query, &dims),
            [0, 1, 2, 3, 4, 5, 6, 7]
        );
        assert_eq!(stored_rows(Qkv::Stacked, Key, &dims), [8, 9, 10, 11]);
        assert_eq!(stored_rows(Qkv::Stacked, Value, &dims), [12, 13, 14, 15]);
    }

    #[test]
    fn groups_hold_their_queries_one_key_and_one_value() {
        let grouped = dims(4, 2, 1);
        assert_eq!(stored_rows(Qkv::PerGroup, Query, &grouped), [0, 1, 4, 5]);
        assert_eq!(stored_rows(Qkv::PerGroup, Key, &grouped), [2, 6]);
        assert_eq!(stored_rows(Qkv::PerGroup, Value, &grouped), [3, 7]);
        let per_head = dims(2, 2, 2);
        assert_eq!(stored_rows(Qkv::PerGroup, Query, &per_head), [0, 1, 6, 7]);
        assert_eq!(stored_rows(Qkv::PerGroup, Value, &per_head), [4, 5, 10, 11]);
    }

    #[test]
    fn blocks_hold_queries_values_and_keys_in_this_order() {
        let dims = dims(4, 4, 1);
        assert_eq!(stored_rows(Qkv::Blocks(2), Query, &dims), [0, 1, 6, 7]);
        assert_eq!(stored_rows(Qkv::Blocks(2), Value, &dims), [2, 3, 8, 9]);
        assert_eq!(stored_rows(Qkv::Blocks(2), Key, &dims), [4, 5, 10, 11]);
    }

    #[test]
    fn neighbours_become_halves_and_what_is_not_rotated_stays() {
        let rows: Vec<usize> = (10..22).collect();
        assert_eq!(
            as_halves(rows.clone(), Pairing::Adjacent, 6, 4),
            [10, 12, 11, 13, 14, 15, 16, 18, 17, 19, 20, 21]
        );
        assert_eq!(as_halves(rows.clone(), Pairing::Half, 6, 4), rows);
    }
}
