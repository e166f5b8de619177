//! Sums, norms, activations and the largest logit, against the layers and what is worked out here.

use candle_core::{Device, Tensor};

use super::{Input, TYPES, Type, floats};
use crate::Act;
use crate::kernels::cpu::testing::numbers;

#[test]
fn sums_and_norms_equal_those_worked_out_in_double_precision() {
    for (width, rows) in [(33, 3), (96, 1), (500, 2)] {
        for dtype in TYPES {
            for (centred, biased, summed) in [
                (false, false, true),
                (true, true, true),
                (true, false, false),
            ] {
                let x = dtype.rounded(&numbers(width * rows, 7));
                let y = dtype.rounded(&numbers(if summed { width * rows } else { 0 }, 8));
                let weight = numbers(width, 9);
                let bias = numbers(if biased { width } else { 0 }, 10);
                let input = Input::default()
                    .numbers(&[1e-3, f32::from(u8::from(centred))])
                    .numbers(&x)
                    .numbers(&y)
                    .numbers(&weight)
                    .numbers(&bias);
                let Some(made) = input.run("norm", dtype, 6) else {
                    return;
                };
                let sums: Vec<f32> = match summed {
                    true => x.iter().zip(&y).map(|(x, y)| dtype.round(x + y)).collect(),
                    false => x,
                };
                if summed {
                    assert_eq!(floats(&made[0]), sums);
                }
                let mut want = Vec::new();
                for row in sums.chunks_exact(width) {
                    let wide = || row.iter().map(|&number| f64::from(number));
                    let mean = if centred {
                        wide().sum::<f64>() / width as f64
                    } else {
                        0.0
                    };
                    let squares: f64 = wide().map(|number| (number - mean).powi(2)).sum();
                    let factor = 1.0 / (squares / width as f64 + 1e-3).sqrt();
                    want.extend(wide().enumerate().map(|(index, number)| {
                        let bias = bias.get(index).copied().unwrap_or(0.0);
                        ((number - mean) * factor * f64::from(weight[index])) as f32 + bias
                    }));
                }
                dtype.close(
                    &floats(&made[1]),
                    &want,
                    &format!("width {width}, centred: {centred}"),
                );
            }
        }
    }
}

#[test]
fn gates_are_activated_as_on_the_processor() {
    // In the order of `Act` in gate.cuh.
    let acts = [
        Act::Gelu,
        Act::GeluTanh,
        Act::QuickGelu,
        Act::Silu,
        Act::Relu,
        Act::ReluSquared,
        Act::Tanh,
        Act::Sigmoid,
        Act::Linear,
    ];
    for dtype in TYPES {
        let x: Vec<f32> = numbers(401, 11).iter().map(|number| 4.0 * number).collect();
        let (x, up) = (dtype.rounded(&x), dtype.rounded(&numbers(401, 12)));
        let tensor = |numbers: &[f32]| {
            Tensor::from_vec(numbers.to_vec(), numbers.len(), &Device::Cpu).unwrap()
        };
        for (index, act) in acts.iter().enumerate() {
            let input = Input::default().indices(&[index as u32]).numbers(&x);
            let Some(alone) = Input(input.0.clone()).numbers(&[]).run("gate", dtype, 7) else {
                return;
            };
            let gated = input.numbers(&up).run("gate", dtype, 7).unwrap();
            let want = act.apply(&tensor(&x)).unwrap().to_vec1::<f32>().unwrap();
            dtype.close(&floats(&alone[0]), &want, &format!("{act:?}"));
            let want = act
                .gate(&tensor(&x), &tensor(&up))
                .unwrap()
                .to_vec1::<f32>()
                .unwrap();
            dtype.close(&floats(&gated[0]), &want, &format!("gated {act:?}"));
        }
    }
}

#[test]
fn the_first_of_the_largest_logits_is_picked_and_what_is_no_number_is_noticed() {
    let vocab = 1003;
    let mut rows: Vec<(Vec<f32>, u32)> = Vec::new();
    for (largest, also) in [(0, 5), (1002, 1002), (517, 900), (31, 32), (127, 128)] {
        let mut row = numbers(vocab, largest as u64);
        row[largest] = 9.0;
        row[also] = 9.0;
        rows.push((row, largest as u32));
    }
    rows.push((vec![f32::NEG_INFINITY; vocab], 0));
    let mut broken = numbers(vocab, 1);
    broken[700] = f32::NAN;
    rows.push((broken, vocab as u32));
    let logits: Vec<f32> = rows.iter().flat_map(|row| row.0.clone()).collect();
    let input = Input::default().indices(&[vocab as u32]).numbers(&logits);
    for seed in 0..3 {
        let Some(picked) = input.run("pick", Type::F32, seed) else {
            return;
        };
        assert_eq!(picked[0], rows.iter().map(|row| row.1).collect::<Vec<_>>());
    }
}
