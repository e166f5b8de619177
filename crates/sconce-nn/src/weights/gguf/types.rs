//! The types of tensors that ggml numbers (`ggml_type` in `ggml.h`), and which of them are read.

use crate::weights::block_format::BlockFormat;
use crate::weights::dtype::StoredDtype;

/// Numbers, ggml's names, and what the numbers are read as, if they are. Gaps are types that ggml has given up.
const TYPES: &[(u32, &str, Option<StoredDtype>)] = &[
    (0, "f32", Some(StoredDtype::F32)),
    (1, "f16", Some(StoredDtype::F16)),
    (2, "q4_0", quantised(BlockFormat::Q4_0)),
    (3, "q4_1", quantised(BlockFormat::Q4_1)),
    (6, "q5_0", quantised(BlockFormat::Q5_0)),
    (7, "q5_1", quantised(BlockFormat::Q5_1)),
    (8, "q8_0", quantised(BlockFormat::Q8_0)),
    (9, "q8_1", None),
    (10, "q2_K", None),
    (11, "q3_K", None),
    (12, "q4_K", quantised(BlockFormat::Q4K)),
    (13, "q5_K", quantised(BlockFormat::Q5K)),
    (14, "q6_K", quantised(BlockFormat::Q6K)),
    (15, "q8_K", None),
    (16, "iq2_xxs", None),
    (17, "iq2_xs", None),
    (18, "iq3_xxs", None),
    (19, "iq1_s", None),
    (20, "iq4_nl", None),
    (21, "iq3_s", None),
    (22, "iq2_s", None),
    (23, "iq4_xs", None),
    (24, "i8", Some(StoredDtype::I8)),
    (25, "i16", Some(StoredDtype::I16)),
    (26, "i32", Some(StoredDtype::I32)),
    (27, "i64", Some(StoredDtype::I64)),
    (28, "f64", Some(StoredDtype::F64)),
    (29, "iq1_m", None),
    (30, "bf16", Some(StoredDtype::BF16)),
    (34, "tq1_0", None),
    (35, "tq2_0", None),
    (39, "mxfp4", None),
    (40, "nvfp4", None),
    (41, "q1_0", None),
];

const fn quantised(format: BlockFormat) -> Option<StoredDtype> {
    Some(StoredDtype::Quantised(format))
}

/// What the numbers of a type are read as, or, for a type without a reader, its description.
pub(super) fn stored(number: u32) -> Result<StoredDtype, String> {
    let known = TYPES.iter().find(|(known, ..)| *known == number);
    match known {
        Some((.., Some(dtype))) => Ok(*dtype),
        Some((_, name, None)) => Err(format!("{name} (ggml's type {number}; {})", readable())),
        None => Err(format!(
            "ggml's type {number}, which has no name here ({})",
            readable()
        )),
    }
}

/// The types of weights that are read.
fn readable() -> String {
    let read = TYPES.iter().filter(|(.., dtype)| {
        dtype.is_some_and(|dtype| dtype.is_float() || matches!(dtype, StoredDtype::Quantised(_)))
    });
    let names: Vec<&str> = read.map(|(_, name, _)| *name).collect();
    format!(
        "weights are read as {}: take a file of one of these, or quantise it anew",
        names.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_ggml_and_unread_types_have_their_names() {
        assert_eq!(stored(30), Ok(StoredDtype::BF16));
        assert_eq!(stored(12), Ok(StoredDtype::Quantised(BlockFormat::Q4K)));
        let named = stored(17).unwrap_err();
        assert!(
            named.starts_with("iq2_xs (ggml's type 17; weights are read as f32, f16, q4_0, "),
            "{named}"
        );
        assert!(
            stored(99)
                .unwrap_err()
                .starts_with("ggml's type 99, which has no name here")
        );
    }
}
