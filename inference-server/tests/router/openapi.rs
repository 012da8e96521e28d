//! The served OpenAPI document against the routes that are really there, and its examples against the server.

use std::collections::HashSet;

use http::{Method, Request};
use http_body_util::Full;
use serde_json::Value;
use tidewright_contract::routes;
use tidewright_server::http::route::route;

use crate::support::{config, server};

fn concrete(path: &str) -> String {
    path.replace("{model}", "affine").replace("{version}", "1")
}

fn operations(document: &Value) -> Vec<(&String, &String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .iter()
                .map(move |(method, operation)| (path, method, operation))
        })
        .collect()
}

#[tokio::test]
async fn it_describes_every_route_and_no_other() {
    let server = server(&config(&["affine"]));
    let answer = server.get("/openapi.json").await;
    assert_eq!(answer.headers["content-type"], "application/json");
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.1");
    let mut described = HashSet::new();
    let mut ids = HashSet::new();
    for (path, method, operation) in operations(&document) {
        let concrete = concrete(path);
        let found = route(&concrete);
        // The verb of KServe v1 is part of the last segment and shares its template.
        assert_eq!(found.template(), path.trim_end_matches(":predict"), "{path}");
        assert!(
            found
                .allow()
                .to_lowercase()
                .split(", ")
                .any(|allowed| allowed == method),
            "{method} {path}"
        );
        let other = if method == "get" { Method::POST } else { Method::GET };
        let refused = server
            .call(
                Request::builder()
                    .method(other)
                    .uri(&concrete)
                    .body(Full::default())
                    .unwrap(),
            )
            .await;
        assert_eq!(refused.status, 405, "{path}");
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{path}");
        described.insert(found.template());
    }
    let of_http: HashSet<&str> = routes::ALL
        .into_iter()
        .filter(|template| !template.starts_with("/inference."))
        .collect();
    assert_eq!(described, of_http);
}

#[tokio::test]
async fn its_references_lead_somewhere_and_its_examples_work() {
    let server = server(&config(&["affine"]));
    let document = server.get("/openapi.json").await.json();
    let mut open = vec![&document];
    let mut references = 0;
    while let Some(value) = open.pop() {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            assert!(document.pointer(target.trim_start_matches('#')).is_some(), "{target}");
            references += 1;
        }
        match value {
            Value::Object(fields) => open.extend(fields.values()),
            Value::Array(elements) => open.extend(elements),
            _ => {}
        }
    }
    assert!(references > 50, "{references}");
    let mut posted = 0;
    for (path, method, operation) in operations(&document) {
        let answer = if method == "post" {
            posted += 1;
            let example = &operation["requestBody"]["content"]["application/json"]["example"];
            server.post(&concrete(path), example.to_string()).await
        } else {
            server.get(&concrete(path)).await
        };
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let mut schema = &operation["responses"]["200"]["content"]["application/json"]["schema"];
        if let Some(target) = schema["$ref"].as_str() {
            schema = document.pointer(target.trim_start_matches('#')).unwrap();
        }
        let (given, properties) = (answer.json(), &schema["properties"]);
        for field in schema["required"].as_array().into_iter().flatten() {
            assert!(
                given.get(field.as_str().unwrap()).is_some(),
                "{path}: {field} is missing in {given}"
            );
        }
        for field in given.as_object().unwrap().keys().filter(|_| properties.is_object()) {
            assert!(properties.get(field).is_some(), "{path}: {field} is not described");
        }
    }
    assert_eq!(posted, 5);
}
