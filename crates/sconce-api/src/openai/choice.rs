//! `tools` and `tool_choice`: which functions may be called, and what that means for the answer.

use sconce_core::{GenerateParams, Guide, Rule, ServeError};
use serde_json::{Value, json};

use super::calls::Calls;
use crate::fields::Fields;

type Result<T> = std::result::Result<T, ServeError>;

/// Most calls at once where the model must call something.
const MOST_CALLS: usize = 16;

/// What becomes of the answer.
pub(super) enum Choice {
    /// It is text.
    Text,
    /// The model may call these functions.
    Free {
        names: Vec<String>,
        /// At most so many at once.
        most: usize,
    },
    /// The model must call some of them: names and schemas of arguments.
    Required {
        tools: Vec<(String, Value)>,
        /// At most so many.
        most: usize,
    },
    /// The model must call this one.
    Named(String, Value),
}

impl Choice {
    /// Reads `tool_choice`, and gives the tools that the template is told of.
    pub(super) fn read(
        fields: &mut Fields,
        tools: Option<Vec<Value>>,
    ) -> Result<(Option<Vec<Value>>, Self)> {
        const WANTED: &str = "must be none, auto, required, or {\"type\": \"function\", \"function\": {\"name\": …}}";
        let parallel = fields.flag("parallel_tool_calls")?.unwrap_or(true);
        let asked = fields.take("tool_choice");
        let Some(tools) = tools else {
            return match asked {
                Some(choice) if choice != json!("none") => {
                    let problem = "is given without tools; send some or leave it out";
                    Err(ServeError::parameter("tool_choice", choice, problem))
                }
                _ => Ok((None, Self::Text)),
            };
        };
        let most = if parallel { MOST_CALLS } else { 1 };
        let known: Vec<_> = tools.iter().map(described).collect();
        let choice = match asked {
            Some(choice) if choice == json!("none") => return Ok((None, Self::Text)),
            None => Self::free(known, most),
            Some(choice) if choice == json!("auto") => Self::free(known, most),
            Some(choice) if choice == json!("required") => Self::Required { tools: known, most },
            Some(choice) => {
                let Some(name) = choice["function"]["name"].as_str() else {
                    return Err(ServeError::parameter("tool_choice", choice, WANTED));
                };
                let found = known.into_iter().find(|(known, _)| known == name);
                let Some((name, schema)) = found else {
                    let problem = "names a function that is not among the tools";
                    return Err(ServeError::parameter("tool_choice", name, problem));
                };
                Self::Named(name, schema)
            }
        };
        Ok((Some(tools), choice))
    }

    fn free(known: Vec<(String, Value)>, most: usize) -> Self {
        Self::Free {
            names: known.into_iter().map(|(name, _)| name).collect(),
            most,
        }
    }

    /// Holds the answer to what must be called; how calls are found in it, `None`: there are none.
    pub(super) fn hold(self, params: &mut GenerateParams) -> Result<Option<Calls>> {
        let (calls, schema) = match self {
            Self::Text => return Ok(None),
            Self::Free { names, most } => {
                // Tags around calls may be special tokens, which are told by their spelling.
                params.report.spelled = true;
                return Ok(Some(Calls::Free { names, most }));
            }
            Self::Named(name, schema) => (Calls::Fixed(name), schema),
            Self::Required { tools, most } => {
                let names = tools.iter().map(|(name, _)| name.clone()).collect();
                let one = |(at, (name, mut schema)): (usize, (String, Value))| {
                    let place = format!("#/items/anyOf/{at}/properties/parameters");
                    rebase(&mut schema, &place);
                    json!({
                        "type": "object",
                        "properties": {"name": {"const": name}, "parameters": schema},
                        "required": ["name", "parameters"],
                        "additionalProperties": false,
                    })
                };
                let schema = json!({
                    "type": "array",
                    "minItems": 1,
                    "maxItems": most,
                    "items": {"anyOf": tools.into_iter().enumerate().map(one).collect::<Vec<_>>()},
                });
                (Calls::Free { names, most }, schema)
            }
        };
        if let Some(guide) = &params.guide {
            let problem =
                "and a tool_choice that asks for a call exclude each other; leave one out";
            return Err(ServeError::parameter(guide.key, "set", problem));
        }
        params.guide = Some(Guide {
            key: "tools",
            rule: Rule::Schema(schema.to_string()).into(),
        });
        Ok(Some(calls))
    }
}

/// Lets references within a schema point to where the schema is put.
fn rebase(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(reference) if key == "$ref" => {
                        if let Some(path) = reference.strip_prefix('#') {
                            *reference = format!("{place}{path}");
                        }
                    }
                    _ => rebase(value, place),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| rebase(item, place)),
        _ => {}
    }
}

/// Name and schema of the arguments of a tool.
fn described(tool: &Value) -> (String, Value) {
    let function = &tool["function"];
    let schema = match &function["parameters"] {
        Value::Object(schema) => Value::Object(schema.clone()),
        _ => json!({"type": "object", "properties": {}}),
    };
    let name = function["name"].as_str().unwrap_or_default();
    (name.to_owned(), schema)
}
