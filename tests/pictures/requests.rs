//! Requests in every form, and what is wrong with some.

use sconce_testkit::client::Client;
use serde_json::{Value, json};

use super::{PNG, serve};
use crate::nasty::texts;

fn quick(parameters: Value) -> Value {
    let mut body =
        json!({"prompt": "a candle", "parameters": {"num_inference_steps": 2, "seed": 1}});
    let all = body["parameters"].as_object_mut().unwrap();
    all.extend(parameters.as_object().unwrap().clone());
    body
}

#[test]
fn every_form_gets_the_same_picture() {
    let serving = serve(
        "sd1",
        "engine=DeepSpeed\noption.entryPoint=djl_python.stable-diffusion\n",
    );
    let client = Client::new(serving.server.address());
    let one = client.post("/invocations", &quick(json!({}))).unwrap();
    assert_eq!(
        (one.status, one.header("content-type")),
        (200, Some("image/png"))
    );
    assert!(one.body.starts_with(PNG));
    let again = client.post("/predictions/sd1", &quick(json!({}))).unwrap();
    assert_eq!(again.body, one.body);
    let text = [("content-type", "text/plain")];
    let text = client
        .post_bytes("/invocations", &text, b"a candle")
        .unwrap();
    assert!(text.status == 200 && text.body.starts_with(PNG));
    // A picture that is begun with, as a part of a form and in JSON.
    let json = quick(json!({"strength": 0.7, "num_inference_steps": 4})).to_string();
    let mut form =
        b"--b\r\nContent-Disposition: form-data; name=\"data\"; filename=\"a.png\"\r\n\r\n"
            .to_vec();
    form.extend(&one.body);
    form.extend(b"\r\n--b\r\nContent-Disposition: form-data; name=\"json\"\r\nContent-Type: application/json\r\n\r\n");
    form.extend(json.as_bytes());
    form.extend(b"\r\n--b--\r\n");
    let kind = [("content-type", "multipart/form-data; boundary=b")];
    let of_form = client.post_bytes("/invocations", &kind, &form).unwrap();
    assert_eq!(of_form.status, 200, "{}", of_form.text());
    let several = client
        .post("/invocations", &quick(json!({"num_images_per_prompt": 2})))
        .unwrap();
    let several = several.json().unwrap();
    assert_eq!(several["images"].as_array().unwrap().len(), 2);
    assert_eq!(several["seed"], 1);
    let b64 = client
        .post(
            "/invocations",
            &quick(json!({"response_format": "b64_json"})),
        )
        .unwrap();
    let encoded = b64.json().unwrap()["images"][0].clone();
    let mut body: Value = serde_json::from_str(&json).unwrap();
    body["image"] = encoded;
    let of_json = client.post("/invocations", &body).unwrap();
    assert_eq!(of_json.body, of_form.body);
    let jpeg = client
        .post("/invocations", &quick(json!({"output_format": "jpeg"})))
        .unwrap();
    assert_eq!(jpeg.header("content-type"), Some("image/jpeg"));
    let openai =
        json!({"prompt": "a candle", "size": "64x64", "num_inference_steps": 2, "seed": 1});
    let openai = client
        .post("/v1/images/generations", &openai)
        .unwrap()
        .json()
        .unwrap();
    assert_eq!(
        openai["data"][0]["b64_json"],
        b64.json().unwrap()["images"][0]
    );
}

#[test]
fn streams_tell_of_every_step() {
    let serving = serve("sd1", "");
    let client = Client::new(serving.server.address());
    let mut body = quick(
        json!({"num_inference_steps": 3, "preview_every": 2, "scheduler": "EulerDiscreteScheduler"}),
    );
    body["stream"] = true.into();
    let lines = client
        .stream("/invocations", &body)
        .unwrap()
        .lines()
        .unwrap();
    let lines: Vec<Value> = lines
        .iter()
        .map(|(_, line)| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    for (at, line) in lines[..3].iter().enumerate() {
        assert_eq!((&line["step"], &line["steps"]), (&json!(at + 1), &json!(3)));
        assert_eq!(line.get("preview").is_some(), at == 1);
    }
    assert_eq!(lines[3]["images"].as_array().unwrap().len(), 1);
}

#[test]
fn bad_requests_are_told_what_is_wrong_and_nobody_else_notices() {
    let serving = serve("sd1", "option.max_rolling_batch_size=4\n");
    let client = Client::new(serving.server.address());
    let before = client.post("/invocations", &quick(json!({}))).unwrap().body;
    let picture = client
        .post(
            "/invocations",
            &quick(json!({"response_format": "b64_json"})),
        )
        .unwrap();
    let picture = picture.json().unwrap()["images"][0].clone();
    for (parameters, parts) in [
        (json!({"height": 60}), ["`height` is 60", "multiple of 8"]),
        (
            json!({"num_inference_steps": 10_000}),
            ["10000", "from 1 to 1000"],
        ),
        (
            json!({"scheduler": "KDPM2DiscreteScheduler"}),
            ["is not one of PNDMScheduler", "LCMScheduler"],
        ),
        (
            json!({"scheduler": "LCMScheduler", "num_inference_steps": 60}),
            ["60", "1 to 50"],
        ),
        (
            json!({"num_images_per_prompt": 5}),
            ["num_images_per_prompt", "at most 4"],
        ),
        (json!({"image": "aGVsbG8="}), ["`image`", "is no picture"]),
        (json!({"mask_image": picture}), ["mask_image", "as `image`"]),
        (json!({"strength": 0.5}), ["strength", "there is none"]),
        (
            json!({"image": picture, "strength": 0.1}),
            ["strength", "leaves no step"],
        ),
        (json!({"eta": 0.5}), ["eta", "DDIMScheduler"]),
        (json!({"prompt_2": "x"}), ["prompt_2", "SDXL"]),
        (
            json!({"aesthetic_score": 5}),
            ["aesthetic_score", "refiner"],
        ),
        (
            json!({"negative_prompt": ["a", "b"]}),
            ["negative_prompt", "one for each"],
        ),
        (json!({"clip_skip": 40}), ["clip_skip", "at most 2"]),
        (json!({"generator": 1}), ["generator", "`seed`"]),
    ] {
        let answer = client
            .post("/invocations", &quick(parameters.clone()))
            .unwrap();
        // What the handler of DJL Serving answers to whatever a pipeline refuses.
        let text = answer.json().unwrap()["error"].to_string();
        assert_eq!(answer.status, 424, "{parameters}: {text}");
        assert!(
            parts.iter().all(|part| text.contains(part)),
            "{parameters}: {text}"
        );
    }
    let tasks = client.post("/embed", &json!({"inputs": "x"})).unwrap();
    assert!(tasks.status >= 400, "{}", tasks.text());
    assert_eq!(
        client.post("/invocations", &quick(json!({}))).unwrap().body,
        before
    );
}

#[test]
fn strange_prompts_make_pictures_or_errors_of_their_own() {
    let serving = serve("sd1", "");
    let client = Client::new(serving.server.address());
    let ask = |body: &Value| client.post("/invocations", body).unwrap();
    let before = ask(&quick(json!({})));
    assert_eq!(before.status, 200, "{}", before.text());
    let mut pictures = 0;
    for text in texts::all() {
        let shown: String = text.chars().take(60).collect();
        let answer = ask(&json!({"prompt": text,
            "parameters": {"negative_prompt": text, "num_inference_steps": 1, "seed": 1}}));
        match answer.status {
            200 => {
                assert!(answer.body.starts_with(PNG), "{shown:?}");
                pictures += 1;
            }
            424 => {
                let told = answer.json().unwrap();
                let error = told["error"].as_str().unwrap_or_default();
                assert!(
                    error.len() > 20 && !error.contains("panic"),
                    "{shown:?}: {told}"
                );
            }
            other => panic!("{shown:?}: {other} {}", answer.text()),
        }
    }
    assert!(pictures > 150, "{pictures}");
    assert_eq!(ask(&quick(json!({}))).body, before.body);
}
