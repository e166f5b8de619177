//! Requests in every form, what is wrong with some, and the answers.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use sconce_core::task::{Answered, TaskAnswer};
use sconce_core::{Ask, Draw, Picture, PictureFormat, Preview, Progressed, ServeError};
use serde_json::{Value, json};

use super::{accept, openai};
use crate::content::Raw;
use crate::dialect::Answer;
use crate::tasks::AcceptedTask;

fn raw<'a>(body: &'a [u8], content_type: &'a str) -> Raw<'a> {
    Raw {
        body,
        content_type: Some(content_type),
        ..Raw::default()
    }
}

fn drawn(accepted: Result<AcceptedTask, ServeError>) -> Draw {
    match accepted.unwrap().asks.remove(0) {
        Ask::Draw(draw) => *draw,
        other => panic!("{other:?}"),
    }
}

fn of_json(body: &Value) -> Result<AcceptedTask, ServeError> {
    accept(&raw(
        body.to_string().as_bytes(),
        "application/json; charset=utf-8",
    ))
}

#[test]
fn all_forms_say_the_same() {
    let body =
        json!({"prompt": "two tigers", "parameters": {"strength": 0.7, "negative_prompt": "bad"}});
    let wanted = drawn(of_json(&body));
    assert_eq!(wanted.prompts, ["two tigers"]);
    assert_eq!(
        (wanted.strength, wanted.negative.as_slice()),
        (Some(0.7), &["bad".to_owned()][..])
    );
    let text = drawn(accept(&raw("two tigers".as_bytes(), "text/plain")));
    assert_eq!(text.prompts, ["two tigers"]);
    // As the tests of DJL Serving send it.
    let form = format!(
        "--b\r\nContent-Disposition: form-data; name=\"data\"; filename=\"a.png\"\r\nContent-Type: image/png\r\n\r\n\
         PNG\r\n--b\r\nContent-Disposition: form-data; name=\"json\"\r\nContent-Type: application/json\r\n\r\n{body}\r\n--b--\r\n"
    );
    let form = drawn(accept(&raw(
        form.as_bytes(),
        "multipart/form-data; boundary=b",
    )));
    assert_eq!(form.image.as_deref(), Some(&b"PNG"[..]));
    assert_eq!(
        Draw {
            image: None,
            ..form
        },
        wanted
    );
    let with_image =
        json!({"prompt": "x", "image": "data:image/png;base64,UE5H", "mask_image": "UE5H"});
    let with_image = drawn(of_json(&with_image));
    assert_eq!(with_image.image, with_image.mask);
    assert_eq!(with_image.image.as_deref(), Some(&b"PNG"[..]));
}

#[test]
fn every_parameter_arrives() {
    let draw = drawn(of_json(&json!({
        "prompt": ["a", "b"], "stream": true,
        "parameters": {
            "num_inference_steps": 20, "guidance_scale": 4.5, "height": 512, "width": 768, "seed": -1,
            "num_images_per_prompt": 2, "scheduler": "DDIMScheduler", "eta": 0.25, "output_format": "webp",
            "clip_skip": 1, "original_size": [64, 32], "crops_coords_top_left": [1, 2], "preview_every": 5,
            "guidance_rescale": 0.7, "prompt_2": "c", "aesthetic_score": 6.5,
        }
    })));
    assert_eq!(draw.prompts, ["a", "b"]);
    assert_eq!(
        (draw.steps, draw.guidance, draw.seed),
        (Some(20), Some(4.5), Some(u64::MAX))
    );
    assert_eq!(
        (draw.height, draw.width, draw.images_per_prompt),
        (Some(512), Some(768), 2)
    );
    assert_eq!(
        (draw.eta, draw.guidance_rescale, draw.clip_skip),
        (0.25, 0.7, Some(1))
    );
    assert_eq!((draw.original_size, draw.crop), (Some([64, 32]), [1, 2]));
    assert_eq!(
        (draw.format, draw.tells),
        (PictureFormat::Webp, Some(Preview::Every(5)))
    );
    assert_eq!(draw.scheduler.as_deref(), Some("DDIMScheduler"));
    assert_eq!(
        (draw.prompts_2, draw.aesthetic_scores),
        (vec!["c".to_owned()], [Some(6.5), None])
    );
}

#[test]
fn what_is_wrong_is_named_with_the_limit() {
    let parameters = |parameters: Value| json!({"prompt": "x", "parameters": parameters});
    for (body, parts) in [
        (json!({"parameters": {}}), ["no prompt", "parameters"]),
        (json!({"prompt": 3}), ["`prompt` is 3", "a list of texts"]),
        (
            json!({"prompt": "x", "height": 512}),
            ["height", "belong into `parameters`"],
        ),
        (
            parameters(json!({"num_inference_steps": 10_000})),
            ["10000", "from 1 to 1000"],
        ),
        (
            parameters(json!({"num_inference_steps": 0})),
            ["num_inference_steps", "from 1 to 1000"],
        ),
        (
            parameters(json!({"height": 1_000_000})),
            ["height", "8 to 8192"],
        ),
        (
            parameters(json!({"strength": 1.5})),
            ["strength", "from 0 to 1"],
        ),
        (
            parameters(json!({"guidance_scale": "much"})),
            ["guidance_scale", "a number"],
        ),
        (parameters(json!({"generator": 1})), ["generator", "`seed`"]),
        (
            parameters(json!({"num_inference_step": 1})),
            ["num_inference_step", "num_inference_steps"],
        ),
        (
            parameters(json!({"output_format": "gif"})),
            ["gif", "png, jpeg or webp"],
        ),
        (
            parameters(json!({"image": "https://x/y.png"})),
            ["image", "not fetched"],
        ),
        (parameters(json!({"seed": 1.5})), ["seed", "64 bits"]),
        (
            parameters(json!({"original_size": [1]})),
            ["original_size", "height before width"],
        ),
        (
            json!({"prompt": "x", "image": "UE5H", "parameters": {"image": "UE5H"}}),
            ["image", "twice"],
        ),
        (json!([1]), ["the body", "an object"]),
    ] {
        let text = of_json(&body).err().unwrap().to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    }
    let text = accept(&raw(b"PNG", "image/png")).err().unwrap().to_string();
    assert!(text.contains("multipart/form-data"), "{text}");
}

fn picture(flagged: Option<bool>) -> Picture {
    Picture {
        bytes: b"PNG".to_vec(),
        format: PictureFormat::Png,
        seed: 7,
        flagged,
    }
}

fn answered(pictures: Vec<Picture>) -> Answered {
    Answered {
        answer: TaskAnswer::Pictures(pictures),
        tokens: 77,
    }
}

#[test]
fn one_picture_is_its_file_and_several_are_json() {
    let form = |body: Value| match of_json(&body).unwrap().answer {
        Answer::Task(form) => form,
        _ => panic!("not streamed"),
    };
    let one = form(json!({"prompt": "x"}));
    assert_eq!(one.content_type(), "image/png");
    assert_eq!(one.body(&[answered(vec![picture(None)])]), b"PNG");
    let asked = form(json!({"prompt": "x", "parameters": {"response_format": "b64_json"}}));
    assert_eq!(asked.content_type(), "application/json");
    let two = form(json!({"prompt": ["x", "y"]}));
    let body = two.body(&[answered(vec![picture(Some(false)), picture(Some(true))])]);
    let body: Value = serde_json::from_slice(&body).unwrap();
    let wanted = json!({
        "images": ["UE5H", "UE5H"], "output_format": "png", "seed": 7, "nsfw_content_detected": [false, true],
    });
    assert_eq!(body, wanted);
}

#[test]
fn streams_have_a_line_for_each_step() {
    let Answer::Stream(mut lines) = of_json(&json!({"prompt": "x", "stream": true}))
        .unwrap()
        .answer
    else {
        panic!("streamed");
    };
    let step = Progressed {
        step: 1,
        steps: 2,
        preview: None,
    };
    assert_eq!(lines.progress(0, &step), b"{\"step\":1,\"steps\":2}\n");
    let last = lines.answered(0, &answered(vec![picture(None)]));
    let last: Value = serde_json::from_slice(&last).unwrap();
    assert_eq!(last["images"], json!(["UE5H"]));
    let failed = String::from_utf8(lines.fail(&ServeError::Draining, 503)).unwrap();
    assert!(
        failed.contains("shutting down") && failed.contains("503"),
        "{failed}"
    );
}

#[test]
fn openai_asks_in_its_own_words() {
    let ask = |body: Value| openai::generations(body.to_string().as_bytes(), 7);
    let draw = drawn(ask(json!({
        "prompt": "x", "model": "m", "n": 2, "size": "512x768", "response_format": "b64_json", "seed": 3,
    })));
    assert_eq!(
        (draw.width, draw.height, draw.images_per_prompt),
        (Some(512), Some(768), 2)
    );
    let Answer::Task(form) = ask(json!({"prompt": "x"})).unwrap().answer else {
        panic!("not streamed");
    };
    let body: Value = serde_json::from_slice(&form.body(&[answered(vec![picture(None)])])).unwrap();
    assert_eq!(body["data"][0]["b64_json"], BASE64_STANDARD.encode(b"PNG"));
    for (body, part) in [
        (json!({"prompt": "x", "response_format": "url"}), "not kept"),
        (json!({"prompt": "x", "size": "big"}), "512x768"),
        (json!({"prompt": "x", "quality": "hd"}), "standard"),
        (json!({"n": 1}), "`prompt` is missing"),
        (json!({"prompt": "x", "n": 11}), "from 1 to 10"),
    ] {
        let text = ask(body).err().unwrap().to_string();
        assert!(text.contains(part), "{text}");
    }
}
