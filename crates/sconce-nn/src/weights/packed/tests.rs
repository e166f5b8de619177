//! Packed by hand with the documented layouts; whole checkpoints are in `tests/packed.rs`.

use super::*;

/// Tensors by name.
struct Tensors(BTreeMap<String, HostTensor>);

impl WeightSource for Tensors {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn get(&self, name: &str) -> Result<HostTensor, WeightError> {
        self.0
            .get(name)
            .cloned()
            .ok_or_else(|| WeightError::NoTensor {
                name: name.to_owned(),
                origin: self.describe(),
                similar: Vec::new(),
            })
    }

    fn total_bytes(&self) -> u64 {
        self.0.values().map(|tensor| tensor.byte_len() as u64).sum()
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

const INPUTS: usize = 64;
const OUTPUTS: usize = 8;
const GROUP: usize = 32;
const PLAIN: PackedKind = PackedKind::Gptq {
    act_order: false,
    less_one: true,
};
const ORDERED: PackedKind = PackedKind::Gptq {
    act_order: true,
    less_one: true,
};

fn level(input: usize, output: usize, bits: usize) -> u32 {
    ((input * 7 + output * 5 + input / 9) % (1 << bits)) as u32
}

fn scale(group: usize, output: usize) -> f32 {
    (group * OUTPUTS + output + 1) as f32 / 64.0
}

fn zero(group: usize, output: usize, packed: &Packed) -> u32 {
    if packed.symmetric {
        1 << (packed.bits - 1)
    } else {
        ((group * 3 + output * 2 + 1) % (1 << packed.bits)) as u32
    }
}

/// Packs a matrix called `m`; `groups` says the group of each input.
fn checkpoint(packed: &Packed, groups: impl Fn(usize) -> usize) -> Tensors {
    let (bits, per_word) = (packed.bits, 32 / packed.bits);
    let awq = packed.kind == PackedKind::Awq;
    let field = |place: usize| {
        if awq {
            [0, 4, 1, 5, 2, 6, 3, 7][place]
        } else {
            place
        }
    };
    let less = match packed.kind {
        PackedKind::Gptq { less_one: true, .. } => 1,
        _ => 0,
    };
    let count = INPUTS / GROUP;
    let words = INPUTS * OUTPUTS / per_word;
    let (mut weights, mut zeros) = (vec![0u32; words], vec![0u32; count * OUTPUTS / per_word]);
    for output in 0..OUTPUTS {
        for input in 0..INPUTS {
            let (word, at) = if awq {
                (
                    input * OUTPUTS / per_word + output / per_word,
                    field(output % per_word),
                )
            } else {
                (input / per_word * OUTPUTS + output, input % per_word)
            };
            weights[word] |= level(input, output, bits) << (at * bits);
        }
        for group in 0..count {
            let stored = zero(group, output, packed).wrapping_sub(less) & ((1 << bits) - 1);
            zeros[group * OUTPUTS / per_word + output / per_word] |=
                stored << (field(output % per_word) * bits);
        }
    }
    let signed = |words: &[u32]| words.iter().map(|&word| word as i32).collect::<Vec<_>>();
    let scales: Vec<f16> = (0..count * OUTPUTS)
        .map(|i| f16::from_f32(scale(i / OUTPUTS, i % OUTPUTS)))
        .collect();
    let shape = if awq {
        [INPUTS, OUTPUTS / per_word]
    } else {
        [INPUTS / per_word, OUTPUTS]
    };
    let mut tensors = BTreeMap::from([
        (
            "m.qweight".to_owned(),
            HostTensor::from_slice(&signed(&weights), &shape),
        ),
        (
            "m.qzeros".to_owned(),
            HostTensor::from_slice(&signed(&zeros), &[count, OUTPUTS / per_word]),
        ),
        (
            "m.scales".to_owned(),
            HostTensor::from_slice(&scales, &[count, OUTPUTS]),
        ),
        (
            "norm.weight".to_owned(),
            HostTensor::from_f32(vec![1.0; 3], &[3]),
        ),
    ]);
    if !awq {
        let groups: Vec<i32> = (0..INPUTS).map(|input| groups(input) as i32).collect();
        tensors.insert(
            "m.g_idx".to_owned(),
            HostTensor::from_slice(&groups, &[INPUTS]),
        );
    }
    Tensors(tensors)
}

fn packed(kind: PackedKind, bits: usize, symmetric: bool) -> Packed {
    Packed {
        kind,
        bits,
        group: Some(GROUP),
        symmetric,
    }
}

fn unpacked(packed: Packed, groups: impl Fn(usize) -> usize) -> Result<HostTensor, WeightError> {
    let source = Unpacked::new(Arc::new(checkpoint(&packed, groups)), packed)?;
    assert_eq!(source.names(), ["m.weight", "norm.weight"]);
    let (weight, outline) = (source.get("m.weight")?, source.outline("m.weight")?);
    assert_eq!(
        (outline.shape(), outline.dtype()),
        (weight.shape(), weight.dtype())
    );
    assert_eq!(source.total_bytes(), weight.byte_len() as u64 + 12);
    Ok(weight)
}

fn expect(weight: &HostTensor, packed: &Packed, groups: impl Fn(usize) -> usize, error: f32) {
    assert_eq!(weight.shape(), [OUTPUTS, INPUTS]);
    for (index, got) in weight.to_vec_f32().unwrap().into_iter().enumerate() {
        let (output, input) = (index / INPUTS, index % INPUTS);
        let group = groups(input);
        let steps = level(input, output, packed.bits) as f32 - zero(group, output, packed) as f32;
        let wanted = scale(group, output) * steps;
        assert!(
            (got - wanted).abs() <= error,
            "{packed:?} [{output}, {input}]: {got}, not {wanted}"
        );
    }
}

#[test]
fn groups_in_order_become_blocks_without_loss() {
    let in_order = |input: usize| input / GROUP;
    let less = PLAIN;
    let plain = PackedKind::Gptq {
        act_order: false,
        less_one: false,
    };
    for (kind, bits, symmetric, format) in [
        (PackedKind::Awq, 4, false, BlockFormat::Q4_1),
        (less, 4, false, BlockFormat::Q4_1),
        (plain, 4, false, BlockFormat::Q4_1),
        (less, 4, true, BlockFormat::Q4_0),
        (less, 8, true, BlockFormat::Q8_0),
        (ORDERED, 4, true, BlockFormat::Q4_0),
    ] {
        let packed = packed(kind, bits, symmetric);
        let weight = unpacked(packed, in_order).unwrap();
        assert_eq!(weight.dtype(), StoredDtype::Quantised(format));
        expect(&weight, &packed, in_order, 0.0);
    }
}

type Cut = fn(&HostTensor) -> Result<HostTensor, WeightError>;

/// Cuts of rows, of columns, of both, of picked rows, and turned: as of the whole, and without making the whole.
#[test]
fn a_part_is_unpacked_without_the_rest() {
    let in_order = |input: usize| input / GROUP;
    let odd = |input: usize| input % 2;
    let symmetric = packed(PLAIN, 4, true);
    let asymmetric = packed(PackedKind::Awq, 4, false);
    let numbers = packed(ORDERED, 8, true);
    for weight in [
        unpacked(symmetric, in_order).unwrap(),
        unpacked(asymmetric, in_order).unwrap(),
        unpacked(numbers, odd).unwrap(),
    ] {
        assert!(!weight.is_packed() && weight.is_owned());
        let whole = weight.copied().unwrap();
        let cuts: [Cut; 6] = [
            |matrix| matrix.narrow(0, 2, 5),
            |matrix| matrix.narrow(1, 32, 32),
            |matrix| matrix.narrow(0, 1, 6)?.narrow(1, 32, 32),
            |matrix| matrix.narrow(1, 0, 32)?.select_rows(&[7, 0, 3]),
            HostTensor::transpose,
            |matrix| matrix.narrow(0, 4, 0),
        ];
        for (index, cut) in cuts.iter().enumerate() {
            let (part, wanted) = (cut(&weight).unwrap(), cut(&whole).unwrap());
            let (got, wanted) = (part.copied().unwrap(), wanted.copied().unwrap());
            assert_eq!((got.dtype(), got.shape()), (wanted.dtype(), wanted.shape()));
            let bytes = |tensor: &HostTensor| tensor.run(0, tensor.elements()).to_vec();
            assert_eq!(bytes(&got), bytes(&wanted), "cut {index} of {got:?}");
        }
        let turned = weight.reshape(&[INPUTS / 32, OUTPUTS, 32]).unwrap();
        assert_eq!(turned.to_vec_f32().unwrap(), whole.to_vec_f32().unwrap());
        assert!(weight.blocks().is_err() && weight.rows().is_err());
    }
}

#[test]
fn inputs_out_of_order_and_asymmetric_bytes_become_numbers() {
    let odd = |input: usize| input % 2;
    for (bits, symmetric) in [(4, true), (4, false), (8, false)] {
        let packed = packed(ORDERED, bits, symmetric);
        let weight = unpacked(packed, odd).unwrap();
        assert_eq!(weight.dtype(), StoredDtype::F16);
        expect(&weight, &packed, odd, 0.02);
    }
}

#[test]
fn values_that_contradict_the_configuration_are_refused() {
    let message =
        |packed, groups: fn(usize) -> usize| unpacked(packed, groups).unwrap_err().to_string();
    let text = message(packed(PLAIN, 4, true), |input| input % 2);
    assert!(
        text.contains("g_idx is not in order, though desc_act"),
        "{text}"
    );
    let text = message(packed(ORDERED, 4, true), |input| input % 3);
    assert!(text.contains("g_idx names group 2 of 2"), "{text}");
    let asymmetric = packed(PLAIN, 4, false);
    let tensors = Arc::new(checkpoint(&asymmetric, |input| input / GROUP));
    let open = |packed| Unpacked::new(tensors.clone(), packed);
    let symmetric = Packed {
        symmetric: true,
        ..asymmetric
    };
    let text = open(symmetric)
        .unwrap()
        .get("m.weight")
        .unwrap_err()
        .to_string();
    assert!(text.contains("a zero is 1, not 8, though sym"), "{text}");
    for (changed, part) in [
        (
            Packed {
                bits: 8,
                ..asymmetric
            },
            "m.qzeros",
        ),
        (
            Packed {
                group: Some(16),
                ..asymmetric
            },
            "m.qzeros",
        ),
        (packed(PackedKind::Awq, 4, false), "m.qweight"),
    ] {
        let Err(error) = open(changed) else {
            panic!("{changed:?} is taken");
        };
        let text = error.to_string();
        assert!(
            text.contains(part) && text.contains("of another checkpoint"),
            "{text}"
        );
    }
}

#[test]
fn checkpoints_that_are_not_packed_say_so_and_zero_biases_need_no_place() {
    let kind = packed(PLAIN, 4, true);
    let mut tensors = checkpoint(&kind, |input| input / GROUP);
    let bias = |value: f32| HostTensor::from_f32(vec![value; OUTPUTS], &[OUTPUTS]);
    tensors.0.insert("m.bias".to_owned(), bias(0.0));
    let source = Unpacked::new(Arc::new(Tensors(tensors.0.clone())), kind).unwrap();
    assert_eq!(source.names(), ["m.weight", "norm.weight"]);
    assert!(source.has_unlisted("m.bias") && source.get("m.bias").is_ok());
    tensors.0.insert("m.bias".to_owned(), bias(0.5));
    let source = Unpacked::new(Arc::new(tensors), kind).unwrap();
    assert_eq!(source.names(), ["m.bias", "m.weight", "norm.weight"]);
    let plain = BTreeMap::from([("a.weight".to_owned(), bias(1.0))]);
    let Err(error) = Unpacked::new(Arc::new(Tensors(plain)), kind) else {
        panic!("nothing is packed");
    };
    assert!(error.to_string().contains("no tensor is packed"), "{error}");
}
