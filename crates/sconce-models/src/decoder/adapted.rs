//! Which tokens of a step have which adapter.

use std::sync::Arc;

use candle_core::{Result, Tensor};
use sconce_nn::{Adapted, Linear, Step};

use super::Pass;
use crate::adapter::{Adapter, Place, RankAdapter};

/// The adapters of a step, each with its tokens: what one adds to a layer is computed for all of them together.
#[derive(Default)]
pub(crate) struct Adaptation<'a> {
    groups: Vec<Group<'a>>,
}

struct Group<'a> {
    of: &'a Arc<Adapter>,
    part: &'a RankAdapter,
    tokens: Vec<u32>,
}

impl<'a> Adaptation<'a> {
    /// `adapters` are those of the step's rows, or none for all.
    pub(crate) fn of(step: &Step, adapters: &'a [Option<Arc<Adapter>>], rank: usize) -> Self {
        let mut groups: Vec<Group<'a>> = Vec::new();
        for (row, adapter) in step.rows.iter().zip(adapters) {
            let Some(adapter) = adapter else {
                continue;
            };
            let known = groups
                .iter()
                .position(|group| Arc::ptr_eq(group.of, adapter));
            let at = known.unwrap_or(groups.len());
            if known.is_none() {
                groups.push(Group {
                    of: adapter,
                    part: adapter.of_rank(rank),
                    tokens: Vec::new(),
                });
            }
            let tokens = row.q_start as u32..(row.q_start + row.q_len) as u32;
            groups[at].tokens.extend(tokens);
        }
        Self { groups }
    }

    /// What is added to one layer.
    fn at<'b>(&'b self, layer: usize, place: Place) -> Vec<Adapted<'b>> {
        let adapted = |group: &'b Group<'a>| {
            Some(Adapted {
                rows: &group.tokens,
                part: group.part.part(layer, place)?,
            })
        };
        self.groups.iter().filter_map(adapted).collect()
    }
}

impl Pass<'_> {
    /// Linear layers of the same input, with what adapters add to each.
    pub(crate) fn linear<const N: usize>(
        &self,
        layers: [&Linear; N],
        places: [Place; N],
        x: &Tensor,
    ) -> Result<[Tensor; N]> {
        let adapted = places.map(|place| self.adaptation.at(self.layer, place));
        Linear::forward_adapted(layers, x, adapted.each_ref().map(Vec::as_slice))
    }
}
