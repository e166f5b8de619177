//! Who answered in DJL Serving: its engines and its Python handlers, of all releases, and which of
//! them the native engine stands for.

use crate::value::{Rejection, Value, guess};

/// The engines whose difference matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Python,
    /// Python under `mpirun`.
    Mpi,
    DeepSpeed,
    FasterTransformer,
    /// DJL's own engines for embeddings and their like: `Rust`, `OnnxRuntime`.
    Translators,
}

const ENGINES: &[(&str, Engine)] = &[
    ("Python", Engine::Python),
    ("MPI", Engine::Mpi),
    ("DeepSpeed", Engine::DeepSpeed),
    ("FasterTransformer", Engine::FasterTransformer),
    ("Rust", Engine::Translators),
    ("OnnxRuntime", Engine::Translators),
    ("LMI", Engine::Python),
];

/// Engines of DJL that load files of their own formats.
const FOREIGN: &[(&str, &str)] = &[
    ("PyTorch", "TorchScript files"),
    ("TensorFlow", "SavedModels"),
    ("XGBoost", "models of XGBoost"),
    ("TritonServer", "Triton's model repositories"),
    ("MXNet", "models of MXNet"),
    ("PaddlePaddle", "models of PaddlePaddle"),
    ("TensorRT", "compiled plans"),
    ("TFLite", "models of TensorFlow Lite"),
    ("LightGBM", "models of LightGBM"),
    ("fastText", "models of fastText"),
    ("SentencePiece", "models of SentencePiece"),
    ("DLR", "models compiled by Neo"),
];

/// DJL's engine around llama.cpp: its files are served, but not with the form of its answers.
const LLAMA: &str = "Llama";

impl Engine {
    pub(crate) fn parse(value: &str) -> Value<Self> {
        if value == LLAMA {
            return Err(Rejection::Unsupported(
                "GGUF files are served by the native engine, whose answers have another form than those of DJL's \
                 engine for them; remove it, or write engine=Python"
                    .into(),
            ));
        }
        if let Some((_, engine)) = ENGINES.iter().find(|(name, _)| *name == value) {
            return Ok(*engine);
        }
        if let Some((_, files)) = FOREIGN.iter().find(|(name, _)| *name == value) {
            return Err(Rejection::Unsupported(format!(
                "{files} are not served, only checkpoints of transformers; remove it and serve \
                 the checkpoint"
            )));
        }
        let names = ENGINES.iter().map(|(name, _)| *name);
        let list = names.clone().collect::<Vec<_>>().join(", ");
        Err(Rejection::Invalid(format!(
            "must be one of {list}{}",
            guess(value, names)
        )))
    }
}

/// A handler, by what it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handler {
    HuggingFace,
    DeepSpeed,
    FasterTransformer,
    /// The asynchronous services of vLLM and TensorRT-LLM.
    Async,
    /// Handlers that only ever had a rolling batch.
    Rolling,
    Neuron,
    StableDiffusion,
    /// scikit-learn and XGBoost, whose handlers run in Python mode.
    Predictive,
    /// What SageMaker's `ModelBuilder` pickles.
    SageMaker,
    /// The user's own Python code, to which all unknown options belong.
    OwnCode,
}

const HANDLERS: &[(&str, Handler)] = &[
    ("djl_python.huggingface", Handler::HuggingFace),
    ("djl_python.lmi", Handler::HuggingFace),
    ("djl_python.deepspeed", Handler::DeepSpeed),
    ("djl_python.fastertransformer", Handler::FasterTransformer),
    ("djl_python.lmi_vllm.vllm_async_service", Handler::Async),
    ("djl_python.lmi_trtllm.trtllm_async_service", Handler::Async),
    ("djl_python.lmi_dist", Handler::Rolling),
    ("djl_python.tensorrt_llm", Handler::Rolling),
    ("djl_python.tensorrt_llm_python", Handler::Rolling),
    ("djl_python.transformers_neuronx", Handler::Neuron),
    ("djl_python.transformers-neuronx", Handler::Neuron),
    ("djl_python.transformer-neuronx", Handler::Neuron),
    ("djl_python.stable-diffusion", Handler::StableDiffusion),
    ("djl_python.stable_diffusion_inf2", Handler::StableDiffusion),
    ("djl_python.sklearn_handler", Handler::Predictive),
    ("djl_python.xgboost_handler", Handler::Predictive),
    ("djl_python.sagemaker", Handler::SageMaker),
];

impl Handler {
    /// Which handler `option.entryPoint` names; every name that is not DJL Serving's is a script
    /// or a module of the user's.
    pub(crate) fn parse(value: &str) -> Value<Self> {
        if value.is_empty() {
            return Err(Rejection::Invalid("must not be empty".into()));
        }
        if let Some((_, handler)) = HANDLERS.iter().find(|(name, _)| *name == value) {
            return Ok(*handler);
        }
        if value.starts_with("djl_python.") {
            let names = HANDLERS.iter().map(|(name, _)| *name);
            let problem = "names no handler of DJL Serving";
            return Err(Rejection::Invalid(format!(
                "{problem}{}",
                guess(value, names)
            )));
        }
        Ok(Self::OwnCode)
    }

    /// Refuses a handler whose work the native engine does not do yet. Own code is judged where
    /// its file is looked for.
    pub(crate) fn check(self) -> Value<()> {
        let reason = match self {
            Self::SageMaker => {
                "pickles of SageMaker's ModelBuilder are not loaded: what is in them runs without \
                 being seen, and needs the SageMaker SDK; write a model.py that loads the model, or \
                 name the checkpoint with option.model_id"
            }
            _ => return Ok(()),
        };
        Err(Rejection::Unsupported(reason.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_of_all_releases_are_known() {
        for (name, engine) in [
            ("Python", Engine::Python),
            ("MPI", Engine::Mpi),
            ("OnnxRuntime", Engine::Translators),
        ] {
            assert_eq!(Engine::parse(name), Ok(engine));
        }
        for (name, part) in [("PyTorch", "TorchScript"), ("TritonServer", "Triton's")] {
            let Err(Rejection::Unsupported(reason)) = Engine::parse(name) else {
                panic!("{name} is not served")
            };
            assert!(reason.contains(part), "{reason}");
        }
        let Err(Rejection::Invalid(must)) = Engine::parse("Deepspeed") else {
            panic!("names of engines are case-sensitive, as in DJL")
        };
        assert!(must.ends_with("did you mean DeepSpeed?"), "{must}");
    }

    #[test]
    fn handlers_are_native_missing_unknown_or_the_user_s() {
        assert_eq!(
            Handler::parse("djl_python.transformers-neuronx"),
            Ok(Handler::Neuron)
        );
        assert_eq!(Handler::parse("model.py"), Ok(Handler::OwnCode));
        assert_eq!(Handler::parse("my_module"), Ok(Handler::OwnCode));
        assert_eq!(Handler::StableDiffusion.check(), Ok(()));
        assert!(Handler::SageMaker.check().is_err());
        assert!(Handler::parse("djl_python.hugingface").is_err());
    }
}
