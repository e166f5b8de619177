//! A linear layer on the vector of a text, with an activation: the module `Dense` of sentence-transformers.

use candle_core::{Device, Tensor};
use sconce_nn::weights::{HostTensor, StoredDtype, WeightSource};
use sconce_nn::{Act, Linear};

use crate::decoder::LoadError;

/// A linear layer and an activation.
#[derive(Clone, Debug)]
pub struct Projection {
    linear: Linear,
    act: Act,
}

impl Projection {
    /// Of the tensors `linear.weight` `[outputs, inputs]` and, if there is one, `linear.bias`.
    pub fn load(
        source: &dyn WeightSource,
        inputs: usize,
        bias: bool,
        act: Act,
    ) -> Result<Self, LoadError> {
        let get = |name: &str| {
            let found = source.names().iter().any(|known| known == name);
            let missing = || LoadError::Missing {
                tensor: name.to_owned(),
                hint: "; is the module complete?",
            };
            found
                .then(|| source.get(name))
                .ok_or_else(missing)?
                .map_err(LoadError::from)
        };
        let weight: HostTensor = get("linear.weight")?;
        let outputs = weight.shape().first().copied().unwrap_or(0);
        if weight.shape() != [outputs, inputs] {
            return Err(LoadError::Shape {
                tensor: "linear.weight".to_owned(),
                found: weight.shape().to_vec(),
                wanted: vec![outputs, inputs],
                keys: "[out_features, in_features]".to_owned(),
            });
        }
        let bias = bias.then(|| get("linear.bias")).transpose()?;
        let weight = match weight.dtype() {
            StoredDtype::F64 => weight.to_dtype(StoredDtype::F32)?,
            _ => weight,
        };
        let linear = Linear::new(weight, bias, &Device::Cpu).map_err(|cause| LoadError::Layer {
            tensor: "linear.weight".to_owned(),
            cause,
        })?;
        Ok(Self { linear, act })
    }

    /// Numbers of its output.
    pub fn outputs(&self) -> usize {
        self.linear.out_features()
    }

    /// The projection of one vector.
    pub fn apply(&self, vector: &[f32]) -> candle_core::Result<Vec<f32>> {
        let x = Tensor::new(vector, &Device::Cpu)?.unsqueeze(0)?;
        self.act
            .apply(&self.linear.forward(&x)?)?
            .flatten_all()?
            .to_vec1()
    }
}
