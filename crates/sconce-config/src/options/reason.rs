//! Why options of several groups have no effect, or are refused.

pub(super) const ALWAYS_ROLLING: &str = "requests join and leave the running batch at every \
                                         step; option.max_rolling_batch_size limits it";
pub(super) const BUILT_IN: &str = "how it is computed is built in; answers are the same";
pub(super) const CACHE_STAYS: &str = "the cache stays within the process; answers are the same";
pub(super) const REASONING: &str = "reasoning stays in the text of an answer";
pub(super) const CLUSTERS: &str = "there are no clusters";
pub(super) const GRAMMARS: &str =
    "llguidance compiles every grammar; answers keep to the same forms";
pub(super) const KEPT: &str = "answers are not kept anywhere but in this process";
pub(super) const LONG_PROMPTS: &str = "a prompt may be as long as option.max_model_len leaves room";
pub(super) const MEMORY_PLAN: &str =
    "memory is planned before the model is loaded; option.kv_cache_memory";
pub(super) const METRICS: &str =
    "/metrics always tells all of it, and SCONCE_EMF has it logged; answers are the same";
pub(super) const TRACES: &str = "OTEL_EXPORTER_OTLP_ENDPOINT says where traces of all models go";
pub(super) const NEURON: &str = "there is no Neuron device; nothing is compiled for one";
pub(super) const NOT_COMPILED: &str =
    "no engine is compiled ahead of time; how it is computed is built in";
pub(super) const NO_CUDA: &str = "which GPUs compute is said by load_on_devices, how many together by option.tensor_parallel_degree";
pub(super) const POOLED: &str =
    "vectors are pooled as the checkpoint says; pooling names another way";
pub(super) const NO_JAVA: &str = "there is no Java";
pub(super) const NO_REMOTE_CODE: &str =
    "code of a checkpoint never runs: architectures are built in";
pub(super) const SAME_GUESSES: &str =
    "a guess counts only if it is what is picked in its place; answers are the same";
pub(super) const NO_WORKERS: &str = "there are no worker processes";
pub(super) const OFFLINE: &str = "HF_HUB_OFFLINE is for the hub";
pub(super) const OF_LORA: &str =
    "an adapter changes projections only, and ranks cut it as they cut these";
pub(super) const OF_QUANTIZE: &str = "it belongs to option.quantize";
pub(super) const ONE_BACKEND: &str = "there is one backend, the native engine";
pub(super) const ONE_ENGINE: &str = "one engine computes all requests of the model together";
pub(super) const PARTITIONED: &str = "checkpoints that are partitioned or compiled ahead of time \
                                      are neither read nor written; serve the original one";
pub(super) const PREDICTIVE: &str =
    "it concerns scikit-learn and XGBoost only, which are not served yet";
pub(super) const PYTHON_ONLY: &str = "it belongs to Python code of the model";
pub(super) const SECURE: &str = "in secure mode all of them hold: no code of a model runs, and \
                                 pickles are always read as data";
pub(super) const TEXT_ONLY: &str = "prompts are texts";
pub(super) const TRANSLATORS: &str = "it belongs to DJL's Java translators; the files of the checkpoint say it here, and requests can ask otherwise";
