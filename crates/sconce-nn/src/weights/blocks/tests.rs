//! Round trips, cuts and refusals; and ggml's own blocks, from `tests/fixtures/blocks/make.py`.

use std::path::Path;

use super::*;
use crate::weights::StoredDtype::{BF16, F16, F32, Quantised};
use crate::weights::WeightSource;

/// Numbers of a bell-like spread, another for each seed.
fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count)
        .map(|_| uniform() * uniform() * uniform() * 0.1)
        .collect()
}

fn matrix(rows: usize, columns: usize) -> HostTensor {
    HostTensor::from_f32(numbers(rows * columns, 7), &[rows, columns])
}

/// Half a step of the format for numbers within ±0.1 that are all of one sign or both.
fn tolerance(format: BlockFormat) -> f32 {
    match format {
        BlockFormat::Q4_0 | BlockFormat::Q4_1 | BlockFormat::Q4K => 0.0145,
        BlockFormat::Q5_0 | BlockFormat::Q5_1 | BlockFormat::Q5K => 0.0075,
        BlockFormat::Q6K => 0.004,
        BlockFormat::Q8_0 | BlockFormat::Q8Row => 0.0005,
    }
}

#[test]
fn numbers_survive_every_format_within_its_step() {
    for format in BlockFormat::ALL {
        let matrix = matrix(5, 512);
        let quantised = matrix.to_dtype(Quantised(format)).unwrap();
        assert_eq!(quantised.shape(), [5, 512]);
        assert_eq!(
            quantised.byte_len(),
            5 * 512 / format.numbers() * format.bytes()
        );
        let back = quantised.to_vec_f32().unwrap();
        for (back, number) in back.iter().zip(matrix.to_vec_f32().unwrap()) {
            assert!(
                (back - number).abs() < tolerance(format),
                "{format}: {number} became {back}"
            );
        }
        let half = quantised.to_dtype(F16).unwrap();
        assert_eq!((half.dtype(), half.shape()), (F16, &[5, 512][..]));
        assert_eq!(
            quantised.to_dtype(BF16).unwrap().to_vec_f32().unwrap(),
            HostTensor::from_f32(back, &[5, 512])
                .to_dtype(BF16)
                .unwrap()
                .to_vec_f32()
                .unwrap()
        );
    }
}

#[test]
fn rows_are_quantised_alike_in_any_company_and_from_any_view() {
    for format in BlockFormat::ALL {
        let wanted = Quantised(format);
        let large = matrix(300, 512);
        let all = large.to_dtype(wanted).unwrap();
        let one = large.narrow(0, 123, 1).unwrap().to_dtype(wanted).unwrap();
        assert_eq!(one.row_bytes(0), all.row_bytes(123));
        let turned = large
            .transpose()
            .unwrap()
            .copied()
            .unwrap()
            .transpose()
            .unwrap();
        let turned = turned.to_dtype(wanted).unwrap();
        assert_eq!(turned.row_bytes(299), all.row_bytes(299));
    }
}

#[test]
fn cuts_joins_and_picks_move_whole_blocks() {
    for format in BlockFormat::ALL {
        let block = format.numbers();
        let whole = matrix(6, 3 * block).to_dtype(Quantised(format)).unwrap();
        let row = |tensor: &HostTensor, row| tensor.row_bytes(row).to_vec();
        let middle = whole.narrow(1, block, block).unwrap();
        assert_eq!(
            row(&middle, 2),
            row(&whole, 2)[format.bytes()..2 * format.bytes()]
        );
        let blocks = middle.blocks().unwrap();
        assert_eq!((blocks.format, blocks.stride), (format, 3 * format.bytes()));
        assert_eq!(blocks.bytes[5 * blocks.stride..], row(&middle, 5));
        let numbers = whole.to_vec_f32().unwrap();
        let wanted: Vec<f32> = (0..6)
            .flat_map(|row| numbers[(3 * row + 1) * block..][..block].to_vec())
            .collect();
        assert_eq!(middle.to_vec_f32().unwrap(), wanted);
        let picked = whole.select_rows(&[4, 0, 4]).unwrap();
        assert_eq!(row(&picked, 2), row(&whole, 4));
        let joined = HostTensor::cat(&[middle.clone(), middle]).unwrap();
        assert_eq!(
            (joined.shape(), joined.row_bytes(8)),
            (
                &[12, block][..],
                &row(&whole, 2)[format.bytes()..2 * format.bytes()]
            )
        );
        let cube = whole.reshape(&[2, 3, 3 * block]).unwrap();
        let second = cube
            .narrow(0, 1, 1)
            .unwrap()
            .reshape(&[3, 3 * block])
            .unwrap();
        assert_eq!(row(&second, 0), row(&whole, 3));
        let turned = whole.transpose().unwrap();
        assert_eq!((turned.dtype(), turned.shape()), (F32, &[3 * block, 6][..]));
        assert_eq!(turned.to_vec_f32().unwrap()[6], numbers[1]);
    }
}

#[test]
fn what_would_cut_a_block_is_refused() {
    let whole = matrix(2, 64)
        .to_dtype(Quantised(BlockFormat::Q8_0))
        .unwrap();
    let message = whole.narrow(1, 16, 32).unwrap_err().to_string();
    assert!(
        message.contains("narrow of a q8_0 tensor of shape [2, 64]: 32 elements from 16"),
        "{message}"
    );
    assert!(message.contains("cut at multiples of 32"), "{message}");
    assert!(
        !whole.can_narrow(1, 0, 33) && whole.can_narrow(1, 32, 32) && whole.can_narrow(0, 1, 1)
    );
    assert!(whole.reshape(&[8, 16]).is_err());
    assert!(
        whole.numbers::<u8>().is_err() && whole.rows().is_err() && matrix(1, 32).blocks().is_err()
    );
    let message = matrix(2, 48)
        .to_dtype(Quantised(BlockFormat::Q4K))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("rows of 48 numbers are not whole blocks of 256, the size of q4_k"),
        "{message}"
    );
    let integers = HostTensor::from_slice(&[1i32; 32], &[32]);
    assert!(integers.to_dtype(Quantised(BlockFormat::Q8_0)).is_err());
    assert!(whole.to_dtype(StoredDtype::I8).is_err());
    let blocks = |bytes: usize, shape: &[usize]| {
        HostTensor::from_blocks(BlockFormat::Q4_0, &vec![0; bytes], shape)
    };
    assert!(blocks(36, &[2, 32]).is_ok() && blocks(0, &[0, 32]).is_ok());
    for (bytes, shape) in [
        (35, &[2, 32][..]),
        (36, &[2, 33]),
        (18, &[]),
        (36, &[usize::MAX, 64]),
    ] {
        assert!(blocks(bytes, shape).is_err(), "{bytes} {shape:?}");
    }
}

#[test]
fn numbers_that_no_scale_can_reach_are_refused_with_their_place() {
    for bad in [f32::NAN, f32::INFINITY, -1e6] {
        let mut numbers = numbers(3 * 256, 3);
        numbers[256 + 70] = bad;
        for format in BlockFormat::ALL {
            let matrix = HostTensor::from_f32(numbers.clone(), &[3, 256]);
            let message = matrix.to_dtype(Quantised(format)).unwrap_err().to_string();
            assert!(message.contains("number 70 of row 1"), "{message}");
        }
    }
}

#[test]
fn zeros_stay_zeros_and_constants_stay_near() {
    for format in BlockFormat::ALL {
        for constant in [0.0, 1.5, -2.25] {
            let row = HostTensor::from_f32(vec![constant; 256], &[256]);
            let back = row
                .to_dtype(Quantised(format))
                .unwrap()
                .to_vec_f32()
                .unwrap();
            let close = back
                .iter()
                .all(|x| (x - constant).abs() <= constant.abs() / 50.0);
            assert!(close, "{format}: {constant} became {:?}", &back[..2]);
        }
    }
}

#[test]
fn outlines_know_the_size_of_what_they_stand_for() {
    let outline = matrix(4, 512).outline();
    for format in BlockFormat::ALL {
        let real = matrix(4, 512).to_dtype(Quantised(format)).unwrap();
        let quantised = outline.to_dtype(Quantised(format)).unwrap();
        assert_eq!(
            (quantised.byte_len(), quantised.is_owned()),
            (real.byte_len(), true)
        );
        assert!(quantised.blocks().is_err());
        let cut = real
            .outline()
            .narrow(1, 256, 256)
            .unwrap()
            .copied()
            .unwrap();
        assert_eq!(cut.byte_len(), real.byte_len() / 2);
        assert_eq!(quantised.to_dtype(F32).unwrap().byte_len(), 4 * 512 * 4);
    }
}

/// The formats that ggml has.
fn ggml_formats() -> impl Iterator<Item = BlockFormat> {
    let known = |format: &BlockFormat| *format != BlockFormat::Q8Row;
    BlockFormat::ALL.into_iter().filter(known)
}

fn ggml() -> Box<dyn WeightSource> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/blocks");
    crate::weights::open(Path::new(dir)).unwrap()
}

#[test]
fn blocks_are_made_as_ggml_makes_them() {
    let ggml = ggml();
    let numbers = ggml.get("numbers").unwrap();
    for format in ggml_formats() {
        let wanted = ggml.get(&format!("{format}.blocks")).unwrap();
        let quantised = numbers.to_dtype(Quantised(format)).unwrap();
        for row in 0..numbers.shape()[0] {
            let (got, wanted) = (quantised.row_bytes(row), wanted.row_bytes(row));
            let pairs = got
                .chunks(format.bytes())
                .zip(wanted.chunks(format.bytes()));
            for (block, (got, wanted)) in pairs.enumerate() {
                assert_eq!(got, wanted, "{format}, row {row}, block {block}");
            }
        }
    }
}

#[test]
fn blocks_of_any_bytes_are_read_as_ggml_reads_them() {
    let ggml = ggml();
    for format in ggml_formats() {
        let bytes = ggml.get(&format!("{format}.random")).unwrap();
        let wanted = ggml.get(&format!("{format}.random_numbers")).unwrap();
        let count = wanted.elements();
        let tensor = HostTensor::from_blocks(format, bytes.numbers().unwrap(), &[count]).unwrap();
        let wanted = wanted.to_vec_f32().unwrap();
        for (index, (got, wanted)) in tensor.to_vec_f32().unwrap().iter().zip(&wanted).enumerate() {
            assert_eq!(got.to_bits(), wanted.to_bits(), "{format}, number {index}");
        }
    }
}

#[test]
fn bytes_with_one_scale_for_a_row_are_within_half_a_step_of_it() {
    let wanted = Quantised(BlockFormat::Q8Row);
    let mut all = numbers(3 * 96, 5);
    all[96..192].fill(0.0);
    all[192] = 40.0;
    let quantised = HostTensor::from_f32(all.clone(), &[3, 96]);
    let quantised = quantised.to_dtype(wanted).unwrap();
    let back = quantised.to_vec_f32().unwrap();
    for (row, (numbers, back)) in all.chunks(96).zip(back.chunks(96)).enumerate() {
        let blocks = quantised.row_bytes(row);
        let blocks: Vec<_> = blocks.chunks(wanted.bytes(32)).collect();
        assert!(blocks.iter().all(|block| block[..2] == blocks[0][..2]));
        let largest = numbers.iter().fold(0.0, |most: f32, x| most.max(x.abs()));
        for (number, back) in numbers.iter().zip(back) {
            // The scale itself is rounded to f16.
            assert!(
                (number - back).abs() <= largest / 127.0 * 0.58,
                "{number} became {back}"
            );
        }
    }
}
