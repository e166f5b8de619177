//! Sums, norms, activations and rows, against the layers and what is worked out here.

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
fn rows_are_looked_up_cut_joined_and_added_where_they_belong() {
    let (width, rows, first) = (70, 4, 100);
    for dtype in TYPES {
        let x = dtype.rounded(&numbers(width * rows, 21));
        let sums = numbers(width * rows, 22);
        let (ids, targets, weights) = ([103, 99, 101, 104], [2, 0, 3], [0.5, -2.0, 1.5]);
        let (start, wanted) = (60, 16);
        let input = Input::default()
            .indices(&[width, first, start, wanted].map(|size| size as u32))
            .numbers(&x)
            .indices(&ids)
            .indices(&targets)
            .numbers(&weights)
            .numbers(&sums);
        let Some(made) = input.run("rows", dtype, 3) else {
            return;
        };
        let row = |index: usize| &x[index * width..(index + 1) * width];
        let nothing = vec![0.0; width];
        let looked_up = [row(3), &nothing, row(1), &nothing].concat();
        assert_eq!(floats(&made[0]), looked_up, "{}", dtype.name());
        let cut = |index| [&row(index)[start..], &[0.0; 6]].concat();
        assert_eq!(
            floats(&made[1]),
            (0..rows).flat_map(cut).collect::<Vec<_>>()
        );
        // Two parts of two rows.
        assert_eq!(floats(&made[2]), [row(0), row(2), row(1), row(3)].concat());
        let mut want = sums;
        for (summand, (target, weight)) in targets.into_iter().zip(weights).enumerate() {
            for (sum, number) in want[target as usize * width..].iter_mut().zip(row(summand)) {
                *sum += weight * number;
            }
        }
        Type::F32.close(&floats(&made[3]), &want, dtype.name());
    }
}

#[test]
fn numbers_are_added_scaled_clipped_and_multiplied_one_by_one() {
    let (width, rows) = (24, 11);
    for dtype in TYPES {
        let [x, y] = [31, 32].map(|seed| dtype.rounded(&numbers(width * rows, seed)));
        let bias = numbers(width, 33);
        // A factor for each number of a row, or for each row.
        for (factors, run) in [(width, 1), (rows, width)] {
            let weight = dtype.rounded(&numbers(factors, 34));
            let input = Input::default()
                .numbers(&x)
                .numbers(&y)
                .numbers(&weight)
                .numbers(&[-3.25, 0.5, run as f32])
                .numbers(&bias);
            let Some(made) = input.run("each", dtype, 4) else {
                return;
            };
            let each = |of: &dyn Fn(usize) -> f32| -> Vec<f32> {
                (0..x.len()).map(|index| dtype.round(of(index))).collect()
            };
            let want = [
                each(&|i| x[i] + y[i]),
                each(&|i| x[i] + bias[i % width]),
                each(&|i| x[i] * -3.25),
                each(&|i| x[i].clamp(-0.5, 0.5)),
                each(&|i| x[i] * weight[i / run % factors]),
                x.clone(),
            ];
            for (index, (made, want)) in made.iter().zip(want).enumerate() {
                assert_eq!(floats(made), want, "{}, {index}", dtype.name());
            }
        }
    }
}
