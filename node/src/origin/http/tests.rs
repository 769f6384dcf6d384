//! The loader against a small server on loopback.

use std::collections::HashMap;

use axum::Router;
use axum::extract::{Query, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};

use super::*;

const LIMITS: OriginLimits = OriginLimits::new(4, 2_000);

/// Answers with the requested path, or as the path's name says.
async fn serve() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let answer = |query: Query<HashMap<String, String>>, request: Request| async move {
        let path = request.uri().path().to_owned();
        match path.as_str() {
            "/missing" => StatusCode::NOT_FOUND.into_response(),
            "/broken" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            "/moved" => Redirect::temporary("/elsewhere").into_response(),
            "/tagged" => {
                let tags = [("cache-tag", "course:7,course:9"), ("Cache-Tag", " school ")];
                (axum::response::AppendHeaders(tags), "value").into_response()
            }
            "/empty" => StatusCode::OK.into_response(),
            "/big" => vec![b'x'; 2_000].into_response(),
            "/chunked" => {
                let parts = (0..20).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 100]));
                Response::new(axum::body::Body::from_stream(futures::stream::iter(parts)))
            }
            "/query" => query.0["k"].clone().into_response(),
            _ => path.into_response(),
        }
    };
    tokio::spawn(async move {
        axum::serve(listener, Router::new().fallback(answer)).await.expect("served");
    });
    format!("http://{address}")
}

/// The server of these tests is on loopback.
fn local() -> Targets {
    Targets::new(["127.0.0.0/8".parse().expect("a network")], None)
}

fn loader(template: String) -> Result<HttpLoader, Error> {
    HttpLoader::new(&HttpOrigin::new(template), &LIMITS, &local(), 1_000)
}

#[tokio::test]
async fn answers_become_values_absences_and_errors() {
    let loader = loader(format!("{}/{{key}}", serve().await)).expect("a good template");
    let value = |text: &'static str| Loaded::Value(text.into());
    assert_eq!(loader.load(b"tom").await.expect("200"), value("/tom"));
    assert_eq!(loader.load(b"empty").await.expect("200"), value(""));
    assert_eq!(loader.load(b"missing").await.expect("404"), Loaded::Absent);
    let status = |key: &'static str| {
        let loader = &loader;
        async move { loader.load(key.as_bytes()).await.expect_err("neither 200 nor 404") }
    };
    assert!(matches!(status("broken").await, Error::Status { status: 503, .. }));
    assert!(matches!(status("moved").await, Error::Status { status: 307, .. }));
    assert!(matches!(status("big").await, Error::TooLarge { max: 1_000 }));
    assert!(matches!(status("chunked").await, Error::TooLarge { max: 1_000 }));
}

#[tokio::test]
async fn the_tags_header_tags_values() {
    let origin = |name: Option<&str>, base: &str| HttpOrigin {
        tags_header: name.map(str::to_owned),
        ..HttpOrigin::new(format!("{base}/{{key}}"))
    };
    let base = serve().await;
    let with =
        |name| HttpLoader::new(&origin(name, &base), &LIMITS, &local(), 1_000).expect("valid");
    let value = Bytes::from_static(b"value");
    let tags =
        ["course:7", "course:9", "school"].map(|tag| Bytes::from_static(tag.as_bytes())).to_vec();
    let tagged = Loaded::Tagged { value: value.clone(), tags };
    assert_eq!(with(Some("cache-tag")).load(b"tagged").await.expect("200"), tagged);
    let loader = with(Some("Surrogate-Key"));
    assert_eq!(loader.load(b"tagged").await.expect("200"), Loaded::Value(value.clone()));
    assert_eq!(loader.load(b"missing").await.expect("404"), Loaded::Absent);
    assert_eq!(with(None).load(b"tagged").await.expect("200"), Loaded::Value(value));
    let error = HttpLoader::new(&origin(Some("a b"), &base), &LIMITS, &local(), 1_000)
        .expect_err("a space");
    assert_eq!(error.to_string(), "the tagsHeader \"a b\" is not the name of a header");
}

/// Answers keys by their first letter, and counts requests in the key `count`.
async fn batch_answer(request: Request) -> Response {
    let (head, body) = request.into_parts();
    assert_eq!(head.headers["content-type"], "application/json");
    let body = axum::body::to_bytes(body, 1 << 20).await.expect("a body");
    let request: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let keys: Vec<&str> =
        request["keys"].as_array().expect("keys").iter().filter_map(|key| key.as_str()).collect();
    if head.uri.path() == "/refused" {
        return StatusCode::UNPROCESSABLE_ENTITY.into_response();
    }
    if head.uri.path() != "/many" {
        return StatusCode::NOT_FOUND.into_response();
    }
    let item = |key: &str| match &key[..1] {
        "r" => serde_json::json!({"base64": "AP8="}),
        "n" => serde_json::Value::Null,
        "l" => serde_json::json!({"value": "x".repeat(2_000)}),
        _ => serde_json::json!({"value": format!("/{key}"), "tags": ["t"]}),
    };
    let items: serde_json::Map<_, _> =
        keys.iter().map(|key| ((*key).to_owned(), item(key))).collect();
    serde_json::to_vec(&items).expect("data").into_response()
}

async fn batch_loader(path: &str) -> HttpLoader {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        axum::serve(listener, Router::new().fallback(batch_answer)).await.expect("served");
    });
    let batch = Some(HttpBatch { url: format!("{base}{path}") });
    let origin = HttpOrigin { batch, ..HttpOrigin::new(format!("{base}/{{key}}")) };
    HttpLoader::new(&origin, &LIMITS, &local(), 1_000).expect("valid")
}

#[tokio::test]
async fn one_post_loads_several_keys_each_with_its_own_outcome() {
    let keys = [&b"tom"[..], b"raw", b"nobody", b"large", b"\xff"].map(Bytes::from_static);
    let loads = batch_loader("/many").await.load_batch(&keys).await.expect("200");
    let tagged = Loaded::Tagged { value: "/tom".into(), tags: vec!["t".into()] };
    let [tom, raw, nobody, large, bytes] = &loads[..] else { panic!("{loads:?}") };
    assert!(matches!(tom, BatchedLoad::Done(loaded) if *loaded == tagged), "{tom:?}");
    let value = Loaded::Value(Bytes::from_static(b"\x00\xff"));
    assert!(matches!(raw, BatchedLoad::Done(loaded) if *loaded == value), "{raw:?}");
    assert!(matches!(nobody, BatchedLoad::Done(Loaded::Absent)), "{nobody:?}");
    assert!(matches!(large, BatchedLoad::Failed(Error::TooLarge { max: 1_000 })), "{large:?}");
    assert!(matches!(bytes, BatchedLoad::LoadAlone), "{bytes:?}");
}

#[tokio::test]
async fn a_post_refused_for_its_keys_is_repeated_key_by_key_and_other_refusals_are_errors() {
    let keys = ["a", "b"].map(Bytes::from);
    let loads = batch_loader("/refused").await.load_batch(&keys).await.expect("422");
    assert!(loads.iter().all(|load| matches!(load, BatchedLoad::LoadAlone)), "{loads:?}");
    let error = batch_loader("/elsewhere").await.load_batch(&keys).await.expect_err("404");
    assert!(matches!(error, Error::Status { status: 404, .. }), "{error}");
}

#[test]
fn invalid_batch_urls_are_refused_with_the_reason() {
    for (url, problem) in
        [("http://o/{key}", "in the body"), ("o/many", "not a URL"), ("ftp://o/many", "scheme")]
    {
        let batch = Some(HttpBatch { url: url.to_owned() });
        let origin = HttpOrigin { batch, ..HttpOrigin::new("http://o/{key}") };
        let text = HttpLoader::new(&origin, &LIMITS, &local(), 1_000).expect_err(url).to_string();
        assert!(text.starts_with("the batch URL is invalid") && text.contains(problem), "{text}");
    }
}

#[tokio::test]
async fn a_key_cannot_change_the_rest_of_the_url() {
    let base = serve().await;
    let loader = loader(format!("{base}/users/{{key}}")).expect("a good template");
    let seen = loader.load("a/b?c#d%e ü".as_bytes()).await.expect("200");
    assert_eq!(seen, Loaded::Value("/users/a%2Fb%3Fc%23d%25e%20%C3%BC".into()));
    assert_eq!(loader.load(b"\xff\0").await.expect("200"), Loaded::Value("/users/%FF%00".into()));
    for key in [".", ".."] {
        let error = loader.load(key.as_bytes()).await.expect_err("a path step");
        assert!(matches!(error, Error::Key), "{key}");
    }
    // Attack: with a key as the whole path, a step would ask for the root.
    let root = self::loader(format!("{base}/{{key}}")).expect("good");
    for key in [&b"."[..], b".."] {
        let error = root.load(key).await.expect_err("a path step");
        assert!(matches!(error, Error::Key), "{key:?}: {error}");
    }
    assert_eq!(loader.load(b"...").await.expect("200"), Loaded::Value("/users/...".into()));
    let loader = self::loader(format!("{base}/query?k={{key}}&other=1")).expect("good");
    assert_eq!(loader.load(b"..").await.expect("no step in a query"), Loaded::Value("..".into()));
    let key = "a&b=c+d e";
    assert_eq!(loader.load(key.as_bytes()).await.expect("200"), Loaded::Value(key.into()));
}

#[test]
fn invalid_templates_are_refused_with_the_reason() {
    for (template, problem) in [
        ("http://o/k", "{key}"),
        ("o/{key}", "not a URL"),
        ("ftp://o/{key}", "scheme"),
        ("http://{key}.o/", "host"),
        ("http://{key}@o/", "user"),
        ("http://o/#{key}", "neither"),
    ] {
        let error = loader(template.to_owned()).expect_err(template);
        assert!(error.to_string().contains(problem), "{template}: {error}");
    }
}

#[tokio::test]
async fn no_template_reaches_a_forbidden_address_by_number_or_by_name() {
    let loader = |template: &str| {
        HttpLoader::new(&HttpOrigin::new(template), &LIMITS, &Targets::default(), 1_000)
    };
    for template in [
        "http://169.254.169.254/{key}",
        "http://[::ffff:169.254.169.254]/{key}",
        "http://2852039166/{key}",
        "http://0xa9.0xfe.0xa9.0xfe/{key}",
        "http://127.1:7601/{key}",
    ] {
        let error = loader(template).expect_err(template).to_string();
        assert!(error.contains("to which no origin may connect"), "{template}: {error}");
    }
    let error = loader("http://localhost/{key}").expect("a name").load(b"k").await;
    let error = error.expect_err("loopback").to_string();
    assert!(error.contains("is a loopback address, to which no origin may connect"), "{error}");
    let batch = Some(HttpBatch { url: "http://127.0.0.1/many".into() });
    let origin = HttpOrigin { batch, ..HttpOrigin::new("http://o/{key}") };
    let error =
        HttpLoader::new(&origin, &LIMITS, &Targets::default(), 1_000).expect_err("loopback");
    assert!(error.to_string().contains("batch URL is invalid: 127.0.0.1 is a loopback"), "{error}");
}

#[tokio::test]
async fn errors_never_contain_the_url() {
    let template = "http://user:hunter2@127.0.0.1:1/{key}".to_owned();
    let error = loader(template).expect("good").load(b"k").await.expect_err("nothing listens");
    assert_eq!(error.kind(), "connect");
    let mut text = format!("{error:?}");
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        text += &deeper.to_string();
        cause = deeper;
    }
    assert!(!text.contains("hunter2"), "{text}");
}
