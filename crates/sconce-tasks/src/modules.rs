//! How the numbers of tokens become the vector of a text: sentence-transformers' `modules.json` and the files that it
//! names.

use std::fs;
use std::path::{Path, PathBuf};

use sconce_core::task::Pooling;
use sconce_models::encoder::Projection;
use sconce_nn::Act;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::StartError;

/// What makes vectors of texts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Modules {
    /// Vectors of these kinds, end to end.
    pub(crate) pooling: Vec<Pooling>,
    /// Whether the tokens of a prompt count.
    pub(crate) include_prompt: bool,
    /// In order.
    pub(crate) steps: Vec<Step>,
    /// Texts to put before others, by name.
    pub(crate) prompts: Map<String, Value>,
    /// The one that is put before every text that names none.
    pub(crate) default_prompt: Option<String>,
    /// Whether texts are lower-cased first.
    pub(crate) lower: bool,
    /// Longest text in tokens.
    pub(crate) max_len: Option<usize>,
}

/// What the configuration asks for whatever the checkpoint says; what it leaves open is as the checkpoint has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VectorWish {
    /// How the vectors of tokens become one.
    pub pooling: Option<Pooling>,
    /// Whether vectors have the length 1.
    pub normalize: Option<bool>,
}

/// A step behind the pooling.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A linear layer.
    Dense(Projection),
    /// The vector is brought to the length 1.
    Normalize,
}

/// In the order in which their vectors stand.
const POOLINGS: [(&str, Pooling); 6] = [
    ("pooling_mode_cls_token", Pooling::First),
    ("pooling_mode_max_tokens", Pooling::Max),
    ("pooling_mode_mean_tokens", Pooling::Mean),
    ("pooling_mode_mean_sqrt_len_tokens", Pooling::MeanSqrt),
    ("pooling_mode_weightedmean_tokens", Pooling::Weighted),
    ("pooling_mode_lasttoken", Pooling::Last),
];

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    path: String,
    r#type: String,
}

#[derive(Deserialize)]
struct Dense {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    activation_function: Option<String>,
    #[serde(default)]
    use_residual: bool,
}

#[derive(Default, Deserialize)]
struct Transformer {
    max_seq_length: Option<usize>,
    #[serde(default)]
    do_lower_case: bool,
}

#[derive(Default, Deserialize)]
struct Whole {
    #[serde(default)]
    prompts: Map<String, Value>,
    default_prompt_name: Option<String>,
}

fn yes() -> bool {
    true
}

impl Modules {
    /// Reads them; without `modules.json` a text is the mean of its tokens, as for sentence-transformers.
    pub(crate) fn read(dir: &Path, width: usize, wish: VectorWish) -> Result<Self, StartError> {
        let whole: Whole =
            read(&dir.join("config_sentence_transformers.json"))?.unwrap_or_default();
        let transformer: Transformer =
            read(&dir.join("sentence_bert_config.json"))?.unwrap_or_default();
        let mut modules = Self {
            include_prompt: true,
            prompts: whole.prompts,
            default_prompt: whole.default_prompt_name,
            lower: transformer.do_lower_case,
            max_len: transformer.max_seq_length,
            ..Self::default()
        };
        let file = dir.join("modules.json");
        match read::<Vec<Listed>>(&file)? {
            None => modules.pooling = vec![wish.pooling.unwrap_or(Pooling::Mean)],
            Some(listed) => modules.take(dir, &file, (listed, wish.pooling), width)?,
        }
        match wish.normalize {
            Some(true) if !modules.normalizes() => modules.steps.push(Step::Normalize),
            Some(false) => modules
                .steps
                .retain(|step| !matches!(step, Step::Normalize)),
            _ => {}
        }
        Ok(modules)
    }

    /// Whether vectors have the length 1.
    pub(crate) fn normalizes(&self) -> bool {
        matches!(self.steps.last(), Some(Step::Normalize))
    }

    fn take(
        &mut self,
        dir: &Path,
        file: &Path,
        (listed, pooling): (Vec<Listed>, Option<Pooling>),
        mut width: usize,
    ) -> Result<(), StartError> {
        let refuse = |problem: String| {
            Err(StartError::Modules {
                file: file.into(),
                problem,
            })
        };
        for (at, Listed { path, r#type }) in listed.iter().enumerate() {
            let config = dir.join(path).join("config.json");
            match (at, r#type.rsplit('.').next().unwrap_or_default()) {
                (0, "Transformer") if path.is_empty() => {}
                (0, "Transformer") => {
                    return refuse(format!(
                        "the model lies in {path}/; copy what is there, and modules.json with an empty path, beside it"
                    ));
                }
                (1.., "Pooling") if self.pooling.is_empty() => {
                    self.take_pooling(&config, width)?;
                    if let Some(asked) = pooling {
                        self.pooling = vec![asked];
                    }
                    width *= self.pooling.len();
                }
                (2.., "Dense") => width = self.take_dense(&dir.join(path), &config, width)?,
                (2.., "Normalize") => self.steps.push(Step::Normalize),
                (at, _) => {
                    return refuse(format!(
                        "module {at} is {}; supported: Transformer, Pooling, then Dense and Normalize",
                        r#type
                    ));
                }
            }
        }
        if self.pooling.is_empty() {
            return refuse("there is no module Pooling, without which a text has no vector".into());
        }
        Ok(())
    }

    fn take_pooling(&mut self, file: &Path, width: usize) -> Result<(), StartError> {
        let config: Map<String, Value> = required(file)?;
        let refuse = |problem: String| StartError::Modules {
            file: file.into(),
            problem,
        };
        let is_on = |key: &str| config.get(key).and_then(Value::as_bool).unwrap_or(false);
        let known = POOLINGS.iter().filter(|(key, _)| is_on(key));
        self.pooling = known.map(|(_, pooling)| *pooling).collect();
        if let Some(mode) = config.get("pooling_mode").filter(|mode| !mode.is_null()) {
            self.pooling = modes(mode).ok_or_else(|| {
                let supported = "cls, max, mean, mean_sqrt_len_tokens, weightedmean, lasttoken";
                refuse(format!(
                    "`pooling_mode` = {mode} is not supported; supported: {supported}"
                ))
            })?;
        }
        let on = |key: &&String| {
            let value = config.get(*key).and_then(Value::as_bool);
            key.starts_with("pooling_mode_") && value == Some(true)
        };
        let unknown = config
            .keys()
            .filter(on)
            .find(|key| POOLINGS.iter().all(|(known, _)| known != key));
        if let Some(key) = unknown {
            return Err(refuse(format!("`{key}` is not supported")));
        }
        if self.pooling.is_empty() {
            return Err(refuse("no pooling_mode is on".into()));
        }
        let stated = ["word_embedding_dimension", "embedding_dimension"];
        let stated = stated.iter().find_map(|key| config.get(*key)?.as_u64());
        if stated.is_some_and(|stated| stated != width as u64) {
            return Err(refuse(format!(
                "the vectors are said to have {stated:?} numbers, and have {width}"
            )));
        }
        self.include_prompt = config
            .get("include_prompt")
            .and_then(Value::as_bool)
            .unwrap_or(true);
        Ok(())
    }

    fn take_dense(&mut self, dir: &Path, file: &Path, width: usize) -> Result<usize, StartError> {
        let config: Dense = required(file)?;
        let refuse = |problem: String| {
            Err(StartError::Modules {
                file: file.into(),
                problem,
            })
        };
        let name = config
            .activation_function
            .as_deref()
            .unwrap_or("torch.nn.modules.activation.Tanh");
        let act = match name.rsplit('.').next().unwrap_or_default() {
            "Identity" => Act::Linear,
            "Tanh" => Act::Tanh,
            "ReLU" => Act::Relu,
            "GELU" => Act::Gelu,
            "SiLU" => Act::Silu,
            "Sigmoid" => Act::Sigmoid,
            _ => {
                let supported = "Identity, Tanh, ReLU, GELU, SiLU, Sigmoid";
                return refuse(format!(
                    "`activation_function` = {name} is not supported; supported: {supported}"
                ));
            }
        };
        if config.use_residual {
            return refuse("`use_residual` = true is not supported; it must be false".into());
        }
        if config.in_features != width {
            return refuse(format!(
                "`in_features` = {}; it must be {width}, the numbers that come in",
                config.in_features
            ));
        }
        let weights = sconce_nn::weights::open(dir)?;
        let dense = Projection::load(&*weights, width, config.bias, act)?;
        if dense.outputs() != config.out_features {
            return refuse(format!(
                "`out_features` = {}, and the weights have {}",
                config.out_features,
                dense.outputs()
            ));
        }
        self.steps.push(Step::Dense(dense));
        Ok(config.out_features)
    }
}

/// `pooling_mode` of later releases: a name, or a list of names.
fn modes(mode: &Value) -> Option<Vec<Pooling>> {
    let names: Vec<&str> = match mode {
        Value::String(name) => vec![name],
        other => other
            .as_array()?
            .iter()
            .map(Value::as_str)
            .collect::<Option<_>>()?,
    };
    let pooling = |name: &str| {
        Some(match name {
            "cls" => Pooling::First,
            "max" => Pooling::Max,
            "mean" => Pooling::Mean,
            "mean_sqrt_len_tokens" => Pooling::MeanSqrt,
            "weightedmean" => Pooling::Weighted,
            "lasttoken" => Pooling::Last,
            _ => return None,
        })
    };
    names.into_iter().map(pooling).collect()
}

fn required<T: DeserializeOwned>(file: &Path) -> Result<T, StartError> {
    read(file)?.ok_or_else(|| StartError::Modules {
        file: file.into(),
        problem: "it does not exist, and modules.json names it".into(),
    })
}

/// The JSON of a file; `None` if there is no file.
fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, StartError> {
    let wrong = |problem: String| StartError::Modules {
        file: PathBuf::from(file),
        problem,
    };
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(wrong(format!("it cannot be read: {error}"))),
    };
    let parsed = serde_json::from_slice(&bytes);
    parsed
        .map(Some)
        .map_err(|error| wrong(format!("it is not what it should be: {error}")))
}

/// One vector of the rows of a text, which has more than `skipped`: so many do not count, but for those that a pooling
/// picks by their place.
pub(crate) fn pooled(pooling: Pooling, all: &[&[f32]], skipped: usize) -> Vec<f32> {
    let rows = &all[skipped..];
    let width = rows[0].len();
    let count = rows.len() as f32;
    let sum = |weight: &dyn Fn(usize) -> f32| {
        let mut sum = vec![0.0; width];
        for (at, row) in rows.iter().enumerate() {
            for (sum, number) in sum.iter_mut().zip(*row) {
                *sum += number * weight(at);
            }
        }
        sum
    };
    let over = |mut numbers: Vec<f32>, divisor: f32| {
        numbers.iter_mut().for_each(|number| *number /= divisor);
        numbers
    };
    match pooling {
        Pooling::First => all[0].to_vec(),
        Pooling::Last => rows[rows.len() - 1].to_vec(),
        Pooling::Max => rows
            .iter()
            .fold(vec![f32::NEG_INFINITY; width], |largest, row| {
                largest
                    .iter()
                    .zip(*row)
                    .map(|(one, other)| one.max(*other))
                    .collect()
            }),
        Pooling::Mean => over(sum(&|_| 1.0), count),
        Pooling::MeanSqrt => over(sum(&|_| 1.0), count.sqrt()),
        Pooling::Weighted => {
            let places = skipped + 1..=all.len();
            let total: f32 = places.map(|place| place as f32).sum();
            over(sum(&|at| (skipped + at + 1) as f32), total)
        }
    }
}

/// Brings a vector to the length 1, as torch's `normalize` does.
pub(crate) fn normalize(vector: &mut [f32]) {
    let length = vector
        .iter()
        .map(|number| number * number)
        .sum::<f32>()
        .sqrt();
    let length = length.max(1e-12);
    vector.iter_mut().for_each(|number| *number /= length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poolings_of_a_worked_example() {
        let rows: [&[f32]; 2] = [&[1.0, -4.0], &[3.0, 2.0]];
        let of = |pooling: Pooling| pooled(pooling, &rows, 0);
        assert_eq!(of(Pooling::First), [1.0, -4.0]);
        assert_eq!(of(Pooling::Last), [3.0, 2.0]);
        assert_eq!(of(Pooling::Max), [3.0, 2.0]);
        assert_eq!(of(Pooling::Mean), [2.0, -1.0]);
        assert_eq!(of(Pooling::Weighted), [7.0 / 3.0, 0.0]);
        let root = 2f32.sqrt();
        assert_eq!(of(Pooling::MeanSqrt), [4.0 / root, -2.0 / root]);
        let skipped = |pooling: Pooling| pooled(pooling, &rows, 1);
        assert_eq!(skipped(Pooling::First), [1.0, -4.0]);
        assert_eq!(skipped(Pooling::Mean), [3.0, 2.0]);
        assert_eq!(skipped(Pooling::Weighted), [3.0, 2.0]);
        let mut vector = [3.0, 4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, 0.8]);
    }

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
        dir
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        let types = |types: &[(&str, &str)]| {
            let listed = types.iter().map(|(path, kind)| {
                serde_json::json!({"idx": 0, "name": "0", "path": path, "type": format!("sentence_transformers.models.{kind}")})
            });
            Value::from(listed.collect::<Vec<_>>()).to_string()
        };
        let cases = [
            (types(&[("", "Transformer")]), "no module Pooling"),
            (
                types(&[("", "CNN")]),
                "module 0 is sentence_transformers.models.CNN",
            ),
            (types(&[("0_T", "Transformer")]), "lies in 0_T/"),
            (
                types(&[("", "Transformer"), ("1", "Pooling")]),
                "does not exist",
            ),
            ("{".into(), "not what it should be"),
        ];
        for (text, part) in cases {
            let dir = folder(&[("modules.json", &text)]);
            let error = Modules::read(dir.path(), 4, VectorWish::default())
                .expect_err("refused")
                .to_string();
            assert!(error.contains(part), "{part} is not in: {error}");
        }
        let whole = types(&[("", "Transformer"), ("1", "Pooling")]);
        for (pooling, part) in [
            ("{}", "no pooling_mode is on"),
            (r#"{"pooling_mode_x": true}"#, "`pooling_mode_x`"),
            (
                r#"{"pooling_mode_cls_token": true, "word_embedding_dimension": 5}"#,
                "have 4",
            ),
            (r#"{"pooling_mode": "sum"}"#, "`pooling_mode` = \"sum\""),
        ] {
            let dir = folder(&[("modules.json", &whole), ("1/config.json", pooling)]);
            let error = Modules::read(dir.path(), 4, VectorWish::default())
                .expect_err("refused")
                .to_string();
            assert!(error.contains(part), "{part} is not in: {error}");
        }
    }

    #[test]
    fn without_modules_a_text_is_the_mean_of_its_tokens() {
        let modules =
            Modules::read(folder(&[]).path(), 4, VectorWish::default()).expect("the default");
        assert_eq!(modules.pooling, [Pooling::Mean]);
        assert!(modules.steps.is_empty() && modules.include_prompt);
    }

    #[test]
    fn the_configuration_wins_over_the_checkpoint() {
        let modules = r#"[{"path": "", "type": "Transformer"}, {"path": "1", "type": "Pooling"},
                          {"path": "2", "type": "Normalize"}]"#;
        let pooling = r#"{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}"#;
        let dir = folder(&[("modules.json", modules), ("1/config.json", pooling)]);
        let read = |pooling, normalize| {
            let wish = VectorWish { pooling, normalize };
            Modules::read(dir.path(), 4, wish).expect("modules")
        };
        let own = read(None, None);
        assert_eq!(own.pooling, [Pooling::First, Pooling::Max]);
        assert!(own.normalizes());
        let asked = read(Some(Pooling::Last), Some(false));
        assert_eq!(asked.pooling, [Pooling::Last]);
        assert!(asked.steps.is_empty());
        assert_eq!(read(None, Some(true)).steps.len(), 1);
    }
}
