//! What a model took of a GPU, beside what was planned for it.

use sconce_nn::DeviceMemory;

use super::Plan;

/// Bytes by which a part may differ from the plan without being told; a GPU hands memory out in large pieces.
const MARGIN: u64 = 64 << 20;

/// A part may differ by one part in so many.
const PART: u64 = 20;

/// Bytes that the parts of the first rank took, each in its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    /// What was gone before the model was loaded: the process's context, channels to other ranks, other processes.
    before: u64,
    weights: u64,
    cache: u64,
    /// What the largest steps took beside.
    working: u64,
}

impl Measured {
    /// From the memory of the GPU before and after loading, with the cache, and after the largest steps.
    pub(crate) fn new([found, loaded, reserved, warmed]: [DeviceMemory; 4]) -> Self {
        Self {
            before: found.total - found.free,
            weights: found.free.saturating_sub(loaded.free),
            cache: loaded.free.saturating_sub(reserved.free),
            working: reserved.free.saturating_sub(warmed.free),
        }
    }

    /// The name of each part, what was measured and what was planned, and whether less is a surprise too.
    fn parts(&self, plan: &Plan) -> [(&'static str, u64, u64, bool); 4] {
        let working = plan.activations + plan.workspace;
        [
            (
                "context, channels and other processes",
                self.before,
                plan.overhead,
                false,
            ),
            ("weights", self.weights, plan.weights, true),
            ("keys and values", self.cache, plan.cache, true),
            ("activations and workspace", self.working, working, false),
        ]
    }

    /// All parts in one line.
    pub(crate) fn summary(&self, plan: &Plan) -> String {
        let told = self.parts(plan).map(|(name, measured, planned, _)| {
            format!(
                "{} MiB of {name} ({} planned)",
                measured >> 20,
                planned >> 20
            )
        });
        told.join(", ")
    }

    /// What differs from the plan by more than a few percent; estimates may be too large.
    pub(crate) fn surprises(&self, plan: &Plan) -> Vec<String> {
        let told = |(name, measured, planned, both): (&str, u64, u64, bool)| {
            let apart = measured.abs_diff(planned);
            let is_far = apart > MARGIN + planned / PART && (both || measured > planned);
            is_far.then(|| {
                let (which, apart) = (
                    if measured > planned { "more" } else { "less" },
                    apart >> 20,
                );
                format!(
                    "{} MiB of {name}, {apart} {which} than planned",
                    measured >> 20
                )
            })
        };
        self.parts(plan).into_iter().filter_map(told).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    const PLAN: Plan = Plan {
        weights: 15 * GIB,
        adapters: 0,
        draft: 0,
        activations: GIB,
        workspace: GIB / 2,
        overhead: GIB / 2,
        per_token: 1,
        max_len: 1,
        blocks: 1,
        cache: 4 * GIB,
        room: None,
    };

    fn measured(free: [u64; 4]) -> Measured {
        Measured::new(free.map(|free| DeviceMemory {
            free,
            total: 24 * GIB,
        }))
    }

    #[test]
    fn what_is_as_planned_or_was_estimated_too_high_is_no_surprise() {
        let mib = 1 << 20;
        let free = [
            23 * GIB + 700 * mib,
            8 * GIB + 600 * mib,
            4 * GIB + 500 * mib,
            4 * GIB,
        ];
        let measured = measured(free);
        assert_eq!(measured.surprises(&PLAN), [""; 0]);
        let wanted = "324 MiB of context, channels and other processes (512 planned), 15460 MiB of weights (15360 \
                      planned), 4196 MiB of keys and values (4096 planned), 500 MiB of activations and workspace (1536 \
                      planned)";
        assert_eq!(measured.summary(&PLAN), wanted);
    }

    #[test]
    fn what_takes_more_or_weights_that_take_less_are_told() {
        let told = measured([20 * GIB, 8 * GIB, 4 * GIB, GIB]).surprises(&PLAN);
        let wanted = [
            "4096 MiB of context, channels and other processes, 3584 more than planned",
            "12288 MiB of weights, 3072 less than planned",
            "3072 MiB of activations and workspace, 1536 more than planned",
        ];
        assert_eq!(told, wanted);
    }
}
