//! Fields that say when and how long: what is no time is refused by the API server already.
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::rules::with;
use super::{cluster, try_create};

#[tokio::test]
async fn what_is_no_time_is_refused_and_schedules_have_names_of_their_own() -> Result<()> {
    let client = cluster().await?.client().await?;
    let at = "/spec/predictor/autoScaling";
    let day =
        |duration: &str| json!({"name": "day", "schedule": "0 8 * * MON-FRI", "duration": duration, "minReplicas": 2});
    let created = try_create(
        &client,
        &with(at, &json!({"schedules": [day("10h")], "overrideTTL": "90s"})),
    )
    .await;
    let created = created.map_err(anyhow::Error::msg)?;
    let zone = &created["spec"]["predictor"]["autoScaling"]["schedules"][0]["timeZone"];
    ensure!(*zone == "UTC", "{created:#}");
    let cases = [
        (json!({"pausedUntil": "tomorrow, at some time"}), "date-time"),
        (json!({"schedules": [day("ever")]}), "should match"),
        (json!({"schedules": [day("10h"), day("9h")]}), "Duplicate value"),
        (json!({"schedules": vec![day("10h"); 9]}), "must have at most 8 items"),
        (json!({"overrideTTL": "2 hours"}), "should match"),
    ];
    let mut wrong: Vec<(Value, Result<Value, String>)> = Vec::new();
    for (value, part) in cases {
        match try_create(&client, &with(at, &value)).await {
            Err(message) if message.contains(part) => {}
            other => wrong.push((value, other)),
        }
    }
    ensure!(wrong.is_empty(), "{wrong:?}");
    Ok(())
}
