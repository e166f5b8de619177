//! `Act`: activation functions by the names that checkpoints use; and `clip`.

use candle_core::{Result, Tensor};

use crate::error::NnError;
use crate::kernels::cpu::elementwise::{self, Function};
#[cfg(feature = "cuda")]
use crate::kernels::cuda;
use crate::tensors::{self, Numbers};

/// An activation function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// `x Φ(x)`, with the error function.
    Gelu,
    /// The approximation of [`Act::Gelu`] by a hyperbolic tangent.
    GeluTanh,
    /// `x sigmoid(1.702 x)`.
    QuickGelu,
    /// `x sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    ReluSquared,
    /// Hyperbolic tangent.
    Tanh,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `x`.
    Linear,
}

/// The names of `ACT2FN` in transformers' `activations.py`.
const NAMES: [(&str, Act); 15] = [
    ("gelu", Act::Gelu),
    ("gelu_python", Act::Gelu),
    ("gelu_new", Act::GeluTanh),
    ("gelu_fast", Act::GeluTanh),
    ("gelu_pytorch_tanh", Act::GeluTanh),
    ("gelu_python_tanh", Act::GeluTanh),
    ("gelu_accurate", Act::GeluTanh),
    ("quick_gelu", Act::QuickGelu),
    ("silu", Act::Silu),
    ("swish", Act::Silu),
    ("relu", Act::Relu),
    ("relu2", Act::ReluSquared),
    ("tanh", Act::Tanh),
    ("sigmoid", Act::Sigmoid),
    ("linear", Act::Linear),
];

impl Act {
    /// The function of a name in `config.json`; `None` for a name without a kernel.
    pub fn parse(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|&(_, act)| act)
    }

    /// All names that [`Act::parse`] knows, for error messages.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|&(name, _)| name)
    }

    /// The function of every element.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return cuda::act(*self, x, None);
        }
        let numbers = Numbers::of(x, "the input of an activation")?;
        // SAFETY: every number is written.
        #[allow(unsafe_code)]
        let mut out = unsafe { tensors::unwritten(numbers.len()) };
        self.pick(&numbers, None, &mut out);
        tensors::tensor(out, x.dims())
    }

    /// `act(gate) * up`, element by element.
    pub fn gate(&self, gate: &Tensor, up: &Tensor) -> Result<Tensor> {
        let what = "the gate of an activation";
        if gate.dims() != up.dims() {
            let wanted = format!("that of the other input, {:?},", up.dims());
            return Err(NnError::Shape {
                what,
                shape: gate.dims().to_vec(),
                wanted,
            }
            .into());
        }
        #[cfg(feature = "cuda")]
        if gate.device().is_cuda() {
            return cuda::act(*self, gate, Some(up));
        }
        let (gates, ups) = (
            Numbers::of(gate, what)?,
            Numbers::of(up, "the gated input of an activation")?,
        );
        // SAFETY: every number is written.
        #[allow(unsafe_code)]
        let mut out = unsafe { tensors::unwritten(gates.len()) };
        self.pick(&gates, Some(&ups), &mut out);
        tensors::tensor(out, gate.dims())
    }

    fn pick(self, x: &[f32], up: Option<&[f32]>, out: &mut [f32]) {
        match self {
            Self::Gelu => compute::<elementwise::Gelu>(x, up, out),
            Self::GeluTanh => compute::<elementwise::GeluTanh>(x, up, out),
            Self::QuickGelu => compute::<elementwise::QuickGelu>(x, up, out),
            Self::Silu => compute::<elementwise::Silu>(x, up, out),
            Self::Relu => compute::<elementwise::Relu>(x, up, out),
            Self::ReluSquared => compute::<elementwise::ReluSquared>(x, up, out),
            Self::Tanh => compute::<elementwise::Tanh>(x, up, out),
            Self::Sigmoid => compute::<elementwise::Sigmoid>(x, up, out),
            Self::Linear => compute::<elementwise::Identity>(x, up, out),
        }
    }
}

/// Numbers beyond plus or minus `limit` become that.
pub fn clip(x: &Tensor, limit: f32) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::clip(x, limit);
    }
    let numbers = Numbers::of(x, "the input of a clip")?;
    let clipped = numbers.iter().map(|number| number.clamp(-limit, limit));
    tensors::tensor(clipped.collect(), x.dims())
}

fn compute<F: Function>(x: &[f32], up: Option<&[f32]>, out: &mut [f32]) {
    match up {
        Some(up) => elementwise::gate::<F>(x, up, out),
        None => elementwise::map::<F>(x, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    /// Values of torch 2.
    #[test]
    fn names_lead_to_the_functions_of_transformers() {
        let at_one = [
            ("gelu", 0.841_344_7),
            ("gelu_new", 0.841_192),
            ("quick_gelu", 0.845_795_8),
            ("silu", 0.731_058_6),
            ("relu2", 1.0),
            ("tanh", 0.761_594_2),
            ("linear", 1.0),
        ];
        let one = Tensor::new(&[1f32], &Device::Cpu).unwrap();
        for (name, wanted) in at_one {
            let got = Act::parse(name)
                .unwrap()
                .apply(&one)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap()[0];
            assert!((got - wanted).abs() < 1e-6, "{name}: {got}");
        }
        assert_eq!(Act::parse("GELU"), None);
        assert!(Act::names().all(|name| Act::parse(name).is_some()));
    }

    #[test]
    fn clipping_keeps_what_is_within_the_limit() {
        let x = Tensor::new(&[-3f32, -1.5, 0.25, 2.0], &Device::Cpu).unwrap();
        let clipped = clip(&x, 1.5).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(clipped, [-1.5, -1.5, 0.25, 1.5]);
    }

    #[test]
    fn a_gate_of_another_shape_is_an_error() {
        let zeros = |n: usize| Tensor::zeros(n, candle_core::DType::F32, &Device::Cpu).unwrap();
        let error = Act::Silu
            .gate(&zeros(3), &zeros(4))
            .unwrap_err()
            .to_string();
        assert!(error.contains("[3]") && error.contains("[4]"), "{error}");
        assert_eq!(Act::Silu.gate(&zeros(3), &zeros(3)).unwrap().dims(), [3]);
    }
}
