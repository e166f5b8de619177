//! Names that older checkpoints have for the same tensors: the norms of models that were converted from TensorFlow.

use sconce_nn::weights::{HostTensor, WeightError, WeightSource};

/// Endings as they are written, and as they are asked for.
const ENDINGS: [(&str, &str); 2] = [
    ("LayerNorm.gamma", "LayerNorm.weight"),
    ("LayerNorm.beta", "LayerNorm.bias"),
];

/// A checkpoint under today's names.
pub(super) struct Renamed<'a>(pub(super) &'a dyn WeightSource);

fn replaced(name: &str, from: &str, to: &str) -> Option<String> {
    name.strip_suffix(from).map(|head| format!("{head}{to}"))
}

impl Renamed<'_> {
    fn stored(&self, name: &str) -> String {
        let old = ENDINGS
            .iter()
            .find_map(|(old, new)| replaced(name, new, old));
        let old = old.filter(|old| self.0.names().binary_search(old).is_ok());
        old.unwrap_or_else(|| name.to_owned())
    }
}

impl WeightSource for Renamed<'_> {
    fn names(&self) -> Vec<String> {
        let renamed = |name: String| {
            let new = ENDINGS
                .iter()
                .find_map(|(old, new)| replaced(&name, old, new));
            new.unwrap_or(name)
        };
        let mut names: Vec<String> = self.0.names().into_iter().map(renamed).collect();
        names.sort();
        names
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        self.0.get(&self.stored(name))
    }

    fn outline(&self, name: &str) -> Result<HostTensor, WeightError> {
        self.0.outline(&self.stored(name))
    }

    fn has_unlisted(&self, name: &str) -> bool {
        self.0.has_unlisted(&self.stored(name))
    }

    fn total_bytes(&self) -> u64 {
        self.0.total_bytes()
    }

    fn describe(&self) -> String {
        self.0.describe()
    }
}
