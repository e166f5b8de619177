//! What `option.quantize` and its relatives ask for: formats by name, and why others are refused.

use crate::settings::Quantize;
use crate::value::{Rejection, Value, word};

pub(super) const FLOATS_OF_8_BITS: &str = "8-bit floats are neither made nor read; option.quantize=int8 keeps more precision in as many \
     bits";

/// Ways to quantise that are known and not served: their names, and why.
const REFUSED: &[(&[&str], &str)] = &[
    (
        &["fp8", "fbgemm_fp8", "ptpc_fp8", "deepspeedfp", "modelopt"],
        FLOATS_OF_8_BITS,
    ),
    (
        &["smoothquant"],
        "activations in 8 bits with scales that are measured from texts are not served; \
         option.quantize=int8 keeps weights in 8 bits and needs no measuring",
    ),
    (
        &[
            "compressed-tensors",
            "marlin",
            "squeezellm",
            "exl2",
            "aqlm",
            "hqq",
            "qqq",
            "quark",
        ],
        "this packing is not read; serve the checkpoint it was made from with \
         option.quantize=int4, or one in GPTQ, AWQ or GGUF",
    ),
    (
        &["gguf"],
        "GGUF files tell their formats themselves; remove it",
    ),
];

/// The meaning of a value of `option.quantize`, in any case.
pub(crate) fn quantize(value: &str) -> Value<Quantize> {
    const WORDS: &[(&str, Quantize)] = &[
        ("none", Quantize::None),
        ("int8", Quantize::Q8Row),
        ("int4", Quantize::Int4),
        ("q8_0", Quantize::Q8_0),
        ("q8_row", Quantize::Q8Row),
        ("q6_k", Quantize::Q6K),
        ("q5_k", Quantize::Q5K),
        ("q5_1", Quantize::Q5_1),
        ("q5_0", Quantize::Q5_0),
        ("q4_k", Quantize::Q4K),
        ("q4_1", Quantize::Q4_1),
        ("q4_0", Quantize::Q4_0),
        ("awq", Quantize::Awq),
        ("awq_marlin", Quantize::Awq),
        ("gptq", Quantize::Gptq),
        ("gptq_marlin", Quantize::Gptq),
        ("bitsandbytes", Quantize::Q8Row),
        ("bitsandbytes8", Quantize::Q8Row),
        ("bitsandbytes4", Quantize::Int4),
        ("bitsandbytes-nf4", Quantize::Int4),
        ("bitsandbytes-fp4", Quantize::Int4),
        ("dynamic_int8", Quantize::Q8Row),
        ("static_int8", Quantize::Q8Row),
        ("eetq", Quantize::Q8Row),
    ];
    let value = value.to_ascii_lowercase();
    let refused = |(names, _): &&(&[&str], &str)| names.contains(&value.as_str());
    if let Some((_, reason)) = REFUSED.iter().find(refused) {
        return Err(Rejection::Unsupported((*reason).into()));
    }
    word(&value, WORDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_others_mean_the_format_of_as_many_bits() {
        for (value, wanted) in [
            ("None", Quantize::None),
            ("int8", Quantize::Q8Row),
            ("bitsandbytes8", Quantize::Q8Row),
            ("bitsandbytes-nf4", Quantize::Int4),
            ("Q4_K", Quantize::Q4K),
            ("gptq_marlin", Quantize::Gptq),
        ] {
            assert_eq!(quantize(value), Ok(wanted), "{value}");
        }
    }

    #[test]
    fn what_is_not_served_is_refused_by_name_with_the_cure() {
        for (value, part) in [
            ("fp8", "int8"),
            ("smoothquant", "needs no measuring"),
            ("compressed-tensors", "int4"),
            ("gguf", "remove it"),
        ] {
            let Err(Rejection::Unsupported(reason)) = quantize(value) else {
                panic!("{value} is taken");
            };
            assert!(reason.contains(part), "{reason}");
        }
        assert!(matches!(quantize("q3_k"), Err(Rejection::Invalid(_))));
    }
}
