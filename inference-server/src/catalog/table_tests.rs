//! The table of models: what a request gets, in which version, and who makes room.

use proptest::prelude::*;

use super::*;

/// What is loaded is known by whether a request has it.
fn table(models: &[(&str, &str)]) -> Table<bool> {
    let mut table = Table::default();
    for (name, version) in models {
        table.add(ModelConfig {
            version: (*version).to_owned(),
            ..ModelConfig::new(*name, "/models")
        });
    }
    table
}

fn load(table: &mut Table<bool>, index: usize, bytes: u64) {
    let entry = table.get_mut(index).unwrap();
    (entry.phase, entry.loaded, entry.bytes) = (Phase::Ready, Some(false), bytes);
}

#[test]
fn a_request_without_a_version_gets_the_newest_that_serves() {
    let mut table = table(&[("a", "9"), ("a", "10"), ("a", "beta"), ("b", "1")]);
    let now = crate::clock::now();
    let look = |table: &Table<bool>, version| table.look("a", version, now);
    assert_eq!(look(&table, None), Ok(Look::Load(1)), "the newest is loaded");
    load(&mut table, 0, 1);
    assert_eq!(look(&table, None), Ok(Look::Serve(0)), "one that serves is better");
    load(&mut table, 1, 1);
    assert_eq!(look(&table, None), Ok(Look::Serve(1)), "numbers go by their value");
    assert_eq!(look(&table, Some("9")), Ok(Look::Serve(0)));
    table.get_mut(1).unwrap().phase = Phase::Unloading(Cause::Request);
    assert_eq!(
        look(&table, None),
        Ok(Look::Serve(0)),
        "one that leaves is not given out"
    );
    assert_eq!(
        look(&table, Some("11")),
        Err(Absent::Unknown(
            r#"model "a" has no version "11"; the versions: ["10", "9", "beta"]"#.to_owned()
        ))
    );
    assert_eq!(
        table.look("c", None, now),
        Err(Absent::Unknown(r#"no model "c"; the models: ["a", "b"]"#.to_owned()))
    );
}

#[test]
fn versions_that_requests_get_are_listed_the_newest_last() {
    let mut table = table(&[("a", "9"), ("a", "10"), ("a", "beta"), ("b", "1")]);
    assert_eq!(table.available("a"), ["beta", "9", "10"], "a request would load them");
    load(&mut table, 0, 1);
    let mut of = |phase: Phase| {
        table.get_mut(1).unwrap().phase = phase;
        table.available("a")
    };
    for there in [Phase::Loading, Phase::Unloading(Cause::Memory)] {
        assert_eq!(of(there.clone()), ["beta", "9", "10"], "{there:?}");
    }
    let failed = Phase::Failed {
        reason: Reason::Failure,
        message: String::new(),
        at: crate::clock::now(),
    };
    for absent in [Phase::Unloaded, Phase::Unloading(Cause::Request), failed] {
        assert_eq!(of(absent.clone()), ["beta", "9"], "{absent:?}");
    }
    assert_eq!(table.available("c"), [""; 0]);
}

#[test]
fn what_was_unloaded_as_asked_stays_so_and_what_made_room_comes_back() {
    let mut table = table(&[("a", "1")]);
    let now = crate::clock::now();
    load(&mut table, 0, 1);
    let mut phase = |phase| {
        let entry = table.get_mut(0).unwrap();
        (entry.phase, entry.loaded) = (phase, None);
        table.look("a", None, now)
    };
    assert_eq!(phase(Phase::Unloading(Cause::Memory)), Ok(Look::Wait));
    assert_eq!(phase(Phase::Dormant), Ok(Look::Load(0)));
    assert_eq!(phase(Phase::Loading), Ok(Look::Wait));
    let unloaded = Err(Absent::Unloaded(r#"model "a" is not loaded"#.to_owned()));
    assert_eq!(phase(Phase::Unloading(Cause::Request)), unloaded);
    assert_eq!(phase(Phase::Unloaded), unloaded);
    let failed = |at| Phase::Failed {
        reason: Reason::ModelNotFound,
        message: "no model at /secret".to_owned(),
        at,
    };
    let told = Err(Absent::Failed(
        r#"model "a" could not be loaded: ModelNotFound"#.to_owned(),
    ));
    assert_eq!(phase(failed(now)), told);
    assert_eq!(phase(failed(now.checked_sub(RETRY_AFTER).unwrap())), Ok(Look::Load(0)));
}

proptest! {
    #[test]
    fn those_who_go_are_idle_if_possible_then_the_least_recently_used_and_no_more_than_needed(
        models in proptest::collection::vec((1u64..100, 0u64..1000, any::<bool>(), any::<bool>()), 1..12),
        more in 0u64..300,
        limit in 0u64..600,
        stays in 0usize..12,
    ) {
        let names: Vec<String> = (0..models.len()).map(|index| format!("m{index}")).collect();
        let pairs: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let mut table = table(&pairs);
        for (index, (bytes, used, is_loaded, is_busy)) in models.iter().enumerate() {
            if *is_loaded {
                load(&mut table, index, *bytes);
                table.get_mut(index).unwrap().loaded = Some(*is_busy);
                table.used(index, *used);
            }
        }
        let held = table.loaded_bytes();
        let used = |index: &usize| (models[*index].3, models[*index].1, *index);
        let is_candidate = |index: &usize| models[*index].2 && *index != stays;
        match table.victims(more, limit, stays, |is_busy| *is_busy) {
            Ok(victims) => {
                let freed = |victims: &[usize]| victims.iter().map(|index| models[*index].0).sum::<u64>();
                prop_assert!(held - freed(&victims) + more <= limit);
                if let Some((_, others)) = victims.split_last() {
                    prop_assert!(held - freed(others) + more > limit, "one too many");
                }
                let last = victims.iter().map(used).max();
                for index in (0..models.len()).filter(is_candidate).filter(|index| !victims.contains(index)) {
                    prop_assert!(last.is_none_or(|last| used(&index) > last));
                }
                prop_assert!(victims.iter().all(is_candidate));
            }
            Err(free) => {
                let rest = if models.get(stays).is_some_and(|model| model.2) { models[stays].0 } else { 0 };
                prop_assert!(rest + more > limit);
                prop_assert_eq!(free, limit.saturating_sub(rest));
            }
        }
    }
}
