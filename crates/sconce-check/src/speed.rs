//! Upper bounds of decoding: no token is computed before the weights that it needs are read.

use sconce_engine::{Description, Needs, Plan};

use crate::report::{Device, SpeedPart};

/// The bounds of a plan on a device; a machine's ranks share its bandwidth, GPUs have their own.
pub(crate) fn bounds(
    description: &Description,
    needs: &Needs,
    plan: &Plan,
    device: &Device,
) -> SpeedPart {
    let shared = if device.kind == "cpu" { needs.ranks } else { 1 };
    let bandwidth = device.bytes_per_second / shared as f64;
    let rate = |tokens: usize, cache: u64| {
        let bytes = description.read_by(needs, tokens) + cache;
        tokens as f64 * bandwidth / (bytes.max(1) as f64)
    };
    // Every sequence has a block of its own, at least.
    let sequences = needs.max_rows.min(plan.blocks);
    SpeedPart {
        bytes_per_token: description.read_by(needs, 1),
        one_sequence: rate(1, 0),
        sequences,
        all_sequences: rate(sequences, 0),
        all_sequences_full_cache: rate(sequences, plan.cache),
    }
}
