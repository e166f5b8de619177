//! Which dialect a configuration means, what follows from it, and what is told of it.

use super::{Start, says};
use crate::Dialect;

fn dialect(properties: &str) -> Dialect {
    let start = Start::with_model().properties(properties);
    start.resolved().model.dialect
}

#[test]
fn each_rule_has_its_dialect() {
    for (properties, expected) in [
        ("", Dialect::Async),
        ("engine=Python", Dialect::Async),
        ("option.async_mode=false", Dialect::Async),
        ("option.async_mode=true", Dialect::Async),
        ("option.rolling_batch=disable", Dialect::HuggingFace),
        ("option.rolling_batch=auto", Dialect::Rolling),
        ("option.rolling_batch=lmi-dist", Dialect::Rolling),
        ("rolling_batch=scheduler", Dialect::Rolling),
        ("engine=MPI", Dialect::Rolling),
        (
            "engine=MPI\noption.rolling_batch=disable",
            Dialect::HuggingFace,
        ),
        ("engine=DeepSpeed", Dialect::DeepSpeed),
        ("engine=FasterTransformer", Dialect::FasterTransformer),
        (
            "engine=DeepSpeed\noption.rolling_batch=auto",
            Dialect::Rolling,
        ),
        ("option.entryPoint=djl_python.deepspeed", Dialect::DeepSpeed),
        (
            "option.entryPoint=djl_python.huggingface",
            Dialect::HuggingFace,
        ),
        (
            "option.entryPoint=djl_python.tensorrt_llm",
            Dialect::Rolling,
        ),
        (
            "option.entryPoint=djl_python.lmi_vllm.vllm_async_service\noption.rolling_batch=disable",
            Dialect::Async,
        ),
        ("batch_size=4", Dialect::HuggingFace),
        ("batch_size=1", Dialect::Async),
        ("option.tgi_compat=true", Dialect::RollingTgi),
        (
            "option.tgi_compat=true\noption.rolling_batch=vllm",
            Dialect::RollingTgi,
        ),
        (
            "option.api_version=tgi\noption.rolling_batch=vllm",
            Dialect::Tgi,
        ),
        ("option.api_version=rolling-2023", Dialect::Rolling2023),
        (
            "option.api_version=djl-0.24\noption.rolling_batch=auto",
            Dialect::Rolling2023,
        ),
        ("option.api_version=lmi-v9", Dialect::Rolling),
        ("option.api_version=lmi-v18", Dialect::Async),
        (
            "option.api_version=djl-0.21\nengine=DeepSpeed",
            Dialect::DeepSpeed,
        ),
    ] {
        assert_eq!(dialect(properties), expected, "{properties}");
    }
}

#[test]
fn the_reason_is_told_with_the_place_that_decided() {
    let told = |properties: &str| {
        let resolved = Start::with_model().properties(properties).resolved();
        let origin = resolved.origins.into_iter().find(|o| o.key == "dialect");
        origin.expect("the dialect is always told").to_string()
    };
    says(
        &told("engine=Python\noption.rolling_batch=vllm\n"),
        &[
            "dialect = rolling (",
            "properties:2), because option.rolling_batch",
        ],
    );
    says(
        &told(""),
        &["dialect = async (default), because nothing names another"],
    );
    says(
        &told("option.api_version=djl-0.27\n"),
        &["dialect = rolling (", "what 0.27 answers"],
    );
}

#[test]
fn sampling_is_the_model_s_where_the_dialect_has_it_so() {
    let sampling = |properties: &str| {
        let start = Start::with_model().properties(properties);
        start.resolved().model.model_sampling
    };
    for (properties, expected) in [
        ("", true),
        ("option.rolling_batch=disable", true),
        ("option.rolling_batch=vllm", false),
        ("option.tgi_compat=true", false),
        (
            "option.rolling_batch=vllm\noption.generation_config=auto",
            true,
        ),
        ("option.generation_config=vllm", false),
    ] {
        assert_eq!(sampling(properties), expected, "{properties}");
    }
}
