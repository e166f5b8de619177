//! The linear layers that adapters add to, and the names that a family has for them.

use crate::arch::Arch;
use crate::decoder::{Axis, Slot};

/// A linear layer of the decoder, after fused projections were split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Query,
    Key,
    Value,
    Out,
    Gate,
    Up,
    Down,
}

impl Place {
    pub(crate) const ALL: [Self; 7] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Out,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// The places of a slot; none for one that no adapter may change.
    pub(crate) fn of_slot(slot: Slot) -> &'static [Self] {
        match slot {
            Slot::Query => &[Self::Query],
            Slot::Key => &[Self::Key],
            Slot::Value => &[Self::Value],
            Slot::Qkv => &[Self::Query, Self::Key, Self::Value],
            Slot::AttnOut => &[Self::Out],
            Slot::Gate => &[Self::Gate],
            Slot::Up => &[Self::Up],
            Slot::GateUp => &[Self::Gate, Self::Up],
            Slot::Down => &[Self::Down],
            _ => &[],
        }
    }

    /// What its outputs and inputs count.
    pub(crate) fn axes(self) -> [Axis; 2] {
        let slot = match self {
            Self::Query => Slot::Query,
            Self::Key => Slot::Key,
            Self::Value => Slot::Value,
            Self::Out => Slot::AttnOut,
            Self::Gate => Slot::Gate,
            Self::Up => Slot::Up,
            Self::Down => Slot::Down,
        };
        [slot.axes()[0], slot.axes()[1]]
    }
}

/// The slot and the layer that a family's module of that full name is.
pub(crate) fn find(arch: &Arch, module: &str) -> Option<(Slot, usize)> {
    let listed = arch.weights.iter().flat_map(|names| names.iter());
    listed
        .filter(|(slot, _)| !Place::of_slot(*slot).is_empty())
        .find_map(|(slot, name)| {
            let (before, behind) = name.split_once("{}")?;
            let layer = module.strip_prefix(before)?.strip_suffix(behind)?;
            Some((*slot, layer.parse().ok()?))
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::ARCHS;

    #[test]
    fn modules_are_found_by_the_names_of_their_family() {
        let arch = |module: &str| {
            let found = ARCHS.iter().find(|arch| find(arch, module).is_some());
            *found.expect("a family")
        };
        let llama = |module: &str| find(arch("model.layers.0.self_attn.q_proj"), module);
        assert_eq!(
            llama("model.layers.11.self_attn.q_proj"),
            Some((Slot::Query, 11))
        );
        assert_eq!(llama("model.layers.0.mlp.down_proj"), Some((Slot::Down, 0)));
        for module in [
            "lm_head",
            "model.embed_tokens",
            "model.layers.x.mlp.down_proj",
        ] {
            assert_eq!(llama(module), None, "{module}");
        }
        let gpt2 = find(
            arch("transformer.h.0.attn.c_attn"),
            "transformer.h.3.attn.c_attn",
        );
        assert_eq!(gpt2, Some((Slot::Qkv, 3)));
    }
}
